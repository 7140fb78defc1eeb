//! Pushing policies onto open connections: put down what is wanted, walk, read what came of it.
//!
//! All pushes that wait share one walk over each namespace concerned; those that come meanwhile share the next.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::policy::{Outcome, Policy, TcpOption};
use tokio::sync::oneshot;

use crate::api::problem::{Code, Problem};
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::daemon::telling::audit;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::{KernelError, Result};
use crate::model::history::cause::Author;
use crate::model::history::record::{Application, Happened, Identity, Refusal, What};
use crate::model::requests::policies::Change;

/// How often a socket is walked for that a walk did not come by: below Linux 6.17 one can miss a socket under churn.
const ATTEMPTS: u32 = 4;

/// A change that somebody asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Push {
    pub(crate) key: ConnKey,
    pub(crate) change: Change,
    pub(crate) by_uid: u32,
}

/// The entry of the connection once the change is in force.
pub(crate) type Answer = oneshot::Sender<Result<Connection, Problem>>;

/// A change that was put down and waits for a walk.
pub(crate) struct Pending {
    push: Push,
    netns_cookie: u64,
    serial: u32,
    /// What was put down for the connection before.
    before: Option<Policy>,
    attempts: u32,
    answer: Answer,
}

/// What became of the walks over some namespaces.
pub(crate) type Walked = HashMap<u64, Result<()>>;

/// The pushes that wait, and the numbers that they get.
#[derive(Default)]
pub(crate) struct Pushes {
    last_serial: u32,
    pending: Vec<Pending>,
}

impl Pushes {
    pub(crate) fn new(last_serial: u32) -> Self {
        Self { last_serial, pending: Vec::new() }
    }

    /// Puts the change down in the map, where it also waits for the next agent if this one dies. Refuses at once what
    /// cannot be.
    pub(crate) fn begin(&mut self, shared: &Shared, push: Push, answer: Answer) {
        match self.put_down(shared, &push) {
            Ok((netns_cookie, before)) => {
                self.pending.push(Pending { push, netns_cookie, serial: self.last_serial, before, attempts: 0, answer })
            }
            Err(problem) => {
                let result = Err(problem);
                audit::pushed(shared, &push, &result);
                reply(answer, result);
            }
        }
    }

    fn put_down(&mut self, shared: &Shared, push: &Push) -> Result<(u64, Option<Policy>), Problem> {
        let Push { key, change, by_uid } = *push;
        let connection = shared.connections.get(key).map_err(|error| refusal::internal(&error))?;
        let Some(connection) = connection else { return Err(refusal::no_such_connection(key.conid)) };
        if change.is_lifetime() && connection.direction == Direction::Listen {
            let detail = format!("connection {} is a listener: expected a connection, which can be closed", key.conid);
            return Err(Problem::new(Code::NotClosable, detail));
        }
        let before = shared.overrides.get(key).map_err(|error| refusal::internal(&error))?;
        self.last_serial = self.last_serial.wrapping_add(1).max(1);
        let policy = change.apply(before, &connection, self.last_serial, by_uid);
        shared.overrides.put(key, &policy).map_err(|error| refusal::full(&error))?;
        Ok((connection.netns_cookie, before))
    }

    /// What is to be walked for now; `None` if nothing waits.
    pub(crate) fn take(&mut self) -> Option<Vec<Pending>> {
        (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending))
    }

    /// Answers those that the walk came by; the others wait for another. Returns the connections whose policy changed.
    pub(crate) fn finish(&mut self, shared: &Shared, walked: &Walked, pending: Vec<Pending>) -> Vec<ConnKey> {
        let mut changed = Vec::new();
        for mut item in pending {
            let Push { key, .. } = item.push;
            match outcome(shared, walked, &item) {
                Some(result) => {
                    publish(shared, &item.push, &result);
                    match &result {
                        Ok(_) => changed.push(key),
                        Err(_) => take_back(shared, &item),
                    }
                    audit::pushed(shared, &item.push, &result);
                    reply(item.answer, result);
                }
                None if item.attempts + 1 < ATTEMPTS => {
                    item.attempts += 1;
                    self.pending.push(item);
                }
                None => {
                    take_back(shared, &item);
                    let detail = format!("{ATTEMPTS} walks over the sockets did not come by connection {}", key.conid);
                    let result = Err(Problem::new(Code::Internal, detail));
                    audit::pushed(shared, &item.push, &result);
                    reply(item.answer, result);
                }
            }
        }
        changed
    }
}

