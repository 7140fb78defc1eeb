//! Asking the kernel whether it still has the socket of an entry. If somebody else detached the program, connections end
//! and their entries stay.

use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::state::TcpState;

use crate::daemon::diags::Diags;
use crate::daemon::refusal;
use crate::daemon::requests::handle::{Command, Handle};
use crate::daemon::shared::{Shared, blocking};
use crate::kernel::Result;
use crate::kernel::diag::{Diag, Kind, SocketInfo};

/// The kernel's answer about a socket.
#[derive(Debug)]
pub(crate) enum SocketStatus {
    /// It is there; with its `tcp_info`, unless it listens or cannot be asked.
    Open(Option<SocketInfo>),
    Gone,
}

impl Handle {
    /// Asks whether the socket of an entry is there. If it is, `connection` gets the state that it has now.
    pub(crate) async fn socket_status(&self, key: ConnKey, connection: &mut Connection) -> SocketStatus {
        let (shared, entry) = (Arc::clone(&self.shared), *connection);
        let found = blocking(move || socket_status(&shared, key, &entry)).await.unwrap_or_else(|error| {
            tracing::warn!(conid = key.conid, error = refusal::chain(&error), "cannot ask the kernel for the socket");
            SocketStatus::Open(None)
        });
        match &found {
            SocketStatus::Open(Some(info)) if info.state != TcpState::Unknown => connection.state = info.state,
            SocketStatus::Open(_) => {}
            // A connection that ended a moment ago has no entry any more. If this one has, others do too.
            SocketStatus::Gone if self.shared.connections.get(key).is_ok_and(|entry| entry.is_some()) => {
                let _ended = self.send(Command::Sweep).await;
            }
            SocketStatus::Gone => {}
        }
        found
    }
}

fn socket_status(shared: &Shared, key: ConnKey, connection: &Connection) -> Result<SocketStatus> {
    let listens = connection.state == TcpState::Listen;
    if !listens && let Some(info) = Diags::new(shared).info(key, connection)? {
        return Ok(SocketStatus::Open(Some(info)));
    }
    // Endpoints do not always lead to a socket: listeners share them, and one may have been bound to a device since.
    let diag = Diag::open(&shared.namespaces.find(connection.netns_cookie)?)?;
    let mut here = false;
    let kind = if listens { Kind::Listeners } else { Kind::Connections };
    diag.each_cookie(kind, |cookie| here |= cookie == key.cookie)?;
    Ok(if here { SocketStatus::Open(None) } else { SocketStatus::Gone })
}
