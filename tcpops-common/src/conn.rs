//! A connection: the key that names it and the entry that `CONNECTIONS` holds for it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::policy::{Outcome, Policy, SocketOptions, Source, TcpOption};
use crate::state::TcpState;

/// The name of one connection for good: the socket's cookie and the conid.
///
/// The cookie alone is not enough: a descriptor that is disconnected and connected again keeps it. The conid is handed
/// out anew each time, in order from 1, and never twice while the pins live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct ConnKey {
    /// `SO_COOKIE` of the socket.
    pub cookie: u64,
    /// The number that people use.
    pub conid: u64,
}

/// Who began the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum Direction {
    /// This host did, with `connect(2)`.
    Outbound = 0,
    /// The peer did; the socket came from `accept(2)`.
    Inbound = 1,
    /// Nobody: the socket listens.
    Listen = 2,
}

/// How the connection became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum Origin {
    /// Its handshake was seen.
    Handshake = 0,
    /// It was open before; a walk over all sockets took it in.
    Adopted = 1,
}

/// The address family of the traffic: a v4-mapped IPv6 socket is IPv4 on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    Inet = 0,
    /// IPv6.
    Inet6 = 1,
}

/// Which side sent the first FIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum FinBy {
    /// Neither, so far as is known.
    #[default]
    Nobody = 0,
    /// This host did.
    Local = 1,
    /// The peer did.
    Peer = 2,
}

/// A bit of [`Connection::socket_flags`]: the program has bound a number as its port, or told the kernel where to choose
/// (IP_LOCAL_PORT_RANGE). Then a descriptor that is disconnected and connected again can have the same endpoints; every
/// other port is given back (`tcp_set_state` of the kernel's net/ipv4/tcp.c), and the kernel tries others before it comes
/// to it again.
pub const PORT_BOUND: u8 = 1;
/// A bit of [`Connection::socket_flags`]: it was made as a subflow of an MPTCP connection; it may be plain TCP by now. What
/// was not made so never becomes one (`subflow_ulp_init` and `subflow_ulp_clone` of the kernel's net/mptcp/subflow.c).
pub const MPTCP: u8 = 2;

/// The truth about one live connection: the value of `CONNECTIONS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Connection {
    /// This host's address.
    pub local_addr: [u8; 16],
    /// The peer's address; all zero for a listener.
    pub remote_addr: [u8; 16],
    /// This host's port.
    pub local_port: u16,
    /// The peer's port; zero for a listener.
    pub remote_port: u16,
    /// The uid that owns the socket, in the initial user namespace.
    pub uid: u32,
    /// The network namespace, as `SO_NETNS_COOKIE` names it.
    pub netns_cookie: u64,
    /// The cgroup2 directory of the socket, by inode number; zero where the kernel does not tell.
    pub cgroup_id: u64,
    /// When the entry was made: at `connect(2)`, `listen(2)`, or the end of the handshake of an accepted connection.
    pub opened_boot_ns: u64,
    /// When the handshake ended; zero until then.
    pub established_boot_ns: u64,
    /// When the present state began.
    pub state_since_boot_ns: u64,
    /// The TCP state.
    pub state: TcpState,
    /// Who began.
    pub direction: Direction,
    /// How it became known.
    pub origin: Origin,
    /// IPv4 or IPv6.
    pub family: Family,
    /// The id of the rule that matches; zero if none does. An id is made from the rule's name.
    pub rule: u32,
    /// The policy in force: the rule's, with the parts replaced that an override speaks of.
    pub policy: Policy,
    /// The options as they were before tcpops first changed one; meaningful where `touched` is not zero.
    pub original: SocketOptions,
    /// The options in force after they were applied last; meaningful where `outcome` is not `Untouched`.
    pub in_force: SocketOptions,
    /// When the options were applied last.
    pub applied_boot_ns: u64,
    /// The options that tcpops has changed, a bit for each `TcpOption` (`1 << number`).
    pub touched: u8,
    /// The source of the keepalive in force.
    pub keepalive_source: Source,
    /// The source of the lifetimes in force.
    pub lifetime_source: Source,
    /// The outcome of applying the options last.
    pub outcome: Outcome,
    /// The errno of the refusal, positive; zero if there was none.
    pub errno: u16,
    /// The option that was refused.
    pub refused: TcpOption,
    /// The parts that the program has set itself, or had on when the options were first read: a bit for each `Part`.
    pub own: u8,
    /// The interface that the socket is bound to, by SO_BINDTODEVICE or by an IPv6 link-local address; zero for none.
    /// It belongs to the socket's name: sock_diag does not find a bound socket without it.
    pub bound_dev_if: u32,
    /// Which side sent the first FIN.
    pub fin_by: FinBy,
    /// The source of the TCP_USER_TIMEOUT in force.
    pub user_timeout_source: Source,
    /// What matters when it is closed: [`PORT_BOUND`] and [`MPTCP`].
    pub socket_flags: u8,
    /// Explicit padding.
    pub pad: u8,
}

impl Connection {
    /// Nothing known yet; the state, `Unknown`, says so.
    pub const EMPTY: Self = Self {
        local_addr: [0; 16],
        remote_addr: [0; 16],
        local_port: 0,
        remote_port: 0,
        uid: 0,
        netns_cookie: 0,
        cgroup_id: 0,
        opened_boot_ns: 0,
        established_boot_ns: 0,
        state_since_boot_ns: 0,
        state: TcpState::Unknown,
        direction: Direction::Outbound,
        origin: Origin::Handshake,
        family: Family::Inet,
        rule: 0,
        policy: Policy::NONE,
        original: SocketOptions::NONE,
        in_force: SocketOptions::NONE,
        applied_boot_ns: 0,
        touched: 0,
        keepalive_source: Source::None,
        lifetime_source: Source::None,
        outcome: Outcome::Untouched,
        errno: 0,
        refused: TcpOption::None,
        own: 0,
        bound_dev_if: 0,
        fin_by: FinBy::Nobody,
        user_timeout_source: Source::None,
        socket_flags: 0,
        pad: 0,
    };

    /// True if [`PORT_BOUND`] is set.
    pub const fn is_port_bound(&self) -> bool {
        self.socket_flags & PORT_BOUND != 0
    }

    /// True if [`MPTCP`] is set.
    pub const fn may_be_mptcp(&self) -> bool {
        self.socket_flags & MPTCP != 0
    }

    /// This host's endpoint.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(to_ip(self.local_addr), self.local_port)
    }

    /// The peer's endpoint; the unspecified address and port 0 for a listener.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(to_ip(self.remote_addr), self.remote_port)
    }
}

/// A port that is listened on in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct ListenPort {
    /// The namespace.
    pub netns_cookie: u64,
    /// The port.
    pub port: u64,
}

/// The address of sixteen bytes as the maps hold it: IPv4-mapped addresses become IPv4.
pub fn to_ip(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

/// The sixteen bytes of an address as the maps hold it: IPv4 becomes IPv4-mapped.
pub fn from_ip(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => from_ipv4(v4),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The IPv4-mapped form of an address.
pub fn from_ipv4(address: Ipv4Addr) -> [u8; 16] {
    address.to_ipv6_mapped().octets()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["192.0.2.7", "2001:db8::1", "0.0.0.0", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(to_ip(from_ip(address)), address);
        }
        assert_eq!(to_ip(from_ip("::ffff:192.0.2.7".parse().unwrap())), "192.0.2.7".parse::<IpAddr>().unwrap());
    }
}
