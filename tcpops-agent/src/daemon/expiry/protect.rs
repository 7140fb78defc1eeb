//! Which connections no rule closes.

use std::collections::HashSet;
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};

use crate::daemon::shared::Shared;
use crate::kernel::owner::own_cookies;
use crate::model::expiry::closing::Protection;
use crate::model::rules::in_force::InForce;

/// The protections in force at one moment.
pub(crate) struct Protections<'a> {
    shared: &'a Shared,
    in_force: Arc<InForce>,
    /// The agent's own sockets, once they have been asked for.
    own: Option<HashSet<u64>>,
}

impl<'a> Protections<'a> {
    /// The protections of these rules.
    pub(crate) fn new(shared: &'a Shared, in_force: Arc<InForce>) -> Self {
        Self { shared, in_force, own: None }
    }

    /// Why no rule closes this connection. Blocks: it may look through the cgroup hierarchy.
    pub(crate) fn of(&mut self, key: ConnKey, connection: &Connection) -> Option<Protection> {
        if self.own.get_or_insert_with(own_cookies).contains(&key.cookie) {
            return Some(Protection::Own);
        }
        self.in_force.protection(connection, || self.shared.lineages.of(connection.cgroup_id))
    }
}

/// The protection in words that go after "protected by".
pub(crate) fn protector(protection: Protection, in_force: &InForce) -> String {
    match protection {
        Protection::Rule(id) => format!("rule \"{}\"", in_force.name(id)),
        Protection::Port(port) => format!("protect_ports, for port {port}"),
        Protection::Own => "being the agent's own".to_owned(),
    }
}
