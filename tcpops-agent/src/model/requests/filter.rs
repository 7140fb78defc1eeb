//! Which connections a list shows or a request selects.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use tcpops_common::conn::{Connection, Direction, Family, Origin};
use tcpops_common::state::TcpState;

/// The conditions on a connection; each that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The TCP state.
    pub(crate) state: Option<TcpState>,
    /// Which side opened it.
    pub(crate) direction: Option<Direction>,
    /// The address family on the wire.
    pub(crate) family: Option<Family>,
    /// How the connection became known.
    pub(crate) origin: Option<Origin>,
    /// A network that holds this host's address.
    pub(crate) local: Option<IpNet>,
    /// A network that holds the peer's address; no listener matches.
    pub(crate) remote: Option<IpNet>,
    /// A range that holds this host's port.
    pub(crate) local_port: Option<RangeInclusive<u16>>,
    /// A range that holds the peer's port; no listener matches.
    pub(crate) remote_port: Option<RangeInclusive<u16>>,
    /// The ids of cgroups, one of which is the connection's.
    pub(crate) cgroups: Option<HashSet<u64>>,
    /// The uid of the socket.
    pub(crate) uid: Option<u32>,
    /// The cookie of the network namespace.
    pub(crate) netns_cookie: Option<u64>,
    /// The id of the rule that matches the connection.
    pub(crate) rule: Option<u32>,
    /// The uid to whose connections the caller is limited.
    pub(crate) visible_to_uid: Option<u32>,
    /// The conid after which to begin.
    pub(crate) after_conid: u64,
}

impl Filter {
    /// True if the connection meets every condition.
    pub(crate) fn matches(&self, conid: u64, connection: &Connection) -> bool {
        let (local, remote) = (connection.local(), connection.remote());
        let has_peer = connection.remote_port != 0;
        conid > self.after_conid
            && self.state.is_none_or(|state| state == connection.state)
            && self.direction.is_none_or(|direction| direction == connection.direction)
            && self.family.is_none_or(|family| family == connection.family)
            && self.origin.is_none_or(|origin| origin == connection.origin)
            && self.local.is_none_or(|net| net.contains(&local.ip()))
            && self.remote.is_none_or(|net| has_peer && net.contains(&remote.ip()))
            && self.local_port.as_ref().is_none_or(|ports| ports.contains(&local.port()))
            && self.remote_port.as_ref().is_none_or(|ports| has_peer && ports.contains(&remote.port()))
            && self.cgroups.as_ref().is_none_or(|ids| ids.contains(&connection.cgroup_id))
            && self.uid.is_none_or(|uid| uid == connection.uid)
            && self.visible_to_uid.is_none_or(|uid| uid == connection.uid)
            && self.netns_cookie.is_none_or(|cookie| cookie == connection.netns_cookie)
            && self.rule.is_none_or(|rule| rule == connection.rule)
    }
}
