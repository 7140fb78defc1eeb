//! A summary of a connection from its beginning to its end.

use tcpops_common::conn::{Direction, Origin};
use tcpops_common::event::{Event, SOCK_DONE, Summary};
use tcpops_common::state::TcpState;

use crate::model::history::cause::Cause;

/// How a connection or listener ended, and what it did. Times are of `CLOCK_BOOTTIME`, zero where they are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Why it ended; `None` for a listener.
    pub(crate) cause: Option<Cause>,
    /// Its last state.
    pub(crate) state: TcpState,
    /// Its socket's errno; zero for none.
    pub(crate) errno: u16,
    /// Its first state, where its beginning was seen.
    pub(crate) first_state: Option<TcpState>,
    /// When it was opened, or adopted.
    pub(crate) opened_boot_ns: u64,
    /// When its handshake ended; the same as `opened_boot_ns` where it was adopted later.
    pub(crate) established_boot_ns: u64,
    /// When it left ESTABLISHED.
    pub(crate) left_boot_ns: u64,
    /// When its last state began.
    pub(crate) since_boot_ns: u64,
    pub(crate) ended_boot_ns: u64,
    /// Bytes of data received.
    pub(crate) bytes_in: u64,
    /// Bytes of data sent, without retransmissions.
    pub(crate) bytes_out: u64,
    /// Segments that were retransmitted.
    pub(crate) retransmissions: u32,
    /// Milliseconds since the last byte of data was sent or received; `None` where no data could flow.
    pub(crate) idle_ms: Option<u32>,
}

impl Ending {
    /// Reads an [`EventKind::Closed`](tcpops_common::event::EventKind::Closed).
    pub(crate) fn of(event: &Event, cause: Option<Cause>) -> Self {
        let Event { connection, summary, .. } = event;
        let saw_beginning = connection.origin == Origin::Handshake;
        Self {
            cause,
            state: event.old_state,
            errno: u16::try_from(event.errno).unwrap_or(0),
            first_state: saw_beginning.then_some(match connection.direction {
                Direction::Outbound => TcpState::SynSent,
                Direction::Inbound => TcpState::SynRecv,
                Direction::Listen => TcpState::Listen,
            }),
            opened_boot_ns: connection.opened_boot_ns,
            established_boot_ns: connection.established_boot_ns,
            left_boot_ns: event.left_boot_ns,
            since_boot_ns: connection.state_since_boot_ns,
            ended_boot_ns: event.at_boot_ns,
            bytes_in: bytes_in(summary),
            bytes_out: summary.bytes_sent,
            retransmissions: summary.total_retrans,
            idle_ms: (connection.established_boot_ns != 0).then_some(summary.idle_ms),
        }
    }

    /// How long it was open, nanoseconds.
    pub(crate) fn age_ns(&self) -> u64 {
        self.ended_boot_ns.saturating_sub(self.opened_boot_ns)
    }

    /// How long it was in each state, nanoseconds, in order. ESTABLISHED and the state after it are left out where the agent
    /// did not run at the time.
    pub(crate) fn stays(&self) -> impl Iterator<Item = (TcpState, u64)> {
        let until = |end: u64, start: u64| end.saturating_sub(start);
        let last = (self.state, until(self.ended_boot_ns, self.since_boot_ns));
        let established = self.established_boot_ns;
        // The first state ends where ESTABLISHED begins, or the state after it.
        let handshake_end = if established == 0 { self.since_boot_ns } else { established };
        let handshake = self
            .first_state
            .filter(|state| *state != self.state)
            .map(|state| (state, until(handshake_end, self.opened_boot_ns)));
        let middle_state = match self.state {
            TcpState::FinWait2 | TcpState::Closing => Some(TcpState::FinWait1),
            TcpState::LastAck => Some(TcpState::CloseWait),
            _ => None,
        };
        // With no state between, the last one began when ESTABLISHED ended.
        let left = match (self.left_boot_ns, middle_state) {
            (0, None) => self.since_boot_ns,
            (left, _) => left,
        };
        let is_known = established != 0 && left > established && self.state != TcpState::Established;
        let in_established = is_known.then(|| (TcpState::Established, until(left, established)));
        let middle = middle_state.filter(|_| left != 0).map(|state| (state, until(self.since_boot_ns, left)));
        [handshake, in_established, middle, Some(last)].into_iter().flatten()
    }
}