/// Walks over every namespace that the pending changes concern. Blocks.
pub(crate) fn walk(shared: &Arc<Shared>, pending: &[Pending]) -> Walked {
    let namespaces: BTreeSet<u64> = pending.iter().map(|item| item.netns_cookie).collect();
    namespaces
        .into_iter()
        .map(|cookie| (cookie, shared.namespaces.find(cookie).and_then(|namespace| shared.walker.walk(&namespace))))
        .collect()
}

/// What came of one change; `None` if the walk did not come by the socket.
fn outcome(shared: &Shared, walked: &Walked, item: &Pending) -> Option<Result<Connection, Problem>> {
    let key = item.push.key;
    let connection = match shared.connections.get(key) {
        Ok(Some(connection)) => connection,
        Ok(None) => return Some(Err(refusal::no_such_connection(key.conid))),
        Err(error) => return Some(Err(refusal::internal(&error))),
    };
    match walked.get(&item.netns_cookie) {
        Some(Err(error @ KernelError::Namespace { .. })) => {
            return Some(Err(Problem::new(Code::NamespaceUnreachable, refusal::chain(error))));
        }
        Some(Err(error)) => return Some(Err(refusal::internal(error))),
        // A later push onto the connection contains this one.
        _ if is_before(connection.policy.serial, item.serial) => return None,
        _ => {}
    }
    if connection.outcome == Outcome::Refused && !item.push.change.is_lifetime() {
        return Some(Err(refusal::refused(&connection)));
    }
    Some(Ok(connection))
}

/// Whether the push with serial `a` came before the one with `b`; the numbers may have wrapped in between.
fn is_before(a: u32, b: u32) -> bool {
    a != b && (a == 0 || b.wrapping_sub(a) < u32::MAX / 2)
}

/// Puts the map back to what it was before the change, unless another change came after.
fn take_back(shared: &Shared, item: &Pending) {
    let key = item.push.key;
    let result = shared.overrides.get(key).and_then(|present| match (present, &item.before) {
        (Some(present), _) if present.serial != item.serial => Ok(()),
        (_, Some(before)) => shared.overrides.put(key, before),
        (_, None) => shared.overrides.remove(key),
    });
    if let Err(error) = result {
        tracing::error!(conid = key.conid, %error, "cannot take back a policy");
    }
}

/// Tells what came of it; of a connection that is over, its end says more.
fn publish(shared: &Shared, push: &Push, result: &Result<Connection, Problem>) {
    let Push { key, by_uid, .. } = *push;
    let author = Some(Author::Override(by_uid));
    let (connection, happened) = match result {
        Ok(connection) => (*connection, Happened::Applied(Application::of(connection, author))),
        Err(problem) => {
            // A failure to read it is told to whoever asked.
            let Ok(Some(connection)) = shared.connections.get(key) else { return };
            let happened = match problem.code {
                Code::Refused => Happened::of_policy(&connection, author),
                _ => Happened::Refused(Refusal { author, option: TcpOption::None, errno: 0 }),
            };
            (connection, happened)
        }
    };
    shared.event_log.publish(now_boot_ns(), What::Of(Identity::of(key, &connection), happened));
}

/// A caller that has gone does not wait for its answer.
fn reply(answer: Answer, result: Result<Connection, Problem>) {
    let _gone = answer.send(result);
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
