//! The answer of sock_diag about one socket.

use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_sock_diag::inet::InetResponse;
use netlink_packet_sock_diag::inet::nlas::Nla;
use tcpops_common::state::TcpState;

/// The attribute with the name of the upper-layer protocol (`INET_DIAG_ULP_INFO` of the kernel's
/// include/uapi/linux/inet_diag.h).
const INET_DIAG_ULP_INFO: u16 = 19;

/// The state of a socket, and its `tcp_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketInfo {
    pub(crate) state: TcpState,
    /// True for a subflow of an MPTCP connection.
    pub(crate) mptcp: bool,
    /// True once its program has closed it: no descriptor leads to it any more.
    pub(crate) orphan: bool,
    /// The inode by which descriptors lead to it; zero for none, or none yet.
    pub(crate) inode: u32,
    pub(crate) last_data_sent_ms: u32,
    pub(crate) last_data_recv_ms: u32,
    pub(crate) last_ack_recv_ms: u32,
    /// The smoothed round-trip time.
    pub(crate) rtt_us: u32,
    pub(crate) rtt_var_us: u32,
    pub(crate) bytes_acked: u64,
    pub(crate) bytes_received: u64,
    /// Segments that were sent and not acknowledged.
    pub(crate) unacked: u32,
    /// Retransmissions of the oldest unacknowledged segment.
    pub(crate) retransmits: u8,
    /// Unanswered probes.
    pub(crate) probes: u8,
    /// The exponent of the retransmission timer's back-off.
    pub(crate) backoff: u8,
    /// Retransmitted segments since the connection began.
    pub(crate) total_retrans: u32,
}

impl From<&InetResponse> for SocketInfo {
    fn from(response: &InetResponse) -> Self {
        let state = TcpState::from_kernel(u32::from(response.header.state));
        let inode = response.header.inode;
        let closing = matches!(
            state,
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck | TcpState::TimeWait
        );
        // A connection that its program has yet to accept has no inode either, but never sent a FIN.
        let mut info = Self { state, orphan: inode == 0 && closing, inode, ..Self::default() };
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
}

fn contains_mptcp(attribute: &DefaultNla) -> bool {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value.windows(5).any(|window| window == b"mptcp")
}
