//! Closing connections, off the loop: by a FIN on the program's behalf, or by a reset.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::state::TcpState;
use tokio::sync::oneshot;

use crate::daemon::counters::AgentCounter;
use crate::daemon::diags::{Diags, socket_name};
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::destroy::{DestroyResult, MAX_TARGETS};
use crate::kernel::diag::{Destroyed, SocketInfo};
use crate::kernel::owner::{Place, places};
use crate::kernel::{KernelError, Result};
use crate::model::expiry::closing::CloseStep;
use crate::model::expiry::effects::CloseOrder;

/// The most connections that are closed in one go.
pub(crate) const BATCH: usize = MAX_TARGETS as usize;

/// The most walks over a namespace for a connection that is there: before Linux 6.17 a walk can miss a socket while
/// others come and go.
const ATTEMPTS: u32 = 4;

/// A close that is wanted, and who waits for what comes of it.
#[derive(Debug)]
pub(crate) struct CloseRequest {
    pub(crate) order: CloseOrder,
    /// Gets what came of this request, whatever else is asked of the connection at the same time; `None` where a limit
    /// asks.
    pub(crate) answer: Option<oneshot::Sender<CloseOutcome>>,
}

/// The result of trying to close a connection.
#[derive(Debug)]
pub(crate) enum CloseOutcome {
    /// It was reset; where a FIN was wanted, with the reason why that could not be.
    Reset(Option<&'static str>),
    /// It was sent a FIN, and is to be reset at this time.
    Fin {
        /// `CLOCK_BOOTTIME`.
        reset_at_boot_ns: u64,
    },
    /// It was over already.
    Absent,
    /// It cannot be closed, for this reason.
    NotClosable(&'static str),
    /// The kernel refused.
    Failed(KernelError),
}

/// A close that was tried.
#[derive(Debug)]
pub(crate) struct CloseAttempt {
    pub(crate) request: CloseRequest,
    pub(crate) outcome: CloseOutcome,
    /// The entry as it was just before, where there was one.
    pub(crate) connection: Option<Connection>,
    /// The time since it was due, if a limit asked for it.
    pub(crate) late: Option<Duration>,
}

impl CloseAttempt {
    fn new(request: CloseRequest, outcome: CloseOutcome, connection: Option<Connection>) -> Self {
        let late = request.order.due_boot_ns.map(|due| Duration::from_nanos(now_boot_ns().saturating_sub(due)));
        Self { request, outcome, connection, late }
    }
}

/// Takes the step that each asks for. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, requests: Vec<CloseRequest>) -> Vec<CloseAttempt> {
    let mut closer = Closer { shared, diags: Diags::new(shared), attempts: Vec::with_capacity(requests.len()) };
    let (mut resets, mut fins) = (BTreeMap::<u64, Vec<Checked>>::new(), Vec::new());
    for request in requests {
        match closer.check(request.order.key) {
            Ok(Check::Closable(connection, info)) => {
                let may_return = connection.port_bound != 0 && shared.walker.destroyer().is_some();
                let checked = Checked { request, connection, info };
                match checked.request.order.step {
                    CloseStep::Fin { .. } => fins.push(checked),
                    _ if may_return => resets.entry(checked.connection.netns_cookie).or_default().push(checked),
                    _ => closer.reset_one(checked),
                }
            }
            Ok(Check::Not(outcome, connection)) => closer.done(request, outcome, connection),
            Err(error) => closer.done(request, CloseOutcome::Failed(error), None),
        }
    }
    closer.fins(fins);
    for (netns_cookie, checked) in resets {
        closer.reset_under_lock(netns_cookie, checked);
    }
    closer.attempts
}

/// A connection that can be closed, and is to be.
struct Checked {
    request: CloseRequest,
    connection: Box<Connection>,
    info: SocketInfo,
}

/// The answer to the question whether a connection can be closed.
enum Check {
    Closable(Box<Connection>, SocketInfo),
    Not(CloseOutcome, Option<Box<Connection>>),
}

struct Closer<'a> {
    shared: &'a Shared,
    diags: Diags<'a>,
    attempts: Vec<CloseAttempt>,
}

