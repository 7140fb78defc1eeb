//! sock_diag: what the kernel says of a socket, and destroying one.
//!
//! Every request names the socket by its endpoints and its cookie, so that an endpoint used anew is never hit.

mod dump;

pub(crate) use dump::Kind;

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, Nla as _,
};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::constants::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use tcpops_common::state::TcpState;

use crate::kernel::error::{KernelError, Result};
use crate::kernel::netns::Namespace;

/// The attribute with the name of the upper-layer protocol (`INET_DIAG_ULP_INFO` of the kernel's
/// include/uapi/linux/inet_diag.h).
const INET_DIAG_ULP_INFO: u16 = 19;

/// Names one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketName {
    /// This host's endpoint.
    pub(crate) local: SocketAddr,
    /// The peer's.
    pub(crate) remote: SocketAddr,
    /// `SO_COOKIE`.
    pub(crate) cookie: u64,
    /// The interface that it is bound to; zero for none.
    pub(crate) bound_dev_if: u32,
}

/// What the kernel says of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketInfo {
    /// Its state.
    pub(crate) state: TcpState,
    /// Whether it is a subflow of an MPTCP connection.
    pub(crate) mptcp: bool,
    /// Whether its program has closed it: no descriptor leads to it any more.
    pub(crate) orphan: bool,
    /// The inode by which descriptors lead to it; zero for none, or none yet.
    pub(crate) inode: u32,
    /// Milliseconds since data was last sent.
    pub(crate) last_data_sent_ms: u32,
    /// Milliseconds since data last came in.
    pub(crate) last_data_recv_ms: u32,
    /// Milliseconds since an acknowledgement last came in.
    pub(crate) last_ack_recv_ms: u32,
    /// Smoothed round trip, microseconds.
    pub(crate) rtt_us: u32,
    /// Its variation, microseconds.
    pub(crate) rtt_var_us: u32,
    /// Bytes sent and acknowledged.
    pub(crate) bytes_acked: u64,
    /// Bytes received.
    pub(crate) bytes_received: u64,
    /// Segments not acknowledged.
    pub(crate) unacked: u32,
    /// Retransmissions of the segment that waits now.
    pub(crate) retransmits: u8,
    /// Unanswered probes.
    pub(crate) probes: u8,
    /// By how much the retransmission timer has backed off.
    pub(crate) backoff: u8,
    /// Retransmitted segments in all.
    pub(crate) total_retrans: u32,
}

/// What came of destroying a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destroyed {
    /// It is gone.
    Done,
    /// There was none with these endpoints and this cookie.
    Absent,
}

/// A sock_diag socket in one namespace.
pub(crate) struct Diag {
    socket: Socket,
    /// The number of the last request. Its answers carry it too, so that one that was left unread, because receiving
    /// failed, is not taken for the answer to a later request.
    sequence: Cell<u32>,
}

impl Diag {
    /// Opens one. It keeps the namespace alive for as long as it is open.
    pub(crate) fn open(namespace: &Namespace) -> Result<Self> {
        namespace.run(Self::open_here)?
    }

