//! Which connections a list shows or a request selects.

use std::collections::HashSet;
use std::net::SocketAddr;
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
        fn given<T>(wanted: Option<&T>, matches: impl FnOnce(&T) -> bool) -> bool {
            wanted.is_none_or(matches)
        }
        let (local, remote) = (connection.local(), connection.remote());
        let has_peer = connection.remote_port != 0;
        let within = |net: &IpNet, end: SocketAddr| net.contains(&end.ip());
        conid > self.after_conid
            && given(self.state.as_ref(), |state| *state == connection.state)
            && given(self.direction.as_ref(), |direction| *direction == connection.direction)
            && given(self.family.as_ref(), |family| *family == connection.family)
            && given(self.origin.as_ref(), |origin| *origin == connection.origin)
            && given(self.local.as_ref(), |net| within(net, local))
            && given(self.remote.as_ref(), |net| has_peer && within(net, remote))
            && given(self.local_port.as_ref(), |ports| ports.contains(&local.port()))
            && given(self.remote_port.as_ref(), |ports| has_peer && ports.contains(&remote.port()))
            && given(self.cgroups.as_ref(), |ids| ids.contains(&connection.cgroup_id))
            && given(self.uid.as_ref(), |uid| *uid == connection.uid)
            && given(self.visible_to_uid.as_ref(), |uid| *uid == connection.uid)
            && given(self.netns_cookie.as_ref(), |cookie| *cookie == connection.netns_cookie)
            && given(self.rule.as_ref(), |rule| *rule == connection.rule)
    }
}
