//! Asking sock_diag in whichever namespace a connection is.

use std::collections::{BTreeMap, HashMap};

use tcpops_common::conn::{ConnKey, Connection};

use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::diag::{Diag, SocketInfo, SocketName};

/// sock_diag in each namespace that a batch needs, opened once. They are closed with the batch, since an open one keeps
/// its namespace alive.
pub(crate) struct Diags<'a> {
    shared: &'a Shared,
    by_netns: HashMap<u64, Diag>,
}

impl<'a> Diags<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, by_netns: HashMap::new() }
    }

    /// The diag socket of a namespace.
    pub(crate) fn of(&mut self, netns_cookie: u64) -> Result<&Diag> {
        if !self.by_netns.contains_key(&netns_cookie) {
            let diag = Diag::open(&self.shared.namespaces.find(netns_cookie)?)?;
            self.by_netns.insert(netns_cookie, diag);
        }
        Ok(&self.by_netns[&netns_cookie])
    }

    /// The kernel's `tcp_info` of a connection; `None` if it is gone.
    pub(crate) fn info(&mut self, key: ConnKey, connection: &Connection) -> Result<Option<SocketInfo>> {
        self.of(connection.netns_cookie)?.info(&socket_name(key, connection))
    }

    /// The same for many, in their order: those of one namespace are asked for together.
    pub(crate) fn infos(&mut self, asked: &[(ConnKey, &Connection)]) -> Vec<Result<Option<SocketInfo>>> {
        let mut found: Vec<_> = asked.iter().map(|_| Ok(None)).collect();
        let mut by_netns = BTreeMap::<u64, Vec<usize>>::new();
        for (index, (_, connection)) in asked.iter().enumerate() {
            by_netns.entry(connection.netns_cookie).or_default().push(index);
        }
        for (netns_cookie, indexes) in by_netns {
            let of = |index: &usize| (*index, asked[*index]);
            let names: Vec<_> = indexes.iter().map(of).map(|(_, (key, entry))| socket_name(key, entry)).collect();
            match self.of(netns_cookie).and_then(|diag| diag.infos(&names)) {
                Ok(infos) => indexes.iter().zip(infos).for_each(|(index, info)| found[*index] = info),
                // Each gets an answer, or an error, of its own.
                Err(_) => indexes.iter().map(of).for_each(|(index, (key, entry))| found[index] = self.info(key, entry)),
            }
        }
        found
    }
}

/// The connection's socket as sock_diag names it.
pub(crate) fn socket_name(key: ConnKey, connection: &Connection) -> SocketName {
    SocketName {
        local: connection.local(),
        remote: connection.remote(),
        cookie: key.cookie,
        bound_dev_if: connection.bound_dev_if,
    }
}