impl Closer<'_> {
    fn done(&mut self, request: CloseRequest, outcome: CloseOutcome, connection: Option<Box<Connection>>) {
        self.attempts.push(CloseAttempt::new(request, outcome, connection.map(|connection| *connection)));
    }

    fn check(&mut self, key: ConnKey) -> Result<Check> {
        let Some(connection) = self.shared.connections.get(key)?.map(Box::new) else {
            return Ok(Check::Not(CloseOutcome::Absent, None));
        };
        let not = |why, connection| Ok(Check::Not(CloseOutcome::NotClosable(why), Some(connection)));
        if connection.state == TcpState::Listen {
            return not("it is a listener", connection);
        }
        // A request without a cookie would hit whatever has the endpoints.
        if key.cookie == 0 {
            return not("its socket has no cookie", connection);
        }
        let info = match self.diags.info(key, &connection)? {
            None => return Ok(Check::Not(CloseOutcome::Absent, Some(connection))),
            Some(info) if matches!(info.state, TcpState::TimeWait | TcpState::Close | TcpState::Listen) => {
                return Ok(Check::Not(CloseOutcome::Absent, Some(connection)));
            }
            Some(info) => info,
        };
        if info.mptcp {
            return not("it is a subflow of an MPTCP connection, which would live on", connection);
        }
        if info.orphan && !self.shared.facts.can_destroy_orphans {
            let why = "its program has closed it already; the kernel ends it, and before Linux 6.11 would not free it";
            return not(why, connection);
        }
        Ok(Check::Closable(connection, info))
    }

    /// Resets connections of a program's own making, whose descriptors can connect again: each under the lock of its
    /// socket, if it still carries its conid there. Where that cannot be, one by one.
    fn reset_under_lock(&mut self, netns_cookie: u64, mut checked: Vec<Checked>) {
        for _ in 0..ATTEMPTS {
            if checked.is_empty() {
                return;
            }
            let results = self.walk(netns_cookie, &checked).unwrap_or_else(|error| {
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
                        self.shared.counters.add(AgentCounter::CloseUnderLock);
                        CloseOutcome::Reset(None)
                    }
                    Some(DestroyResult::Over) => CloseOutcome::Absent,
                    Some(DestroyResult::Refused(errno)) => {
                        CloseOutcome::Failed(KernelError::refused("bpf_sock_destroy", *errno))
                    }
                };
                self.done(one.request, outcome, Some(one.connection));
            }
            // Most of those that were not met have ended meanwhile.
            let is_there = |one: &Checked| self.shared.connections.contains(one.request.order.key).unwrap_or(true);
            let (there, gone): (Vec<_>, Vec<_>) = missed.into_iter().partition(is_there);
            for one in gone {
                self.done(one.request, CloseOutcome::Absent, Some(one.connection));
            }
            checked = there;
        }
        for one in checked {
            self.reset_one(one);
        }
    }

    /// Nothing where the namespace is not to be walked.
    fn walk(&self, netns_cookie: u64, checked: &[Checked]) -> Result<Option<HashMap<u64, DestroyResult>>> {
        let pace = || self.shared.pace.lock();
        let wait = pace().wait(netns_cookie, now_boot_ns(), checked.len());
        let (Some(wait), Some(destroyer)) = (wait, self.shared.walker.destroyer()) else { return Ok(None) };
        let namespace = self.shared.namespaces.find(netns_cookie)?;
        std::thread::sleep(wait);
        let conids: Vec<u64> = checked.iter().map(|checked| checked.request.order.key.conid).collect();
        let (met, took) = destroyer.destroy(&namespace, &conids)?;
        pace().walked(netns_cookie, now_boot_ns(), took, conids.len());
        tracing::debug!(netns_cookie, connections = conids.len(), ?wait, ?took, "walked to close");
        Ok(Some(met))
    }

    fn reset_one(&mut self, Checked { request, connection, .. }: Checked) {
        let outcome = self.reset(request.order.key, &connection, None).unwrap_or_else(CloseOutcome::Failed);
        self.done(request, outcome, Some(connection));
    }

    /// Resets it by a request. Right before, the entry is looked for once more: a descriptor that connected again meanwhile
    /// has the same cookie, perhaps the same endpoints, and another conid; the entry with this one is then gone.
    fn reset(&mut self, key: ConnKey, connection: &Connection, no_fin: Option<&'static str>) -> Result<CloseOutcome> {
        let Self { shared, diags, .. } = self;
        let mut looked_boot_ns = 0;
        let last_look = || {
            looked_boot_ns = now_boot_ns();
            shared.connections.contains(key)
        };
        let destroyed = diags.of(connection.netns_cookie)?.destroy(&socket_name(key, connection), last_look)?;
        Ok(match destroyed {
            Destroyed::Done => {
                shared.counters.window(Duration::from_nanos(now_boot_ns().saturating_sub(looked_boot_ns)));
                CloseOutcome::Reset(no_fin)
            }
            Destroyed::Absent => CloseOutcome::Absent,
        })
    }

    fn fins(&mut self, checked: Vec<Checked>) {
        if checked.is_empty() {
            return;
        }
        let inodes: HashSet<u64> =
            checked.iter().map(|checked| checked.info.inode.into()).filter(|inode| *inode != 0).collect();
        let places = places(&inodes);
        for Checked { request, connection, info } in checked {
            let found = places.get(&info.inode.into()).map_or(&[][..], Vec::as_slice);
            let outcome = self.fin(&request.order, &connection, info.state, found).unwrap_or_else(CloseOutcome::Failed);
            self.done(request, outcome, Some(connection));
        }
    }

    /// Sends a FIN through a copy of the program's descriptor; where none can be had, resets.
    ///
    /// Only this direction is shut: what the peer still sends reaches the program, and the program reads the end of the
    /// stream when the peer closes in turn, as in any close. Were the other direction shut too, the kernel would answer
    /// the peer's next byte with a reset (RFC 9293, 3.6.1; `tcp_rcv_state_process` of net/ipv4/tcp_input.c), and what a
    /// FIN is to spare them would happen.
    fn fin(
        &mut self,
        order: &CloseOrder,
        connection: &Connection,
        state: TcpState,
        places: &[Place],
    ) -> Result<CloseOutcome> {
        let key = order.key;
        let CloseStep::Fin { grace_ns } = order.step else { return self.reset(key, connection, None) };
        match state {
            TcpState::Established | TcpState::CloseWait => {}
            // It was sent already; the grace is what the caller asked for.
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => {
                return Ok(CloseOutcome::Fin { reset_at_boot_ns: now_boot_ns().saturating_add(grace_ns) });
            }
            _ => return self.reset(key, connection, Some("its handshake is not over")),
        }
        let fetched = places.iter().filter_map(|place| place.fetch().ok());
        let Some(descriptor) = fetched.into_iter().find(|descriptor| descriptor.cookie() == Some(key.cookie)) else {
            self.shared.counters.add(AgentCounter::FinImpossible);
            let why = if places.is_empty() {
                "no process that can be seen has it open"
            } else {
                "its descriptor could not be fetched"
            };
            return self.reset(key, connection, Some(why));
        };
        // The last look is right before the act, as for a reset.
        if self.shared.connections.tag(&descriptor)? != Some(key.conid) || !descriptor.end_writing()? {
            return Ok(CloseOutcome::Absent);
        }
        Ok(CloseOutcome::Fin { reset_at_boot_ns: now_boot_ns().saturating_add(grace_ns) })
    }
}