    /// Opens one in the namespace of the calling thread.
    fn open_here() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("socket"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.connect(&NetlinkAddr::new(0, 0)).map_err(failed("connect"))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// What the kernel says of the socket; `None` if it is gone.
    pub(crate) fn info(&self, name: &SocketName) -> Result<Option<SocketInfo>> {
        let request = SockDiagMessage::InetRequest(request(name, ExtensionFlags::INFO));
        self.send(&self.message(request, 0))?;
        match self.answer::<SockDiagMessage>()? {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => Ok(Some(info(&response))),
            NetlinkPayload::Error(error) => match -error.raw_code() {
                libc::ENOENT | libc::ESTALE => Ok(None),
                errno => Err(KernelError::refused("SOCK_DIAG_BY_FAMILY", errno)),
            },
            other => Err(unexpected("a socket or an error", format!("{other:?}"))),
        }
    }

    /// Closes the socket: its owner gets ECONNABORTED, its peer a reset. Once the request is made, so that nothing but its
    /// sending comes between, `last_look` is asked whether it still is the socket that is meant.
    ///
    /// # Errors
    /// `EOPNOTSUPP` in a kernel without CONFIG_INET_DIAG_DESTROY, `EPERM` without CAP_NET_ADMIN in the namespace; those
    /// of `last_look`.
    pub(crate) fn destroy(&self, name: &SocketName, last_look: impl FnOnce() -> Result<bool>) -> Result<Destroyed> {
        let request = request(name, ExtensionFlags::empty());
        let request = self.message(SockDiagDestroy::new(SockDiagMessage::InetRequest(request)), NLM_F_ACK);
        if !last_look()? {
            return Ok(Destroyed::Absent);
        }
        self.send(&request)?;
        match self.answer::<SockDiagDestroy>()? {
            NetlinkPayload::Error(error) => match -error.raw_code() {
                0 => Ok(Destroyed::Done),
                libc::ENOENT | libc::ESTALE => Ok(Destroyed::Absent),
                errno => Err(KernelError::refused("SOCK_DESTROY", errno)),
            },
            other => Err(unexpected("an acknowledgement", format!("{other:?}"))),
        }
    }

    /// The request, under the next number.
    fn message<M: NetlinkSerializable>(&self, request: M, flags: u16) -> Vec<u8> {
        self.sequence.set(self.sequence.get().wrapping_add(1));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence.get();
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn send(&self, request: &[u8]) -> Result<()> {
        self.socket.send(request, 0).map(drop).map_err(failed("send"))
    }

    fn answer<M: NetlinkDeserializable>(&self) -> Result<NetlinkPayload<M>> {
        loop {
            let (answer, _sender) = self.socket.recv_from_full().map_err(failed("recv"))?;
            let message = NetlinkMessage::<M>::deserialize(&answer)
                .map_err(|error| unexpected("a netlink message", error.to_string()))?;
            if self.is_answer(&message.header) {
                return Ok(message.payload);
            }
        }
    }

    fn is_answer(&self, header: &NetlinkHeader) -> bool {
        header.sequence_number == self.sequence.get()
    }
}

fn unexpected(expected: &'static str, found: String) -> KernelError {
    KernelError::Diag { expected, found }
}

fn failed(call: &'static str) -> impl Fn(std::io::Error) -> KernelError {
    move |error| KernelError::syscall(call, "NETLINK_SOCK_DIAG", error)
}

fn request(name: &SocketName, extensions: ExtensionFlags) -> InetRequest {
    let family = match name.local.ip() {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    InetRequest {
        family: family as u8,
        protocol: libc::IPPROTO_TCP as u8,
        extensions,
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: name.local.port(),
            destination_port: name.remote.port(),
            source_address: name.local.ip(),
            destination_address: name.remote.ip(),
            interface_id: name.bound_dev_if,
            cookie: name.cookie.to_ne_bytes(),
        },
    }
}

fn info(response: &InetResponse) -> SocketInfo {
    let state = TcpState::from_kernel(u32::from(response.header.state));
    let closing = matches!(
        state,
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck | TcpState::TimeWait
    );
    let mut info = SocketInfo {
        state,
        mptcp: false,
        // A connection that its program has yet to accept has no inode either, but never sent a FIN.
        orphan: response.header.inode == 0 && closing,
        inode: response.header.inode,
        last_data_sent_ms: 0,
        last_data_recv_ms: 0,
        last_ack_recv_ms: 0,
        rtt_us: 0,
        rtt_var_us: 0,
        bytes_acked: 0,
        bytes_received: 0,
        unacked: 0,
        retransmits: 0,
        probes: 0,
        backoff: 0,
        total_retrans: 0,
    };
    for attribute in &response.nlas {
        match attribute {
            Nla::TcpInfo(tcp) => {
                info.last_data_sent_ms = tcp.last_data_sent;
                info.last_data_recv_ms = tcp.last_data_recv;
                info.last_ack_recv_ms = tcp.last_ack_recv;
                info.rtt_us = tcp.rtt;
                info.rtt_var_us = tcp.rttvar;
                info.bytes_acked = tcp.bytes_acked;
                info.bytes_received = tcp.bytes_received;
                info.unacked = tcp.unacked;
                info.retransmits = tcp.retransmits;
                info.probes = tcp.probes;
                info.backoff = tcp.backoff;
                info.total_retrans = tcp.total_retrans;
            }
            Nla::Other(other) if other.kind() == INET_DIAG_ULP_INFO => info.mptcp = contains_mptcp(other),
            _ => {}
        }
    }
    info
}

fn contains_mptcp(attribute: &DefaultNla) -> bool {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value.windows(5).any(|window| window == b"mptcp")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use rustix::net::sockopt::socket_cookie;

    use super::*;

    #[test]
    fn an_answer_that_was_left_unread_is_not_taken_for_the_next() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let listening = SocketName {
            local: listener.local_addr().unwrap(),
            remote: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            cookie: socket_cookie(&listener).unwrap(),
            bound_dev_if: 0,
        };
        let connected = SocketName {
            local: stream.local_addr().unwrap(),
            remote: stream.peer_addr().unwrap(),
            cookie: socket_cookie(&stream).unwrap(),
            bound_dev_if: 0,
        };
        let diag = Diag::open_here().unwrap();
        let state = |name| diag.info(name).unwrap().map(|info| info.state);
        assert_eq!(state(&listening), Some(TcpState::Listen));
        let leave_unread = || {
            let request = SockDiagMessage::InetRequest(request(&listening, ExtensionFlags::empty()));
            diag.send(&diag.message(request, 0)).unwrap();
        };
        leave_unread();
        assert_eq!(state(&connected), Some(TcpState::Established));
        leave_unread();
        let mut cookies = Vec::new();
        diag.each_cookie(Kind::Connections, |cookie| cookies.push(cookie)).unwrap();
        assert!(cookies.contains(&connected.cookie) && !cookies.contains(&listening.cookie), "{cookies:?}");
    }
}
