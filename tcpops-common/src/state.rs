//! TCP states as the kernel numbers them, and the codes that `tcpops state` answers with.

use bytemuck::{CheckedBitPattern, NoUninit};
use strum::{FromRepr, IntoStaticStr, VariantArray};

/// A TCP state, numbered as in the kernel's `include/net/tcp_states.h`; the names are those of RFC 9293.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    NoUninit,
    CheckedBitPattern,
    FromRepr,
    IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
#[repr(u8)]
pub enum TcpState {
    /// A number that this program does not know (a newer kernel's).
    #[default]
    Unknown = 0,
    /// Data flows.
    Established = 1,
    /// A SYN was sent; the peer has not answered.
    SynSent = 2,
    /// A SYN came in; the handshake is not complete.
    SynRecv = 3,
    /// This side sent a FIN that is not acknowledged.
    #[strum(serialize = "fin-wait-1")]
    FinWait1 = 4,
    /// This side's FIN is acknowledged; the peer has not closed.
    #[strum(serialize = "fin-wait-2")]
    FinWait2 = 5,
    /// Both sides closed; the kernel waits for stray segments.
    TimeWait = 6,
    /// No connection.
    Close = 7,
    /// The peer closed; this side has not.
    CloseWait = 8,
    /// The peer closed, then this side; its FIN is not acknowledged.
    LastAck = 9,
    /// The socket accepts connections.
    Listen = 10,
    /// Both sides closed at once.
    Closing = 11,
    /// A request socket: a SYN came in and no full socket exists yet.
    NewSynRecv = 12,
}

impl TcpState {
    /// Every state, in the kernel's order.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The state with the kernel's number `number`; [`TcpState::Unknown`] for a number that is not listed above.
    pub fn from_kernel(number: u32) -> Self {
        u8::try_from(number).ok().and_then(Self::from_repr).unwrap_or(Self::Unknown)
    }

    /// The lower-case name that the API and the command line use, spelled as `ss` spells it where it has one.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The codes of `tcp_conid_state`, each of them reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[repr(i8)]
pub enum StateCode {
    /// The connection is established.
    Ok = 1,
    /// The socket listens, or a handshake from outside is under way.
    Accepting = 2,
    /// A handshake to the outside is under way.
    Connecting = 3,
    /// There is no such connection (any more).
    None = -1,
    /// One side has closed, or both.
    Eof = -2,
    /// The socket holds an error, or it retransmits with back-off and gets no answer.
    Error = -3,
    /// The state cannot be told.
    Bad = -4,
}

impl StateCode {
    /// The number, as the module answers it.
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// The name that goes with the number.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The answer of `tcp_conid_alive`: true from code 1 upward.
    pub const fn alive(self) -> bool {
        self.code() >= 1
    }

    /// The code of a connection in `state`; `failing` says that its socket holds an error, or that it retransmits
    /// with back-off and no answer.
    ///
    /// `failing` matters to an established connection only: a handshake that repeats its SYN is still connecting, and
    /// of a connection that is closing anyway the end is the stronger news.
    pub const fn classify(state: TcpState, failing: bool) -> Self {
        match state {
            TcpState::Established if failing => Self::Error,
            TcpState::Established => Self::Ok,
            TcpState::Listen | TcpState::SynRecv | TcpState::NewSynRecv => Self::Accepting,
            TcpState::SynSent => Self::Connecting,
            TcpState::Close | TcpState::TimeWait => Self::None,
            TcpState::CloseWait | TcpState::LastAck | TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing => {
                Self::Eof
            }
            TcpState::Unknown => Self::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for &state in TcpState::ALL {
            assert_eq!(TcpState::from_kernel(state as u32), state);
        }
        assert_eq!([13, 257, u32::MAX].map(TcpState::from_kernel), [TcpState::Unknown; 3]);
    }

    #[test]
    fn codes_are_those_of_the_design() {
        use TcpState::*;
        let code = |state, failing| StateCode::classify(state, failing).code();
        assert_eq!(code(Established, false), 1);
        assert_eq!(code(Established, true), -3);
        for failing in [false, true] {
            assert_eq!([Listen, SynRecv, NewSynRecv].map(|state| code(state, failing)), [2; 3]);
            assert_eq!(code(SynSent, failing), 3);
            assert_eq!([Close, TimeWait].map(|state| code(state, failing)), [-1; 2]);
            assert_eq!([CloseWait, LastAck, FinWait1, FinWait2, Closing].map(|state| code(state, failing)), [-2; 5]);
            assert_eq!(code(Unknown, failing), -4);
        }
    }

    #[test]
    fn alive_means_a_positive_code() {
        let alive = TcpState::ALL.iter().filter(|state| StateCode::classify(**state, false).alive());
        assert_eq!(alive.count(), 5);
    }

    #[test]
    fn names_are_those_of_the_documents() {
        let states = [
            "unknown",
            "established",
            "syn-sent",
            "syn-recv",
            "fin-wait-1",
            "fin-wait-2",
            "time-wait",
            "close",
            "close-wait",
            "last-ack",
            "listen",
            "closing",
            "new-syn-recv",
        ];
        assert!(TcpState::ALL.iter().map(|state| state.name()).eq(states));
        let codes = [StateCode::Ok, StateCode::Accepting, StateCode::Connecting, StateCode::None, StateCode::Eof];
        assert_eq!(codes.map(StateCode::name), ["ok", "accepting", "connecting", "none", "eof"]);
        assert_eq!([StateCode::Error, StateCode::Bad].map(StateCode::name), ["error", "bad"]);
    }
}
