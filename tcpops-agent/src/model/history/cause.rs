//! Why a connection ended and which side began it, derived from its socket's errno, its last state and what this agent
//! did.
//!
//! Before a socket goes to CLOSE, the kernel sets its `sk_err` unless its program ended it (`tcp_reset`, `tcp_write_err`,
//! `tcp_abort` in net/ipv4).

use strum::{IntoStaticStr, VariantArray};
use tcpops_common::conn::{Connection, Direction, FinBy};
use tcpops_common::event::{Event, SOCK_KEEPOPEN};
use tcpops_common::state::TcpState;

use crate::model::expiry::effects::{CloseReason, PendingClose};
use crate::model::expiry::lifetimes::Expiry;

/// From include/uapi/asm-generic/errno.h and errno-base.h; the same on every architecture with BPF.
mod errno {
    pub(crate) const EPIPE: u32 = 32;
    pub(crate) const ECONNABORTED: u32 = 103;
    pub(crate) const ECONNRESET: u32 = 104;
    pub(crate) const ETIMEDOUT: u32 = 110;
    pub(crate) const ECONNREFUSED: u32 = 111;
}
use errno::{ECONNABORTED, ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT};

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// This host.
    Local,
    /// The other host.
    Peer,
}

/// What the kernel waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "TCP_USER_TIMEOUT is the option's name")]
pub(crate) enum Timeout {
    /// Answers to keepalive probes.
    Keepalive,
    /// An answer, to data or to keepalive probes, within the TCP_USER_TIMEOUT.
    UserTimeout,
    /// An acknowledgement of data or of a FIN, however often it was retransmitted, or the opening of a shut window.
    Retransmissions,
    /// An answer to a SYN.
    Handshake,
}

/// Who wanted what this agent enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// The rule with this id.
    Rule(u32),
    /// This uid, by an override.
    Override(u32),
}

impl Author {
    /// The author of a limit: its rule, or the uid that set the override where the rule is zero.
    pub(crate) fn of_limit(rule: u32, connection: &Connection) -> Self {
        if rule == 0 { Self::Override(connection.policy.by_uid) } else { Self::Rule(rule) }
    }
}

/// The kinds of causes, by which they are counted and named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum CauseKind {
    /// Both sides ended the connection in order, or its program gave it up.
    Fin,
    Reset,
    /// The peer did not answer.
    Timeout,
    /// The handshake was refused.
    Refused,
    /// Its time was over, and this agent closed it.
    Expired,
    /// This agent closed it because somebody requested it.
    ClosedByRequest,
    /// Something else destroyed the socket.
    Aborted,
    /// It is not known.
    Unknown,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Both sides ended it in order; this side's FIN was the first.
    Fin(Side),
    /// Its program gave it up during the handshake. Nothing was sent.
    GivenUp,
    /// This side sent a reset. `None` where it is not known which side: the socket waited for its FIN to be acknowledged,
    /// and either a reset came, or data that nobody would read, which this host answered with a reset.
    Reset(Option<Side>),
    /// The peer did not answer.
    Timeout(Timeout),
    /// The peer, or a host on the way, refused the handshake.
    Refused,
    /// A host on the way, or this one, reported during the handshake that there is no route to the peer.
    Unreachable,
    /// Its time was over, and this agent closed it.
    Expired(Expiry, Author),
    /// This agent closed it because this uid requested it.
    Request(u32),
    /// Something else destroyed the socket, such as `ss -K`.
    Aborted,
    /// It is not known.
    Unknown,
}

impl Cause {
    pub(crate) const fn kind(&self) -> CauseKind {
        match self {
            Self::Fin(_) | Self::GivenUp => CauseKind::Fin,
            Self::Reset(_) => CauseKind::Reset,
            Self::Timeout(_) => CauseKind::Timeout,
            Self::Refused | Self::Unreachable => CauseKind::Refused,
            Self::Expired(..) => CauseKind::Expired,
            Self::Request(_) => CauseKind::ClosedByRequest,
            Self::Aborted => CauseKind::Aborted,
            Self::Unknown => CauseKind::Unknown,
        }
    }

    /// The side that began it, where a side did and is known.
    pub(crate) const fn side(&self) -> Option<Side> {
        match self {
            Self::Fin(side) => Some(*side),
            Self::GivenUp => Some(Side::Local),
            Self::Reset(side) => *side,
            _ => None,
        }
    }

