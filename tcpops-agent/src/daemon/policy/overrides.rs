//! Overrides: what is set for one connection. Each is written to its map, applied under the lock of its socket, and answered
//! with what the socket then has. A descriptor that the caller has shown leads there at once; all others share one walk over
//! each namespace concerned.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::policy::{Outcome, Policy, TcpOption};
use tokio::sync::oneshot;
use tracing::Level;

use crate::api::problem::{Code, Problem};
use crate::daemon::counters::AgentCounter;
use crate::daemon::refusal;
use crate::daemon::shared::{Shared, reply};
use crate::daemon::telling::audit;
use crate::kernel::Result;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::descriptor::Descriptor;
use crate::model::history::cause::Author;
use crate::model::history::record::{Application, Happened, Identity, Refusal, What};
use crate::model::requests::policies::Change;

/// The most walks over a namespace for one override: before Linux 6.17 a walk can miss a socket under churn.
const ATTEMPTS: u32 = 4;

/// A change of one connection that somebody asked for.
#[derive(Debug)]
pub(crate) struct OverrideRequest {
    pub(crate) key: ConnKey,
    pub(crate) change: Change,
    pub(crate) by_uid: u32,
    /// The caller's own descriptor, where it has named the connection by that.
    pub(crate) descriptor: Option<Descriptor>,
    /// Gets the connection's entry once the change is in force.
    pub(crate) answer: oneshot::Sender<Result<Connection, Problem>>,
}

/// An override that is in the map and waits to be applied.
struct Pending {
    request: OverrideRequest,
    netns_cookie: u64,
    serial: u32,
    /// The connection's override before this one.
    before: Option<Policy>,
}

/// The results of walks, by netns cookie.
type Walks = HashMap<u64, Result<()>>;

/// Puts overrides in force and answers each request. Blocks. Returns the connections whose policy changed.
pub(crate) fn run(shared: &Arc<Shared>, requests: Vec<OverrideRequest>) -> Vec<ConnKey> {
    let mut waiting = Vec::with_capacity(requests.len());
    for request in requests {
        match write(shared, &request) {
            Ok((netns_cookie, serial, before)) => {
                waiting.push(Pending { request, netns_cookie, serial, before });
            }
            Err(problem) => finish(shared, request, Err(problem)),
        }
    }
    let mut changed = Vec::new();
    let (reached, mut waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|item| reaches(shared, item));
    waiting.extend(settle(shared, &Walks::new(), reached, &mut changed));
    for _ in 0..ATTEMPTS {
        if waiting.is_empty() {
            return changed;
        }
        let walks = walk(shared, &waiting);
        waiting = settle(shared, &walks, waiting, &mut changed);
    }
    for item in waiting {
        take_back(shared, &item);
        let conid = item.request.key.conid;
        let detail = format!("{ATTEMPTS} walks over the sockets did not come by connection {conid}");
        finish(shared, item.request, Err(Problem::new(Code::Internal, detail)));
    }
    changed
}

/// True if the override could be applied by the caller's descriptor. A namespace that cannot be entered is left to the walk,
/// which says so.
fn reaches(shared: &Shared, item: &Pending) -> bool {
    let Some(descriptor) = &item.request.descriptor else { return false };
    let reached =
        shared.namespaces.find(item.netns_cookie).is_ok() && descriptor.apply_override(shared.settings.secret());
    if reached {
        shared.counters.add(AgentCounter::ChangedByDescriptor);
    }
    reached
}

/// Answers those that were applied or refused. Returns the others.
fn settle(shared: &Shared, walks: &Walks, waiting: Vec<Pending>, changed: &mut Vec<ConnKey>) -> Vec<Pending> {
    let mut missed = Vec::new();
    for item in waiting {
        let Some(result) = outcome(shared, walks, &item) else {
            missed.push(item);
            continue;
        };
        publish(shared, &item.request, &result);
        match &result {
            Ok(_) => changed.push(item.request.key),
            Err(_) => take_back(shared, &item),
        }
        finish(shared, item.request, result);
    }
    missed
}

/// Writes an override to the map, where it outlives this agent; whatever comes by its socket next applies it. Returns the
/// namespace, the override's serial, and the override that was there before.
fn write(shared: &Shared, request: &OverrideRequest) -> Result<(u64, u32, Option<Policy>), Problem> {
    let OverrideRequest { key, change, by_uid, .. } = *request;
    let connection = shared.connections.get(key)?.ok_or_else(|| refusal::no_such_connection(key.conid))?;
    if change.is_lifetime() && connection.direction == Direction::Listen {
        let detail = format!("connection {} is a listener: expected a connection, which can be closed", key.conid);
        return Err(Problem::new(Code::NotClosable, detail));
    }
    let before = shared.overrides.get(key)?;
    let serial = shared.next_override_serial();
    let policy = change.apply(before, &connection, serial, by_uid);
    if policy.options.any() || request.descriptor.is_some() {
        shared.attached.setsockopt.need()?;
    }
    shared.overrides.put(key, &policy).map_err(|error| refusal::full(&error))?;
    Ok((connection.netns_cookie, serial, before))
}

