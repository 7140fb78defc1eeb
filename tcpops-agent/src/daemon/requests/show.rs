//! One connection: its state, and everything known of it.

use std::sync::Arc;

use tcpops_common::conn::Connection;
use tcpops_common::state::StateCode;

use crate::api::connections::{ConnectionDetail, ConnectionState, TcpInfo};
use crate::api::problem::Problem;
use crate::api::values::State;
use crate::daemon::expiry::inspect::{self, idle_ns};
use crate::daemon::refusal;
use crate::daemon::requests::handle::Handle;
use crate::daemon::requests::origin::Origin;
use crate::daemon::requests::resolve::Resolved;
use crate::daemon::requests::socket_status::SocketStatus;
use crate::daemon::requests::view::View;
use crate::daemon::shared::blocking;
use crate::kernel::cgroup;
use crate::kernel::diag::SocketInfo;

impl Handle {
    /// The state of a connection; a name that leads to none is code -1, as the module answers.
    pub(crate) async fn state(&self, id: &str, origin: &Origin) -> Result<ConnectionState, Problem> {
        let (conid, code, state) = match self.resolve(id, origin).await? {
            Resolved::Absent => (None, StateCode::None, None),
            Resolved::Mptcp => (None, StateCode::Bad, None),
            Resolved::Found(key, mut connection) => match self.socket_status(key, &mut connection).await {
                SocketStatus::Gone => (Some(key.conid), StateCode::None, None),
                SocketStatus::Open(info) => {
                    let code = code(&connection, info.as_ref());
                    (Some(key.conid), code, (code != StateCode::None).then_some(State(connection.state)))
                }
            },
        };
        Ok(ConnectionState { conid, code: code.code(), name: code.into(), tcp_state: state, alive: code.alive() })
    }

    /// Everything known of a connection.
    pub(crate) async fn connection(&self, id: &str, origin: &Origin) -> Result<ConnectionDetail, Problem> {
        let (key, mut connection) = self.find(id, origin).await?;
        let SocketStatus::Open(info) = self.socket_status(key, &mut connection).await else {
            return Err(refusal::no_such_connection(key.conid));
        };
        let code = code(&connection, info.as_ref());
        let why = self.why(key, &connection).await?;
        let prospects = self.prospects(&View::new(&self.shared), &[(key, connection)]).await?;
        let prospect = prospects.first().map(|(_, prospect)| *prospect);
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let look = info.as_ref().map(inspect::look);
            Ok(ConnectionDetail {
                connection: View::new(&shared).show(key, &connection, prospect, look),
                code: code.code(),
                code_name: code.into(),
                cgroup: cgroup::path(&shared.facts.cgroup_mount, connection.cgroup_id),
                why,
                tcp_info: info.as_ref().map(tcp_info),
            })
        })
        .await
        .map_err(Into::into)
    }
}

/// The module's code. The entry's state is the newest; the kernel's `tcp_info` tells whether the peer still answers: a
/// retransmission that timed out, or two probes in a row without an answer.
fn code(connection: &Connection, info: Option<&SocketInfo>) -> StateCode {
    StateCode::classify(connection.state, info.is_some_and(|info| info.retransmits > 0 || info.probes > 1))
}

fn tcp_info(info: &SocketInfo) -> TcpInfo {
    TcpInfo {
        idle_seconds: (idle_ns(info) / 1_000_000) as f64 / 1e3,
        rtt_us: info.rtt_us,
        rtt_var_us: info.rtt_var_us,
        bytes_acked: info.bytes_acked,
        bytes_received: info.bytes_received,
        unacked: info.unacked,
        retransmits: info.retransmits,
        probes: info.probes,
        backoff: info.backoff,
        total_retrans: info.total_retrans,
    }
}
