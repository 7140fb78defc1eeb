//! Why a connection ended, and which side began it: from the errno that its socket held, the state that it was in, and
//! what this agent did.
//!
//! The kernel sets `sk_err` before a socket goes to CLOSE where something else than its program ended it (`tcp_reset`,
//! `tcp_write_err`, `tcp_abort` of net/ipv4); where the program did, it is zero.

use tcpops_common::conn::{Connection, Direction, FinBy};
use tcpops_common::event::{Event, SOCK_KEEPOPEN};
use tcpops_common::state::TcpState;

use crate::model::expiry::effects::{CloseReason, PendingClose};
use crate::model::expiry::lifetimes::Expiry;

/// Numbers of include/uapi/asm-generic/errno.h and errno-base.h, as the architectures with BPF have them.
mod errno {
    pub(crate) const EPIPE: u32 = 32;
    pub(crate) const ECONNABORTED: u32 = 103;
    pub(crate) const ECONNRESET: u32 = 104;
    pub(crate) const ETIMEDOUT: u32 = 110;
    pub(crate) const ECONNREFUSED: u32 = 111;
}
use errno::{ECONNABORTED, ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT};

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// This host's.
    Local,
    /// The other.
    Peer,
}

/// What was waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Answers to keepalive probes.
    Keepalive,
    /// An answer, to data or to keepalive probes, within the TCP_USER_TIMEOUT.
    UserTimeout,
    /// An acknowledgement of data or of a FIN that was sent again and again, or the opening of a window that was shut.
    Retransmissions,
    /// An answer to a SYN.
    Handshake,
}

/// Who wanted what this agent enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// The rule with this id.
    Rule(u32),
    /// This uid, by a policy that it pushed for the one connection.
    Override(u32),
}

impl Author {
    /// Of a limit: its rule, or, where that is zero, whoever pushed the lifetimes in force.
    pub(crate) fn of_limit(rule: u32, connection: &Connection) -> Self {
        if rule == 0 { Self::Override(connection.policy.by_uid) } else { Self::Rule(rule) }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// In order: this side's FIN was the first.
    Fin(Side),
    /// Its program gave it up before the handshake was over. Nothing was sent.
    GivenUp,
    /// By a reset from this side; `None` where it cannot be told which: the socket waited for its FIN to be acknowledged,
    /// and either a reset came, or data that nobody would have read, which this host then answered with one.
    Reset(Option<Side>),
    /// The peer did not answer.
    Timeout(Unanswered),
    /// The peer, or a host on the way, refused the handshake.
    Refused,
    /// A host on the way, or this one, said during the handshake that there is no way to the peer.
    Unreachable,
    /// Its time was over, and this agent closed it.
    Expired(Expiry, Author),
    /// This agent closed it since this uid asked for it.
    Request(u32),
    /// Somebody else destroyed the socket, such as `ss -K`.
    Aborted,
    /// It cannot be told.
    Unknown,
}

impl Cause {
    /// The names of all kinds.
    pub(crate) const NAMES: [&str; 8] =
        ["fin", "reset", "timeout", "refused", "expired", "closed_by_request", "aborted", "unknown"];

    /// The place of its name in [`Self::NAMES`].
    pub(crate) const fn number(&self) -> usize {
        match self {
            Self::Fin(_) | Self::GivenUp => 0,
            Self::Reset(_) => 1,
            Self::Timeout(_) => 2,
            Self::Refused | Self::Unreachable => 3,
            Self::Expired(..) => 4,
            Self::Request(_) => 5,
            Self::Aborted => 6,
            Self::Unknown => 7,
        }
    }

    /// The side that began it, where that says something and is known.
    pub(crate) const fn side(&self) -> Option<Side> {
        match self {
            Self::Fin(side) => Some(*side),
            Self::GivenUp => Some(Side::Local),
            Self::Reset(side) => *side,
            _ => None,
        }
    }

    /// The cause of an [`EventKind::Closed`](tcpops_common::event::EventKind::Closed), with what this agent had begun to
    /// close the connection. `None` for a listener, of which the kernel does not tell.
    pub(crate) fn of(event: &Event, pending_close: Option<PendingClose>) -> Option<Self> {
        if event.connection.direction == Direction::Listen {
            return None;
        }
        // One that ended by itself between our decision and our act keeps its own cause.
        let ours = pending_close.filter(|pending_close| is_done(pending_close, event));
        Some(match ours.map(|pending_close| (pending_close.reason, pending_close.rule)) {
            Some((CloseReason::Expired(expiry), rule)) => {
                Self::Expired(expiry, Author::of_limit(rule, &event.connection))
            }
            Some((CloseReason::Request(uid), _)) => Self::Request(uid),
            None => Self::of_others(event),
        })
    }

    fn of_others(event: &Event) -> Self {
        let Event { old_state, errno, connection, summary, .. } = event;
        let unanswered = summary.retransmits > 0 || summary.probes > 0;
        match (*old_state, *errno) {
            (_, 0) => in_order(*old_state, connection),
            (_, ECONNABORTED) => Self::Aborted,
            (TcpState::SynSent, ECONNREFUSED) => Self::Refused,
            (TcpState::FinWait1, ECONNRESET) => Self::Reset(None),
            // To a program that has read the peer's end of file, its reset is EPIPE.
            (_, ECONNRESET | EPIPE) => Self::Reset(Some(Side::Peer)),
            (TcpState::SynSent | TcpState::SynRecv, ETIMEDOUT) => Self::Timeout(Unanswered::Handshake),
            (TcpState::SynSent, _) => Self::Unreachable,
            (_, ETIMEDOUT) => Self::Timeout(timeout(event)),
            // What a router said last takes the place of ETIMEDOUT (`sk_err_soft`).
            _ if unanswered => Self::Timeout(timeout(event)),
            // An error that nobody fetched (IP_RECVERR), of a connection that then ended as others do.
            (TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck, _) => in_order(*old_state, connection),
            _ => Self::Unknown,
        }
    }
}

/// Whether this agent ended it: by a reset, which leaves ECONNABORTED; or by a FIN, after which whatever becomes of the
/// connection is its doing. The peer may answer before it is known that the FIN was sent.
fn is_done(pending_close: &PendingClose, event: &Event) -> bool {
    let PendingClose { by_fin, fin_sent, .. } = *pending_close;
    event.errno == ECONNABORTED || fin_sent || by_fin && event.errno == 0 && event.connection.fin_by == FinBy::Local
}

/// No error: the program ended it, or both sides did.
fn in_order(old_state: TcpState, connection: &Connection) -> Cause {
    match old_state {
        TcpState::SynSent => Cause::GivenUp,
        // Closing with data unread, with SO_LINGER of zero, or by connect(AF_UNSPEC) sends a reset and goes to CLOSE in
        // one step (`tcp_close`, `tcp_disconnect`); so does a listener that closes before it has accepted.
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

/// For what the kernel waited: `tcp_keepalive_timer`, `tcp_write_timeout` and `tcp_probe_timer` of net/ipv4/tcp_timer.c.
fn timeout(event: &Event) -> Unanswered {
    let summary = &event.summary;
    // A probe may also ask whether a window that the peer had shut is open again.
    let has_no_keepalive = summary.sk_flags & SOCK_KEEPOPEN == 0;
    if summary.user_timeout_ms != 0 {
        // It overrides every other limit, the number of keepalive probes too.
        Unanswered::UserTimeout
    } else if summary.retransmits > 0 || summary.probes == 0 || has_no_keepalive {
        Unanswered::Retransmissions
    } else {
        Unanswered::Keepalive
    }
}

#[cfg(test)]
mod tests;