/// Walks over every namespace concerned.
fn walk(shared: &Shared, waiting: &[Pending]) -> Walks {
    let cookies: BTreeSet<u64> = waiting.iter().map(|item| item.request.key.cookie).collect();
    // Where that cannot be said, the walk looks every socket up.
    let _only = shared.settings.only(&Vec::from_iter(cookies));
    let namespaces: BTreeSet<u64> = waiting.iter().map(|item| item.netns_cookie).collect();
    namespaces
        .into_iter()
        .map(|cookie| (cookie, shared.namespaces.find(cookie).and_then(|namespace| shared.walker.walk(&namespace))))
        .collect()
}

/// Reads back the result of one override; `None` if it was not applied.
fn outcome(shared: &Shared, walks: &Walks, item: &Pending) -> Option<Result<Connection, Problem>> {
    let key = item.request.key;
    let connection = match shared.connections.get(key) {
        Ok(Some(connection)) => connection,
        Ok(None) => return Some(Err(refusal::no_such_connection(key.conid))),
        Err(error) => return Some(Err(error.into())),
    };
    match walks.get(&item.netns_cookie) {
        Some(Err(error)) => return Some(Err(refusal::of(error))),
        // A later override of the connection contains this one.
        _ if is_before(connection.policy.serial, item.serial) => return None,
        _ => {}
    }
    if connection.outcome == Outcome::Refused && !item.request.change.is_lifetime() {
        return Some(Err(refusal::refused(&connection)));
    }
    Some(Ok(connection))
}

/// True if the override with serial `a` came before the one with `b`; the serials may have wrapped in between.
fn is_before(a: u32, b: u32) -> bool {
    a != b && (a == 0 || b.wrapping_sub(a) < u32::MAX / 2)
}

/// Restores the map to what it was before the override, unless another one came after. A connection that has ended keeps
/// none.
fn take_back(shared: &Shared, item: &Pending) {
    let key = item.request.key;
    let restore = || -> Result<()> {
        match (shared.overrides.get(key)?, &item.before) {
            (Some(present), _) if present.serial != item.serial => Ok(()),
            (_, Some(before)) => {
                shared.overrides.put(key, before)?;
                if shared.connections.contains(key)? { Ok(()) } else { shared.overrides.remove(key) }
            }
            (_, None) => shared.overrides.remove(key),
        }
    };
    if let Err(error) = restore() {
        tracing::error!(conid = key.conid, %error, "cannot take back an override");
    }
}

/// Publishes what came of it; the end of a connection that is over says more.
fn publish(shared: &Shared, request: &OverrideRequest, result: &Result<Connection, Problem>) {
    let OverrideRequest { key, by_uid, .. } = *request;
    let author = Some(Author::Override(by_uid));
    let (connection, happened) = match result {
        Ok(connection) => (*connection, Happened::Applied(Application::of(connection, author))),
        Err(problem) => {
            // A failure to read the entry reaches whoever asked.
            let Ok(Some(connection)) = shared.connections.get(key) else { return };
            let happened = match problem.code {
                Code::Refused => Happened::of_application(&connection, author),
                _ => Happened::Refused(Refusal { author, option: TcpOption::None, errno: 0 }),
            };
            (connection, happened)
        }
    };
    shared.event_log.publish(now_boot_ns(), What::Of(Identity::of(key, &connection), happened));
}

/// Writes the audit line and answers.
fn finish(shared: &Shared, request: OverrideRequest, result: Result<Connection, Problem>) {
    let before = if result.is_err() { shared.connections.get(request.key).ok().flatten() } else { None };
    let (connection, word, detail) = match &result {
        Ok(connection) => (Some(connection), "applied", None),
        Err(problem) => (before.as_ref(), "refused", Some(problem.detail.clone())),
    };
    let line = audit::Line {
        what: "policy",
        uid: Some(request.by_uid),
        rule: None,
        key: request.key,
        connection,
        why: request.change.to_string(),
        result: word,
        detail,
        late_ms: None,
    };
    line.write(Level::INFO);
    reply(request.answer, result);
}

#[cfg(test)]
mod tests {
    use super::is_before;

    #[test]
    fn serials_wrap() {
        assert!(is_before(0, 1) && is_before(1, 2) && is_before(u32::MAX, 1) && is_before(0, u32::MAX));
        assert!(!is_before(2, 1) && !is_before(1, 1) && !is_before(1, u32::MAX));
    }
}