    /// Finds the cause of an [`EventKind::Closed`](tcpops_common::event::EventKind::Closed), given the close that this
    /// agent had begun. `None` for a listener, for which the kernel gives no cause.
    pub(crate) fn of(event: &Event, pending_close: Option<PendingClose>) -> Option<Self> {
        if event.connection.direction == Direction::Listen {
            return None;
        }
        // A connection that ended by itself before this agent acted keeps its own cause.
        Some(match pending_close.filter(|pending_close| is_done(pending_close, event)) {
            Some(PendingClose { reason: CloseReason::Expired(expiry), rule, .. }) => {
                Self::Expired(expiry, Author::of_limit(rule, &event.connection))
            }
            Some(PendingClose { reason: CloseReason::Request(uid), .. }) => Self::Request(uid),
            None => Self::of_others(event),
        })
    }

    /// Finds the cause where this agent is not the cause.
    fn of_others(event: &Event) -> Self {
        let Event { old_state, errno, connection, summary, .. } = event;
        let unanswered = summary.retransmits > 0 || summary.probes > 0;
        match (*old_state, *errno) {
            (_, 0) => in_order(*old_state, connection),
            (_, ECONNABORTED) => Self::Aborted,
            (TcpState::SynSent, ECONNREFUSED) => Self::Refused,
            (TcpState::FinWait1, ECONNRESET) => Self::Reset(None),
            // After the peer's FIN, its reset shows as EPIPE.
            (_, ECONNRESET | EPIPE) => Self::Reset(Some(Side::Peer)),
            (TcpState::SynSent | TcpState::SynRecv, ETIMEDOUT) => Self::Timeout(Timeout::Handshake),
            (TcpState::SynSent, _) => Self::Unreachable,
            (_, ETIMEDOUT) => Self::Timeout(timeout(event)),
            // What a router reported last takes the place of ETIMEDOUT (`sk_err_soft`).
            _ if unanswered => Self::Timeout(timeout(event)),
            // The program never fetched an earlier error (IP_RECVERR), and the connection then ended in order.
            (TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck, _) => in_order(*old_state, connection),
            _ => Self::Unknown,
        }
    }
}

/// True if this agent ended the connection: by a reset, which leaves ECONNABORTED, or by a FIN, after which any end counts
/// as its doing. The peer may answer before the FIN is known to have been sent.
fn is_done(pending_close: &PendingClose, event: &Event) -> bool {
    let PendingClose { by_fin, fin_sent, .. } = *pending_close;
    event.errno == ECONNABORTED || fin_sent || by_fin && event.errno == 0 && event.connection.fin_by == FinBy::Local
}

/// Finds the cause where there was no error: the program ended the connection, or both sides did.
fn in_order(old_state: TcpState, connection: &Connection) -> Cause {
    match old_state {
        TcpState::SynSent => Cause::GivenUp,
        // A close with unread data or with SO_LINGER of zero, a connect(AF_UNSPEC), and a listener that closes before it
        // has accepted all send a reset and go to CLOSE in one step (`tcp_close`, `tcp_disconnect`).
        TcpState::SynRecv | TcpState::Established | TcpState::CloseWait | TcpState::FinWait1 => {
            Cause::Reset(Some(Side::Local))
        }
        TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => Cause::Fin(match connection.fin_by {
            FinBy::Local => Side::Local,
            FinBy::Peer => Side::Peer,
            FinBy::Nobody if old_state == TcpState::LastAck => Side::Peer,
            FinBy::Nobody => Side::Local,
        }),
        _ => Cause::Unknown,
    }
}

/// Finds out which timer ran out: see `tcp_keepalive_timer`, `tcp_write_timeout` and `tcp_probe_timer` in
/// net/ipv4/tcp_timer.c.
fn timeout(event: &Event) -> Timeout {
    let summary = &event.summary;
    // A probe may also ask whether the peer's shut window is open again.
    let has_no_keepalive = summary.sk_flags & SOCK_KEEPOPEN == 0;
    if summary.user_timeout_ms != 0 {
        // It overrides every other limit, including the number of keepalive probes.
        Timeout::UserTimeout
    } else if summary.retransmits > 0 || summary.probes == 0 || has_no_keepalive {
        Timeout::Retransmissions
    } else {
        Timeout::Keepalive
    }
}

#[cfg(test)]
mod tests;
