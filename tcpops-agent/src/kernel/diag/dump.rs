//! Every socket of a namespace, as sock_diag lists them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, StateFlags};

use super::{Diag, SocketName, failed, request, unexpected};
use crate::kernel::error::{KernelError, Result};

/// What one answer may hold: the kernel fills up to 32 KiB.
const ANSWER: usize = 1 << 16;

/// Which sockets are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Those that listen.
    Listeners,
    /// All others but what is left of a socket in TIME_WAIT, which has its cookie.
    Connections,
    /// Both.
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

impl Diag {
    /// Hands the cookie of every TCP socket of the namespace to `visit`. About a microsecond a socket. A socket that is
    /// there throughout may be left out while others come and go.
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
}
