//! How a rule closes connections, which connections it may not close, and what it limits in addition to lifetimes.

use tcpops_common::state::TcpState;

/// What a rule says about closing its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClosePolicy {
    /// Closes an accepted connection that has sent no byte this long after its handshake, nanoseconds; zero: never.
    pub(crate) first_byte_ns: u64,
    /// Closes a connection that has been in CLOSE_WAIT or FIN_WAIT2 this long, nanoseconds; zero: never.
    pub(crate) half_closed_ns: u64,
    /// Gives up an outbound handshake after this long in SYN_SENT, nanoseconds; zero: when the kernel does.
    pub(crate) connect_ns: u64,
    /// How connections are closed.
    pub(crate) manner: Manner,
    /// False: closes are only logged, and not made.
    pub(crate) enforce: bool,
    /// True: no rule closes a connection that this one matches, even where another rule matches it first.
    pub(crate) protect: bool,
}

impl ClosePolicy {
    /// The policy of a rule that says nothing about closing.
    pub(crate) const DEFAULT: Self = Self {
        first_byte_ns: 0,
        half_closed_ns: 0,
        connect_ns: 0,
        manner: Manner::Reset,
        enforce: true,
        protect: false,
    };
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// At once, by a reset: its program gets ECONNABORTED.
    #[default]
    Reset,
    /// By a FIN on its program's behalf, followed by a reset if the connection is still there after the grace.
    Fin {
        /// Nanoseconds.
        grace_ns: u64,
    },
}

/// One step of closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseStep {
    /// Do nothing before this time. This side's FIN was sent already, by its program or by an earlier agent, and the grace
    /// counts from then.
    Wait(u64),
    /// Send a FIN.
    Fin {
        /// How long the connection may then take to end, nanoseconds.
        grace_ns: u64,
    },
    Reset,
}

impl Manner {
    /// The next step for a connection that has been in `state` since `since_boot_ns`.
    ///
    /// The state shows whether this side's FIN was sent, and when, so a grace ends on time even after a restart of the
    /// agent. Before the end of the handshake there is no stream that a FIN could end.
    pub(crate) const fn step(self, state: TcpState, since_boot_ns: u64, now_boot_ns: u64) -> CloseStep {
        let Self::Fin { grace_ns } = self else { return CloseStep::Reset };
        match state {
            TcpState::Established | TcpState::CloseWait => CloseStep::Fin { grace_ns },
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => {
                let end = since_boot_ns.saturating_add(grace_ns);
                if end <= now_boot_ns { CloseStep::Reset } else { CloseStep::Wait(end) }
            }
            _ => CloseStep::Reset,
        }
    }
}

/// The result of closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It was reset. Where a FIN was wanted, this is why none could be sent.
    Reset(Option<&'static str>),
    /// A FIN was sent; the connection is reset at this time of `CLOCK_BOOTTIME`.
    Fin(u64),
}

/// Why no rule may close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// The rule with this id protects it.
    Rule(u32),
    Port(u16),
    /// It is the agent's own.
    Own,
}

/// The bounds on what rules may close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    /// The most closes in a second, by all rules together; `None` for no bound.
    pub(crate) closes_per_second: Option<u32>,
    /// The most closes of one rule in a minute, in percent of the connections that are there when the minute begins.
    pub(crate) percent_per_minute: Option<u8>,
    /// No rule closes a connection that has one of these ports at either end.
    pub(crate) protected_ports: Vec<u16>,
}

impl Default for Guard {
    /// No bounds, but a login by ssh is never closed.
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
            assert_eq!(Manner::Reset.step(state, 5, 10), CloseStep::Reset);
        }
    }

    #[test]
    fn a_fin_comes_before_a_reset_and_its_grace_counts_from_the_state_that_it_led_to() {
        let fin = Manner::Fin { grace_ns: 100 };
        for state in [TcpState::Established, TcpState::CloseWait] {
            assert_eq!(fin.step(state, 5, 1_000), CloseStep::Fin { grace_ns: 100 });
        }
        for state in [TcpState::FinWait1, TcpState::FinWait2, TcpState::Closing, TcpState::LastAck] {
            assert_eq!(fin.step(state, 5, 104), CloseStep::Wait(105));
            assert_eq!(fin.step(state, 5, 105), CloseStep::Reset);
        }
        for state in [TcpState::SynSent, TcpState::SynRecv] {
            assert_eq!(fin.step(state, 5, 6), CloseStep::Reset);
        }
    }
}
