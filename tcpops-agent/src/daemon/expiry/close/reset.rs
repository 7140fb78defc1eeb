//! Resets by requests of sock_diag.
//!
//! A request that has found a socket waits for its lock, and then does not ask again which connection it is (`tcp_abort` of the
//! kernel's net/ipv4/tcp.c). So a descriptor that is disconnected and connected again in this moment loses its new connection;
//! and so does one that has got its endpoints back between the last look and the request. Both need a program that connects
//! descriptors again: once it has been seen to, its connections are not closed by requests.

use std::time::Duration;

use crate::daemon::diags::{Diags, socket_name};
use crate::daemon::expiry::close::attempt::{CloseAttempt, CloseOutcome};
use crate::daemon::expiry::close::check::{Checked, by_netns};
use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::diag::Destroyed;

/// The most connections that are reset by one message: the last of them waits for the others, some microseconds each,
/// between the last look at its entry and its end.
pub(super) const TOGETHER: usize = 16;

/// Resets connections. Right before, the entry of each is looked for once more: a descriptor that connected again
/// meanwhile has the same cookie, perhaps the same endpoints, and another conid; the entry with this one is then gone.
pub(super) fn reset(shared: &Shared, diags: &mut Diags<'_>, checked: Vec<Checked>, attempts: &mut Vec<CloseAttempt>) {
    let mut rest = checked.into_iter().peekable();
    while rest.peek().is_some() {
        let looked_boot_ns = now_boot_ns();
        let mut there = Vec::with_capacity(TOGETHER);
        for one in rest.by_ref().take(TOGETHER) {
            match shared.connections.contains(one.request.order.key) {
                Ok(true) => there.push(one),
                Ok(false) => attempts.push(one.done(CloseOutcome::Absent)),
                Err(error) => attempts.push(one.done(CloseOutcome::Failed(error))),
            }
        }
        reset_seen(shared, diags, there, looked_boot_ns, attempts);
    }
}

/// Resets connections, some tens at the most, whose entries were read since `looked_boot_ns`.
pub(super) fn reset_seen(
    shared: &Shared,
    diags: &mut Diags<'_>,
    seen: Vec<Checked>,
    looked_boot_ns: u64,
    attempts: &mut Vec<CloseAttempt>,
) {
    for (netns_cookie, seen) in by_netns(seen) {
        let names: Vec<_> = seen.iter().map(|one| socket_name(one.request.order.key, &one.connection)).collect();
        let destroyed = match diags.of(netns_cookie).and_then(|diag| diag.destroy(&names)) {
            Ok(destroyed) => destroyed,
            // Each gets an answer, or an error, of its own.
            Err(_) if seen.len() > 1 => {
                seen.into_iter().for_each(|one| reset(shared, diags, vec![one], attempts));
                continue;
            }
            Err(error) => vec![Err(error)],
        };
        let window = Duration::from_nanos(now_boot_ns().saturating_sub(looked_boot_ns));
        for (one, result) in seen.into_iter().zip(destroyed) {
            if matches!(result, Ok(Destroyed::Done)) {
                shared.counters.window(window);
            }
            let outcome = outcome(result, one.no_fin);
            attempts.push(one.done(outcome));
        }
    }
}

fn outcome(result: Result<Destroyed>, no_fin: Option<&'static str>) -> CloseOutcome {
    match result {
        Ok(Destroyed::Done) => CloseOutcome::Reset(no_fin),
        Ok(Destroyed::Absent) => CloseOutcome::Absent,
        Err(error) => CloseOutcome::Failed(error),
    }
}
