//! Closing connections, off the loop: by a FIN on the program's behalf, or by a reset.
//!
//! A descriptor that is disconnected and connected again, which hardly a program does, keeps its cookie, and where a port is
//! bound its endpoints. Connections of programs that have done so once, and those with a bound port, are reset under the lock of
//! their sockets, by a walk, which takes milliseconds and is paced; all others are reset by requests, and do not wait for
//! that.

mod attempt;
mod check;

mod fin;
mod reset;
mod under_lock;

pub(crate) use attempt::{CloseAttempt, CloseOutcome, CloseRequest};
pub(crate) use check::Checked;

use std::collections::HashMap;
use std::sync::Arc;

use self::check::{by_netns, check};
use self::fin::send_fins;
use self::reset::{TOGETHER, reset, reset_seen};
use self::under_lock::reset_under_lock;
use crate::daemon::diags::Diags;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::destroy::MAX_TARGETS;
use crate::model::expiry::closing::CloseStep;

/// The most connections that are closed in one go: while these are, what came of the last ones is told.
pub(crate) const BATCH: usize = 1024;

/// The most connections that are reset by one walk.
pub(crate) const BATCH_UNDER_LOCK: usize = MAX_TARGETS as usize;

/// What came of some closes.
pub(crate) struct Closed {
    pub(crate) attempts: Vec<CloseAttempt>,
    /// The connections that are to be reset under their locks, by [`run_under_lock`].
    pub(crate) rest: Vec<Checked>,
}

/// Takes the step that each asks for. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, requests: Vec<CloseRequest>) -> Closed {
    let mut diags = Diags::new(shared);
    let (mut attempts, mut rest) = (Vec::with_capacity(requests.len()), Vec::new());
    let (fins, resets): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|request| matches!(request.order.step, CloseStep::Fin { .. }));
    if !fins.is_empty() {
        let checked = check(shared, &mut diags, fins, &mut attempts);
        let (to_walk, checked) = for_walk(shared, send_fins(shared, checked, &mut attempts));
        rest.extend(to_walk);
        reset(shared, &mut diags, checked, &mut attempts);
    }
    let mut resets = resets.into_iter().peekable();
    while resets.peek().is_some() {
        let looked_boot_ns = now_boot_ns();
        let checked = check(shared, &mut diags, resets.by_ref().take(TOGETHER), &mut attempts);
        let (to_walk, checked) = for_walk(shared, checked);
        // Those about which the kernel was asked are looked at once more: that took its time.
        let (asked, seen): (Vec<_>, Vec<_>) = checked.into_iter().partition(|one| one.info.is_some());
        reset_seen(shared, &mut diags, seen, looked_boot_ns, &mut attempts);
        reset(shared, &mut diags, asked, &mut attempts);
        rest.extend(to_walk);
    }
    Closed { attempts, rest }
}

/// Those that are to be reset under their locks, and the others. Whether programs connect descriptors again is looked at after
/// the entries were read, once for each cgroup: what has not been connected again by then has not become another connection.
fn for_walk(shared: &Shared, checked: Vec<Checked>) -> (Vec<Checked>, Vec<Checked>) {
    if shared.walker.destroyer().is_none() {
        return (Vec::new(), checked);
    }
    let mut reconnects = HashMap::new();
    let mut may_reconnect =
        |cgroup_id| *reconnects.entry(cgroup_id).or_insert_with(|| may_reconnect(shared, cgroup_id));
    checked.into_iter().partition(|one| one.connection.is_port_bound() || may_reconnect(one.connection.cgroup_id))
}

/// True where the connection's program, or one that cannot be told from it, has connected a descriptor again.
fn may_reconnect(shared: &Shared, cgroup_id: u64) -> bool {
    shared.walker.reconnects().has(cgroup_id).unwrap_or_else(|error| {
        tracing::warn!(error = refusal::chain(&error), "closing with a walk");
        true
    })
}

/// Resets connections under the locks of their sockets. Blocks.
pub(crate) fn run_under_lock(shared: &Arc<Shared>, checked: Vec<Checked>) -> Vec<CloseAttempt> {
    let mut attempts = Vec::with_capacity(checked.len());
    for (netns_cookie, checked) in by_netns(checked) {
        let rest = reset_under_lock(shared, netns_cookie, checked, &mut attempts);
        reset(shared, &mut Diags::new(shared), rest, &mut attempts);
    }
    attempts
}
