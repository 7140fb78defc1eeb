//! Resets under the lock of the socket, of connections whose descriptors may be connected again.

use std::collections::HashMap;

use crate::daemon::counters::AgentCounter;
use crate::daemon::expiry::close::attempt::{CloseAttempt, CloseOutcome};
use crate::daemon::expiry::close::check::Checked;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::destroy::DestroyResult;
use crate::kernel::{KernelError, Result};

/// The most walks over a namespace for a connection that is there: before Linux 6.17 a walk can miss a socket while
/// others come and go.
const ATTEMPTS: u32 = 4;

/// Resets connections of one namespace, each if it still carries its conid under the lock of its socket. Returns those for
/// which that could not be done.
pub(super) fn reset_under_lock(
    shared: &Shared,
    netns_cookie: u64,
    mut checked: Vec<Checked>,
    attempts: &mut Vec<CloseAttempt>,
) -> Vec<Checked> {
    for _ in 0..ATTEMPTS {
        if checked.is_empty() {
            break;
        }
        let results = walk(shared, netns_cookie, &checked).unwrap_or_else(|error| {
            let error = refusal::chain(&error);
            tracing::warn!(netns_cookie, error, "cannot walk over the sockets; closing connections one by one");
            None
        });
        let Some(results) = results else { break };
        let mut missed = Vec::new();
        for one in checked {
            let outcome = match results.get(&one.request.order.key.conid) {
                None | Some(DestroyResult::Not) => {
                    missed.push(one);
                    continue;
                }
                Some(DestroyResult::Destroyed) => {
                    shared.counters.add(AgentCounter::CloseUnderLock);
                    CloseOutcome::Reset(one.no_fin)
                }
                Some(DestroyResult::Over) => CloseOutcome::Absent,
                Some(DestroyResult::Refused(errno)) => {
                    CloseOutcome::Failed(KernelError::refused("bpf_sock_destroy", *errno))
                }
            };
            attempts.push(one.done(outcome));
        }
        // Most of those that were not met have ended meanwhile.
        let is_there = |one: &Checked| shared.connections.contains(one.request.order.key).unwrap_or(true);
        let (there, gone): (Vec<_>, Vec<_>) = missed.into_iter().partition(is_there);
        attempts.extend(gone.into_iter().map(|one| one.done(CloseOutcome::Absent)));
        checked = there;
    }
    checked
}

/// Nothing where the namespace is not to be walked.
fn walk(shared: &Shared, netns_cookie: u64, checked: &[Checked]) -> Result<Option<HashMap<u64, DestroyResult>>> {
    let pace = || shared.pace.lock();
    let wait = pace().wait(netns_cookie, now_boot_ns(), checked.len());
    let (Some(wait), Some(destroyer)) = (wait, shared.walker.destroyer()) else { return Ok(None) };
    let namespace = shared.namespaces.find(netns_cookie)?;
    std::thread::sleep(wait);
    let keys: Vec<_> = checked.iter().map(|checked| checked.request.order.key).collect();
    let (met, took) = destroyer.destroy(&namespace, &keys)?;
    pace().walked(netns_cookie, now_boot_ns(), took, keys.len());
    tracing::debug!(netns_cookie, connections = keys.len(), ?wait, ?took, "walked to close");
    Ok(Some(met))
}
