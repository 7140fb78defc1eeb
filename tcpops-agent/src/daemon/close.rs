//! Looking at connections and closing them, off the loop.

use std::collections::HashMap;
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::state::TcpState;

use super::shared::Shared;
use crate::kernel::diag::{Destroyed, Diag, SocketInfo, SocketName};
use crate::kernel::{KernelError, Result};
use crate::model::connections::CloseReason;
use crate::model::lifetimes::Subject;

/// The most connections that are looked at or closed in one go.
pub(super) const BATCH: usize = 256;

/// What came of trying to close a connection.
#[derive(Debug)]
pub(crate) enum Closing {
    /// It is closed.
    Done,
    /// It was over already.
    Absent,
    /// It is not one that can be closed, for this reason.
    NotClosable(&'static str),
    /// The kernel refused.
    Failed(KernelError),
}

/// A connection whose entry was read.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) key: ConnKey,
    pub(super) subject: Option<Subject>,
    pub(super) idle_ns: Option<u64>,
}

/// sock_diag in each namespace that a batch needs, opened once. They are closed with the batch, since an open one keeps
/// its namespace alive.
struct Diags<'a> {
    shared: &'a Shared,
    by_netns: HashMap<u64, Diag>,
}

impl<'a> Diags<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, by_netns: HashMap::new() }
    }

    fn of(&mut self, netns_cookie: u64) -> Result<&Diag> {
        if !self.by_netns.contains_key(&netns_cookie) {
            let diag = Diag::open(&self.shared.namespaces.find(netns_cookie)?)?;
            self.by_netns.insert(netns_cookie, diag);
        }
        Ok(&self.by_netns[&netns_cookie])
    }
}

/// What sock_diag calls the connection's socket.
fn socket_name(key: ConnKey, connection: &Connection) -> SocketName {
    SocketName {
        local: connection.local(),
        remote: connection.remote(),
        cookie: key.cookie,
        bound_dev_if: connection.bound_dev_if,
    }
}

/// What the kernel says of one connection; `None` if it is gone.
pub(super) fn look(shared: &Shared, key: ConnKey, connection: &Connection) -> Result<Option<SocketInfo>> {
    Diags::new(shared).of(connection.netns_cookie)?.info(&socket_name(key, connection))
}

/// How long ago the last byte was sent or received, nanoseconds.
pub(super) fn idle_ns(info: &SocketInfo) -> u64 {
    u64::from(info.last_data_sent_ms.min(info.last_data_recv_ms)) * 1_000_000
}

/// Reads the entries of connections, and of those marked how long they have been idle.
pub(super) fn inspect(shared: &Arc<Shared>, keys: &[(ConnKey, bool)]) -> Vec<Inspected> {
    let mut diags = Diags::new(shared);
    keys.iter()
        .map(|(key, look)| {
            let entry = shared.connections.get(*key).unwrap_or_else(|error| {
                tracing::error!(conid = key.conid, %error, "cannot read an entry");
                None
            });
            let subject = entry.as_ref().and_then(|connection| Subject::of(*key, connection));
            let idle_ns = match entry {
                Some(connection) if *look && subject.is_some() => idle_of(&mut diags, *key, &connection),
                _ => None,
            };
            Inspected { key: *key, subject, idle_ns }
        })
        .collect()
}

/// Zero where it cannot be read, so that the connection is looked at again after its idle time and not closed unseen.
fn idle_of(diags: &mut Diags<'_>, key: ConnKey, connection: &Connection) -> Option<u64> {
    let info = diags.of(connection.netns_cookie).and_then(|diag| diag.info(&socket_name(key, connection)));
    match info {
        Ok(Some(info)) => Some(idle_ns(&info)),
        Ok(None) => Some(0),
        Err(error) => {
            tracing::warn!(conid = key.conid, %error, "cannot tell how long the connection has been idle");
            Some(0)
        }
    }
}

/// Closes connections.
pub(super) fn close(
    shared: &Arc<Shared>,
    targets: Vec<(ConnKey, CloseReason)>,
) -> Vec<(ConnKey, CloseReason, Closing)> {
    let mut diags = Diags::new(shared);
    targets
        .into_iter()
        .map(|(key, reason)| {
            let closing = close_one(&mut diags, key).unwrap_or_else(Closing::Failed);
            (key, reason, closing)
        })
        .collect()
}

fn close_one(diags: &mut Diags<'_>, key: ConnKey) -> Result<Closing> {
    let shared = diags.shared;
    let Some(connection) = shared.connections.get(key)? else { return Ok(Closing::Absent) };
    if connection.state == TcpState::Listen {
        return Ok(Closing::NotClosable("it is a listener"));
    }
    let name = socket_name(key, &connection);
    let diag = diags.of(connection.netns_cookie)?;
    let Some(info) = diag.info(&name)? else { return Ok(Closing::Absent) };
    if info.mptcp {
        return Ok(Closing::NotClosable("it is a subflow of an MPTCP connection, which would live on"));
    }
    if info.orphan {
        return Ok(Closing::NotClosable("its program has closed it already; the kernel ends it"));
    }
    // The last look before the close: a descriptor that connected again meanwhile has the same cookie, perhaps the same
    // endpoints, and another conid; the entry with this one is then gone.
    if shared.connections.get(key)?.is_none() {
        return Ok(Closing::Absent);
    }
    Ok(match diag.destroy(&name)? {
        Destroyed::Done => Closing::Done,
        Destroyed::Absent => Closing::Absent,
    })
}
