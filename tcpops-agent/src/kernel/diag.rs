//! sock_diag: the state of a socket, the sockets of a namespace, and destroying one.
//!
//! Every request names the socket by its endpoints and its cookie, so that an endpoint used anew is never hit.

mod info;

pub(crate) use info::SocketInfo;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::constants::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

use crate::kernel::error::{KernelError, Result};
use crate::kernel::netns::Namespace;

/// The bytes received at a time: the kernel fills up to 32 KiB.
const ANSWER: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketName {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// `SO_COOKIE`.
    pub(crate) cookie: u64,
    /// The index of the interface that it is bound to; zero for none.
    pub(crate) bound_dev_if: u32,
}

/// Which sockets are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Listeners,
    /// All others, except those in TIME_WAIT: such a remnant has the cookie of the socket that it is left of.
    Connections,
    All,
}

impl Kind {
    fn states(self) -> StateFlags {
        let listeners = StateFlags::LISTEN;
        let all = StateFlags::all() - StateFlags::TIME_WAIT;
        match self {
            Self::Listeners => listeners,
            Self::Connections => all - listeners,
            Self::All => all,
        }
    }
}

/// The result of destroying a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destroyed {
    Done,
    /// There was no socket with these endpoints and this cookie.
    Absent,
}

/// The diag socket of a network namespace.
pub(crate) struct Diag {
    socket: Socket,
    /// The number of the last request. Its answers carry it too: one that was left unread, because receiving failed, is
    /// not taken for the answer to a later request.
    sequence: Cell<u32>,
}

impl Diag {
    /// It keeps the namespace alive for as long as it is open.
    pub(crate) fn open(namespace: &Namespace) -> Result<Self> {
        namespace.run(Self::open_here)?
    }

    fn open_here() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("socket"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.connect(&NetlinkAddr::new(0, 0)).map_err(failed("connect"))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// The state of a socket; `None` if it is gone.
    pub(crate) fn info(&self, name: &SocketName) -> Result<Option<SocketInfo>> {
        let request = SockDiagMessage::InetRequest(request(name, ExtensionFlags::INFO));
        self.send(&self.message(request, 0))?;
        match self.answer::<SockDiagMessage>()? {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                Ok(Some(SocketInfo::from(&*response)))
            }
            NetlinkPayload::Error(error) => match -error.raw_code() {
                libc::ENOENT | libc::ESTALE => Ok(None),
                errno => Err(KernelError::refused("SOCK_DIAG_BY_FAMILY", errno)),
            },
            other => Err(unexpected("a socket or an error", format!("{other:?}"))),
        }
    }

    /// Closes the socket: its owner gets ECONNABORTED, its peer a reset. `last_look`, which tells
    /// whether it still is the socket that is meant, is called when the request only remains to be sent.
    ///
    /// # Errors
    /// `EOPNOTSUPP` in a kernel without CONFIG_INET_DIAG_DESTROY, `EPERM` without CAP_NET_ADMIN in the namespace; the
    /// errors of `last_look`.
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

    /// Hands the cookie of every TCP socket of the namespace to `visit`. It takes about a microsecond a socket. A
    /// socket that is there throughout may be left out while others come and go.
    pub(crate) fn each_cookie(&self, kind: Kind, mut visit: impl FnMut(u64)) -> Result<()> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for address in any {
            let end = SocketAddr::new(address, 0);
            let name = SocketName { local: end, remote: end, cookie: u64::MAX, bound_dev_if: 0 };
            let request = InetRequest { states: kind.states(), ..request(&name, ExtensionFlags::empty()) };
            self.dump(request, &mut visit)?;
        }
        Ok(())
    }

    fn dump(&self, request: InetRequest, visit: &mut impl FnMut(u64)) -> Result<()> {
        let request = SockDiagMessage::InetRequest(request);
        self.send(&self.message(request, NLM_F_DUMP))?;
        let mut answer = Vec::with_capacity(ANSWER);
        loop {
            answer.clear();
            self.socket.recv(&mut answer, 0).map_err(failed("recv"))?;
            let mut rest = answer.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                    .map_err(|error| unexpected("a netlink message", error.to_string()))?;
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if !self.is_answer(&message.header) {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        visit(u64::from_ne_bytes(response.header.socket_id.cookie));
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => match -error.raw_code() {
                        // A kernel without IPv6 lists none of its sockets.
                        libc::ENOENT => return Ok(()),
                        errno => return Err(KernelError::refused("the list of sockets", errno)),
                    },
                    other => return Err(unexpected("a socket or the end", format!("{other:?}"))),
                }
            }
        }
    }

    /// The bytes of a request, with the next sequence number.
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

fn failed(call: &'static str) -> impl FnOnce(std::io::Error) -> KernelError {
    KernelError::syscall(call, "NETLINK_SOCK_DIAG")
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use rustix::net::sockopt::socket_cookie;

    use tcpops_common::state::TcpState;

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