/// Counts the bytes of data: the peer's FIN adds one to `bytes_received` (`tcp_rcv_nxt_update` in net/ipv4/tcp_input.c).
/// A socket that its program has closed leaves FIN_WAIT2 at once (`tcp_time_wait`); the peer's FIN comes after its end.
fn bytes_in(summary: &Summary) -> u64 {
    summary.bytes_received.saturating_sub(u64::from(summary.sk_flags & SOCK_DONE != 0))
}

#[cfg(test)]
mod tests {
    use tcpops_common::conn::{ConnKey, Connection};
    use tcpops_common::event::EventKind;

    use super::*;
    use crate::model::testing::connection;

    fn closed(old_state: TcpState, state_since_boot_ns: u64, at_boot_ns: u64) -> Event {
        Event {
            at_boot_ns,
            key: ConnKey { cookie: 9, conid: 1 },
            kind: EventKind::Closed,
            old_state,
            new_state: TcpState::Close,
            flags: 0,
            errno: 0,
            left_boot_ns: 0,
            connection: Connection { state: old_state, state_since_boot_ns, ..connection() },
            summary: Summary { bytes_received: 5, ..Summary::NONE },
        }
    }

    fn stays(event: &Event) -> Vec<(TcpState, u64)> {
        Ending::of(event, None).stays().collect()
    }

    /// The connection was opened at 100 and established at 200.
    #[test]
    fn the_time_in_each_state_adds_up() {
        use TcpState::*;
        let left = |left_boot_ns, event| Event { left_boot_ns, ..event };
        for (event, expected) in [
            (closed(Established, 200, 900), vec![(SynSent, 100), (Established, 700)]),
            (left(700, closed(FinWait1, 700, 900)), vec![(SynSent, 100), (Established, 500), (FinWait1, 200)]),
            (
                left(700, closed(FinWait2, 800, 900)),
                vec![(SynSent, 100), (Established, 500), (FinWait1, 100), (FinWait2, 100)],
            ),
            (
                left(700, closed(LastAck, 800, 900)),
                vec![(SynSent, 100), (Established, 500), (CloseWait, 100), (LastAck, 100)],
            ),
            // Nobody remembers when it left ESTABLISHED: that is known only where one state followed.
            (closed(CloseWait, 700, 900), vec![(SynSent, 100), (Established, 500), (CloseWait, 200)]),
            (closed(LastAck, 800, 900), vec![(SynSent, 100), (LastAck, 100)]),
        ] {
            assert_eq!(stays(&event), expected, "{:?}", event.old_state);
        }
    }

    #[test]
    fn what_was_never_established_has_one_state() {
        let mut event = closed(TcpState::SynSent, 100, 900);
        event.connection.established_boot_ns = 0;
        assert_eq!(stays(&event), [(TcpState::SynSent, 800)]);
        assert_eq!(Ending::of(&event, None).idle_ms, None);
        event.connection.direction = Direction::Listen;
        event.old_state = TcpState::Listen;
        assert_eq!(stays(&event), [(TcpState::Listen, 800)]);
    }

    #[test]
    fn of_an_adopted_connection_only_what_was_seen_counts() {
        let mut event = closed(TcpState::CloseWait, 200, 900);
        event.connection.origin = Origin::Adopted;
        event.connection.opened_boot_ns = 200;
        assert_eq!(stays(&event), [(TcpState::CloseWait, 700)]);
        event.connection.state_since_boot_ns = 500;
        assert_eq!(stays(&event), [(TcpState::Established, 300), (TcpState::CloseWait, 400)]);
    }

    #[test]
    fn the_fin_of_the_peer_is_no_byte() {
        let mut event = closed(TcpState::FinWait2, 200, 1_000_000);
        assert_eq!(Ending::of(&event, None).bytes_in, 5);
        event.summary.sk_flags = SOCK_DONE;
        assert_eq!(Ending::of(&event, None).bytes_in, 4);
    }
}
