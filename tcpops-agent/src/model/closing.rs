//! How connections are closed, and what a rule limits beside lifetimes.

use tcpops_common::state::TcpState;

/// What a rule says about closing its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// An accepted connection is closed that sent no byte for so long after its handshake, nanoseconds; zero: never.
    pub first_byte_ns: u64,
    /// A connection is closed that is in CLOSE_WAIT or FIN_WAIT2 for so long, nanoseconds; zero: never.
    pub half_closed_ns: u64,
    /// A handshake to the outside is given up after so long in SYN_SENT, nanoseconds; zero: when the kernel does.
    pub connect_ns: u64,
    /// How they are closed.
    pub manner: Manner,
    /// False: what would be closed is only logged.
    pub enforce: bool,
    /// Whether connections that it matches are never closed by a rule, whichever rule matches them first.
    pub protect: bool,
}

impl Closing {
    /// What a rule wants that says nothing about it.
    pub const DEFAULT: Self = Self {
        first_byte_ns: 0,
        half_closed_ns: 0,
        connect_ns: 0,
        manner: Manner::Reset,
        enforce: true,
        protect: false,
    };

    /// Whether it limits how long a connection may be in some state.
    pub const fn has_limit(&self) -> bool {
        self.first_byte_ns != 0 || self.half_closed_ns != 0 || self.connect_ns != 0
    }
}

impl Default for Closing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// By a reset, at once: its program gets ECONNABORTED.
    #[default]
    Reset,
    /// By a FIN on its program's behalf, and by a reset where it is still there after the grace.
    Fin {
        /// Nanoseconds.
        grace_ns: u64,
    },
}

/// A step of closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this time: this side's FIN was sent already, by its program or by an agent before, and the grace
    /// counts from then.
    Wait(u64),
    /// Send a FIN.
    Fin {
        /// How long the connection may then take to end, nanoseconds.
        grace_ns: u64,
    },
    /// Reset it.
    Reset,
}

impl Manner {
    /// The next step with a connection that has been in `state` since `since_boot_ns`.
    ///
    /// A state says whether this side's FIN was sent, and when: so a grace that has begun ends on time although the agent
    /// that began it is gone. Before the end of the handshake there is no stream to be ended by a FIN.
    pub const fn step(self, state: TcpState, since_boot_ns: u64, now_boot_ns: u64) -> Step {
        let Self::Fin { grace_ns } = self else { return Step::Reset };
        match state {
            TcpState::Established | TcpState::CloseWait => Step::Fin { grace_ns },
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => {
                let end = since_boot_ns.saturating_add(grace_ns);
                if end <= now_boot_ns { Step::Reset } else { Step::Wait(end) }
            }
            _ => Step::Reset,
        }
    }
}

/// What came of closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It was reset; where a FIN was wanted, with the reason why that could not be.
    Reset(Option<&'static str>),
    /// It was sent a FIN, and is reset at this time of `CLOCK_BOOTTIME`.
    Fin(u64),
}

/// Why no rule closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The rule with this id protects it.
    Rule(u32),
    /// It has this port at one end.
    Port(u16),
    /// It is the agent's own.
    Own,
}

/// What keeps rules from closing too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The most closes in a second, by all rules together; no bound where it is not there.
    pub closes_per_second: Option<u32>,
    /// The most closes of one rule in a minute, in percent of the connections that live when the minute begins.
    pub percent_per_minute: Option<u8>,
    /// No rule closes a connection with one of these ports at either end.
    pub protected_ports: Vec<u16>,
}

impl Default for Guard {
    /// No bounds; who is logged in by ssh stays so.
    fn default() -> Self {
        Self { closes_per_second: None, percent_per_minute: None, protected_ports: vec![22] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_takes_one_step() {
        for &state in TcpState::ALL {
            assert_eq!(Manner::Reset.step(state, 5, 10), Step::Reset);
        }
    }

    #[test]
    fn a_fin_comes_before_a_reset_and_its_grace_counts_from_the_state_that_it_led_to() {
        let fin = Manner::Fin { grace_ns: 100 };
        for state in [TcpState::Established, TcpState::CloseWait] {
            assert_eq!(fin.step(state, 5, 1_000), Step::Fin { grace_ns: 100 });
        }
        for state in [TcpState::FinWait1, TcpState::FinWait2, TcpState::Closing, TcpState::LastAck] {
            assert_eq!(fin.step(state, 5, 104), Step::Wait(105));
            assert_eq!(fin.step(state, 5, 105), Step::Reset);
        }
        for state in [TcpState::SynSent, TcpState::SynRecv] {
            assert_eq!(fin.step(state, 5, 6), Step::Reset);
        }
    }
}
