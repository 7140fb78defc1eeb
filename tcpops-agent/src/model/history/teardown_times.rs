//! When connections left ESTABLISHED. Their entries have no room for it, so the agent remembers it, but only of the
//! connections that have begun to close.

use std::collections::HashMap;

use tcpops_common::conn::ConnKey;
use tcpops_common::event::{Event, EventKind};
use tcpops_common::state::TcpState;

/// When a connection began to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Teardown {
    /// When it left ESTABLISHED.
    pub(crate) left_boot_ns: u64,
    /// When its last state began.
    pub(crate) since_boot_ns: u64,
}

/// The times of the connections that are closing.
#[derive(Clone, Debug, Default)]
pub(crate) struct TeardownTimes(HashMap<ConnKey, Teardown>);

impl TeardownTimes {
    /// Takes in the events, in order. At a connection's end, returns its times and forgets them.
    pub(crate) fn note(&mut self, event: &Event) -> Option<Teardown> {
        match event.kind {
            EventKind::Transition => self.note_transition(event),
            EventKind::Closed => return self.0.remove(&event.key),
            EventKind::Opened | EventKind::Applied => {}
        }
        None
    }

    fn note_transition(&mut self, event: &Event) {
        let Event { at_boot_ns, key, old_state, new_state, .. } = *event;
        if old_state == TcpState::Established && new_state != TcpState::Established {
            let teardown = Teardown { left_boot_ns: at_boot_ns, since_boot_ns: at_boot_ns };
            self.0.insert(key, teardown);
        } else if old_state != new_state
            && let Some(teardown) = self.0.get_mut(&key)
        {
            // A close(2) after a shutdown(2) is reported as a transition from a state to itself (`tcp_close_state` in
            // net/ipv4/tcp.c), and is not one.
            teardown.since_boot_ns = at_boot_ns;
        }
    }

    /// Forgets all connections, because events were lost that may have ended some of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use tcpops_common::event::Summary;

    use super::*;
    use crate::model::testing::connection;

    const KEY: ConnKey = ConnKey { cookie: 9, conid: 1 };

    fn event(at_boot_ns: u64, kind: EventKind, old_state: TcpState, new_state: TcpState) -> Event {
        Event {
            at_boot_ns,
            key: KEY,
            kind,
            old_state,
            new_state,
            flags: 0,
            errno: 0,
            connection: connection(),
            summary: Summary::NONE,
        }
    }

    #[test]
    fn only_what_has_left_is_remembered_and_only_while_it_lives() {
        use EventKind::{Closed, Opened, Transition};
        use TcpState::{Close, Established, FinWait1, FinWait2, SynSent};
        let mut teardown_times = TeardownTimes::default();
        for (at, kind, old, new) in [
            (10, Opened, Close, SynSent),
            (20, Transition, SynSent, Established),
            (30, Transition, Established, FinWait1),
            (40, Transition, FinWait1, FinWait2),
        ] {
            assert_eq!(teardown_times.note(&event(at, kind, old, new)), None);
            assert_eq!(teardown_times.0.len(), usize::from(at >= 30));
        }
        let left = Teardown { left_boot_ns: 30, since_boot_ns: 40 };
        let mut other = teardown_times.clone();
        assert_eq!(teardown_times.note(&event(50, Closed, FinWait2, Close)), Some(left));
        assert!(teardown_times.0.is_empty());
        // Its program closed it meanwhile: FIN_WAIT2 began when it began.
        assert_eq!(other.note(&event(45, Transition, FinWait2, FinWait2)), None);
        assert_eq!(other.note(&event(50, Closed, FinWait2, Close)), Some(left));
    }
}
