//! What can be closed, and what cannot.

use std::collections::BTreeMap;

use tcpops_common::conn::Connection;
use tcpops_common::state::TcpState;

use crate::daemon::diags::Diags;
use crate::daemon::expiry::close::attempt::{CloseAttempt, CloseOutcome, CloseRequest};
use crate::daemon::shared::Shared;
use crate::daemon::telling::publish::expiring;
use crate::kernel::KernelError;
use crate::kernel::diag::SocketInfo;
use crate::model::expiry::closing::CloseStep;
use crate::model::expiry::effects::CloseReason;

/// A connection that can be closed, and is to be.
pub(crate) struct Checked {
    pub(super) request: CloseRequest,
    /// Why no FIN could be sent, where one was wanted.
    pub(super) no_fin: Option<&'static str>,
    pub(super) connection: Box<Connection>,
    /// What the kernel says of its socket, where that had to be asked: what an entry says is as true, and costs less.
    pub(super) info: Option<SocketInfo>,
}

impl Checked {
    /// What came of it.
    pub(super) fn done(self, outcome: CloseOutcome) -> CloseAttempt {
        CloseAttempt::new(self.request, outcome, Some(self.connection))
    }
}

/// Those of each network namespace.
pub(super) fn by_netns(checked: Vec<Checked>) -> BTreeMap<u64, Vec<Checked>> {
    let mut by_netns = BTreeMap::<u64, Vec<Checked>>::new();
    for one in checked {
        by_netns.entry(one.connection.netns_cookie).or_default().push(one);
    }
    by_netns
}

/// Reads the entries of connections, and asks the kernel about their sockets where entries do not tell enough. Returns those
/// that can be closed; what came of the others goes to `attempts`.
pub(super) fn check(
    shared: &Shared,
    diags: &mut Diags<'_>,
    requests: impl IntoIterator<Item = CloseRequest>,
    attempts: &mut Vec<CloseAttempt>,
) -> Vec<Checked> {
    let (mut closable, mut unsure) = (Vec::new(), Vec::new());
    for request in requests {
        let key = request.order.key;
        let connection = match shared.connections.get(key) {
            Ok(Some(connection)) => Box::new(connection),
            Ok(None) => {
                attempts.push(CloseAttempt::new(request, CloseOutcome::Absent, None));
                continue;
            }
            Err(error) => {
                attempts.push(CloseAttempt::new(request, CloseOutcome::Failed(error), None));
                continue;
            }
        };
        if let (true, CloseReason::Expired(expiry)) = (request.order.is_first, request.order.reason) {
            expiring(&shared.event_log, key, &connection, expiry, request.order.rule);
        }
        if let Some(why) = refusal(key.cookie, &connection) {
            attempts.push(CloseAttempt::new(request, CloseOutcome::NotClosable(why), Some(connection)));
        } else if is_unsure(shared, &request, &connection) {
            unsure.push((request, connection));
        } else {
            closable.push(Checked { request, no_fin: None, connection, info: None });
        }
    }
    let asked: Vec<_> = unsure.iter().map(|(request, connection)| (request.order.key, &**connection)).collect();
    let infos = diags.infos(&asked);
    for ((request, connection), info) in unsure.into_iter().zip(infos) {
        match judge(info, shared.facts.can_destroy_orphans) {
            Ok(info) => closable.push(Checked { request, no_fin: None, connection, info: Some(info) }),
            Err(outcome) => attempts.push(CloseAttempt::new(request, outcome, Some(connection))),
        }
    }
    closable
}

/// Why the entry says that the connection cannot be closed.
fn refusal(cookie: u64, connection: &Connection) -> Option<&'static str> {
    if connection.state == TcpState::Listen {
        return Some("it is a listener");
    }
    // A request without a cookie would hit whatever has the endpoints.
    (cookie == 0).then_some("its socket has no cookie")
}

/// True if the kernel must be asked: for a FIN, which descriptors lead to the socket; whether it is still MPTCP, and whether its
/// program has closed it. After a FIN it may be in TIME_WAIT at any time, with the same cookie.
fn is_unsure(shared: &Shared, request: &CloseRequest, connection: &Connection) -> bool {
    let is_whole =
        matches!(connection.state, TcpState::SynSent | TcpState::SynRecv | TcpState::Established | TcpState::CloseWait);
    let by_fin = matches!(request.order.step, CloseStep::Fin { .. });
    by_fin || connection.may_be_mptcp() || !is_whole || !shared.facts.can_destroy_orphans
}

fn judge(info: Result<Option<SocketInfo>, KernelError>, can_destroy_orphans: bool) -> Result<SocketInfo, CloseOutcome> {
    let info = match info {
        Err(error) => return Err(CloseOutcome::Failed(error)),
        Ok(None) => return Err(CloseOutcome::Absent),
        Ok(Some(info)) => info,
    };
    if matches!(info.state, TcpState::TimeWait | TcpState::Close | TcpState::Listen) {
        return Err(CloseOutcome::Absent);
    }
    if info.mptcp {
        let why = "it is a subflow of an MPTCP connection, which would live on";
        return Err(CloseOutcome::NotClosable(why));
    }
    if info.orphan && !can_destroy_orphans {
        let why = "its program has closed it already; the kernel ends it, and before Linux 6.11 would not free it";
        return Err(CloseOutcome::NotClosable(why));
    }
    Ok(info)
}
