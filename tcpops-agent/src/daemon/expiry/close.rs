//! Closing connections, off the loop: by a FIN on the program's behalf, or by a reset.
//!
//! Only a descriptor whose program has bound a port can come back to the endpoints that it had, under the same cookie. Its
//! connection is reset under the lock of its socket, by a walk, which takes milliseconds and is paced; all others are reset by
//! requests, and do not wait for that.

mod attempt;
mod check;

mod fin;
mod reset;
mod under_lock;

pub(crate) use attempt::{CloseAttempt, CloseOutcome, CloseRequest};
pub(crate) use check::Checked;

use std::sync::Arc;

use self::check::{by_netns, check};
use self::fin::send_fins;
use self::reset::{TOGETHER, reset, reset_seen};
use self::under_lock::reset_under_lock;
use crate::daemon::diags::Diags;
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
    let can_walk = shared.walker.destroyer().is_some();
    let is_for_walk = |one: &Checked| can_walk && one.connection.is_port_bound();
    let (fins, resets): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|request| matches!(request.order.step, CloseStep::Fin { .. }));
    if !fins.is_empty() {
        let checked = check(shared, &mut diags, fins, &mut attempts);
        let (to_walk, checked) = send_fins(shared, checked, &mut attempts).into_iter().partition(is_for_walk);
        rest.extend::<Vec<_>>(to_walk);
        reset(shared, &mut diags, checked, &mut attempts);
    }
    let mut resets = resets.into_iter().peekable();
    while resets.peek().is_some() {
        let looked_boot_ns = now_boot_ns();
        let checked = check(shared, &mut diags, resets.by_ref().take(TOGETHER), &mut attempts);
        let (to_walk, checked): (Vec<_>, Vec<_>) = checked.into_iter().partition(is_for_walk);
        // Those about which the kernel was asked are looked at once more: that took its time.
        let (asked, seen): (Vec<_>, Vec<_>) = checked.into_iter().partition(|one| one.info.is_some());
        reset_seen(shared, &mut diags, seen, looked_boot_ns, &mut attempts);
        reset(shared, &mut diags, asked, &mut attempts);
        rest.extend(to_walk);
    }
    Closed { attempts, rest }
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
