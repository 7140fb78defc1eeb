//! sock_diag: the states of sockets, the sockets of a namespace, and destroying some.
//!
//! Every request names the socket by its endpoints and its cookie, so that an endpoint used anew is never hit. The kernel
//! takes many requests in one message, and has done them all when the send returns (`netlink_rcv_skb` of
//! net/netlink/af_netlink.c).

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
/// The most sockets that one message asks for: the answers, about 1.5 KiB each as the kernel counts, wait in the socket's
/// receive buffer, which has 208 KiB by default.
const LOOKS: usize = 64;

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
    /// The number of the next request. Its answers carry it too: one that was left unread, because receiving failed, is
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
        self.infos(std::slice::from_ref(name))?.pop().unwrap_or(Ok(None))
    }

    /// The states of sockets, in the order of their names; `None` for those that are gone.
    ///
    /// # Errors
    /// The outer one where the exchange fails, an inner one where the kernel refuses to tell about one socket.
    pub(crate) fn infos(&self, names: &[SocketName]) -> Result<Vec<Result<Option<SocketInfo>>>> {
        let mut found = Vec::with_capacity(names.len());
        let mut answer = Vec::with_capacity(ANSWER);
        for names in names.chunks(LOOKS) {
            let requests = names.iter().map(|name| SockDiagMessage::InetRequest(request(name, ExtensionFlags::INFO)));
            let first = self.send(requests, |_| 0)?;
            for index in 0..names.len() {
                let (answered, payload) = self.answer::<SockDiagMessage>(first, &mut answer)?;
                if answered != index {
                    return Err(unexpected("an answer to each request", format!("{answered} after {index}")));
                }
                found.push(match payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        Ok(Some(SocketInfo::from(&*response)))
                    }
                    NetlinkPayload::Error(error) => match -error.raw_code() {
                        libc::ENOENT | libc::ESTALE => Ok(None),
                        errno => Err(KernelError::refused("SOCK_DIAG_BY_FAMILY", errno)),
                    },
                    other => return Err(unexpected("a socket or an error", format!("{other:?}"))),
                });
            }
        }
        Ok(found)
    }

    /// Closes sockets, some tens of them at the most: the owner gets ECONNABORTED, the peer a reset. Returns what came of each,
    /// in the order of their names.
    ///
    /// # Errors
    /// The outer one where the exchange fails; what was closed is then not known. Inner ones: `EOPNOTSUPP` in a kernel without
    /// CONFIG_INET_DIAG_DESTROY, `EPERM` without CAP_NET_ADMIN in the namespace.
    pub(crate) fn destroy(&self, names: &[SocketName]) -> Result<Vec<Result<Destroyed>>> {
        let mut results: Vec<_> = names.iter().map(|_| Ok(Destroyed::Done)).collect();
        let Some(last) = names.len().checked_sub(1) else { return Ok(results) };
        let requests = names
            .iter()
            .map(|name| SockDiagDestroy::new(SockDiagMessage::InetRequest(request(name, ExtensionFlags::empty()))));
        // Only refusals are answered; and the last in any case, which so ends the answers.
        let first = self.send(requests, |index| if index == last { NLM_F_ACK } else { 0 })?;
        let mut answer = Vec::with_capacity(ANSWER);
        loop {
            let (index, payload) = self.answer::<SockDiagDestroy>(first, &mut answer)?;
            let (NetlinkPayload::Error(error), Some(result)) = (payload, results.get_mut(index)) else {
                return Err(unexpected("an acknowledgement", format!("the answer {index}")));
            };
            match -error.raw_code() {
                0 => {}
                libc::ENOENT | libc::ESTALE => *result = Ok(Destroyed::Absent),
                errno => *result = Err(KernelError::refused("SOCK_DESTROY", errno)),
            }
            if index == last {
                return Ok(results);
            }
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
        let first = self.send([request].into_iter(), |_| NLM_F_DUMP)?;
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
                if message.header.sequence_number != first {
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

    /// Sends requests in one message, each with flags of its own. Returns the sequence number of the first; those of the
    /// others follow.
    fn send<M: NetlinkSerializable>(
        &self,
        requests: impl ExactSizeIterator<Item = M>,
        flags: impl Fn(usize) -> u16,
    ) -> Result<u32> {
        let first = self.sequence.get();
        self.sequence.set(first.wrapping_add(requests.len() as u32));
        let mut bytes = Vec::new();
        for (index, request) in requests.enumerate() {
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | flags(index);
            header.sequence_number = first.wrapping_add(index as u32);
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len(), 0);
            message.serialize(&mut bytes[start..]);
        }
        self.socket.send(&bytes, 0).map_err(failed("send"))?;
        Ok(first)
    }

    /// The next answer to one of the requests from `first` on, with the index of that request among them.
    fn answer<M: NetlinkDeserializable>(&self, first: u32, buffer: &mut Vec<u8>) -> Result<(usize, NetlinkPayload<M>)> {
        loop {
            buffer.clear();
            self.socket.recv(buffer, 0).map_err(failed("recv"))?;
            let message = NetlinkMessage::<M>::deserialize(buffer)
                .map_err(|error| unexpected("a netlink message", error.to_string()))?;
            let index = message.header.sequence_number.wrapping_sub(first);
            if index < self.sequence.get().wrapping_sub(first) {
                return Ok((index as usize, message.payload));
            }
        }
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
            diag.send([request].into_iter(), |_| 0).unwrap();
        };
        leave_unread();
        assert_eq!(state(&connected), Some(TcpState::Established));
        leave_unread();
        let mut cookies = Vec::new();
        diag.each_cookie(Kind::Connections, |cookie| cookies.push(cookie)).unwrap();
        assert!(cookies.contains(&connected.cookie) && !cookies.contains(&listening.cookie), "{cookies:?}");
    }
}
