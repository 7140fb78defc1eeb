//! What the agent keeps of connections, and what it decides about them. Everything else is read from the maps when it
//! is needed: they are the truth.

use std::collections::HashMap;

use tcpops_common::conn::ConnKey;
use tcpops_common::event::{EVENT_HAS_LIFETIME, Event, EventKind};
use tcpops_common::state::TcpState;

use super::deadlines::Deadlines;
use super::lifetimes::{Expiry, Subject, Verdict, judge};

/// How long to wait before a close that failed is tried again.
const RETRY_NS: u64 = 1_000_000_000;

/// What the agent learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something happened to a connection.
    Event(Event),
    /// The time has come that [`Connections::next_due`] gave.
    Due,
    /// An [`Effect::Inspect`] was done.
    Inspected {
        /// The connection.
        key: ConnKey,
        /// What its entry says; `None` if it is gone or has no limits.
        subject: Option<Subject>,
        /// How long ago its last byte was, where that was asked for.
        idle_ns: Option<u64>,
    },
    /// This agent is about to close it, for this reason.
    Closing(ConnKey, CloseReason),
    /// An attempt to close it came to nothing; it may be tried again.
    CloseFailed(ConnKey),
    /// Everything is forgotten; these are all connections, with what their entries say.
    Resync(Vec<(ConnKey, Option<Subject>)>),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read its entry, and with `look` how long it has been idle; then say [`Input::Inspected`].
    Inspect {
        /// The connection.
        key: ConnKey,
        /// Whether to ask the kernel how long it has been idle.
        look: bool,
    },
    /// Close it: its time is over.
    Expire(ConnKey, Expiry),
    /// Say that it ended, for a reason of this agent's or another.
    Ended(ConnKey, Option<CloseReason>, Event),
}

/// Why this agent closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Its lifetime was over.
    Expired(Expiry),
    /// This uid asked for it.
    Request(u32),
}

/// The connections.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    conids: HashMap<u64, u64>,
    deadlines: Deadlines,
    closing: HashMap<ConnKey, CloseReason>,
}

impl Connections {
    /// Takes `input` in, and puts what is to be done at the end of `effects`.
    pub fn apply(&mut self, now_boot_ns: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Event(event) => self.event(event, effects),
            Input::Due => {
                while let Some(key) = self.deadlines.pop_due(now_boot_ns) {
                    effects.push(Effect::Inspect { key, look: false });
                }
            }
            Input::Inspected { key, subject, idle_ns } => self.inspected(now_boot_ns, key, subject, idle_ns, effects),
            Input::Closing(key, reason) => {
                self.closing.insert(key, reason);
            }
            Input::CloseFailed(key) => {
                self.closing.remove(&key);
                self.deadlines.set(key, now_boot_ns.saturating_add(RETRY_NS));
            }
            Input::Resync(connections) => {
                *self = Self { closing: std::mem::take(&mut self.closing), ..Self::default() };
                for (key, subject) in connections {
                    self.conids.insert(key.cookie, key.conid);
                    self.inspected(now_boot_ns, key, subject, None, effects);
                }
                self.closing.retain(|key, _| self.conids.get(&key.cookie) == Some(&key.conid));
            }
        }
    }

    /// When [`Input::Due`] is to be said.
    pub fn next_due(&self) -> Option<u64> {
        self.deadlines.first()
    }

    /// The conid that the socket with this cookie has now, as far as events have told.
    pub fn conid(&self, cookie: u64) -> Option<u64> {
        self.conids.get(&cookie).copied()
    }

    /// How many connections there are, as far as events have told.
    pub fn tracked(&self) -> usize {
        self.conids.len()
    }

    /// The close that was announced came to nothing, and is not tried again.
    pub fn forget_closing(&mut self, key: ConnKey) {
        self.closing.remove(&key);
    }

    /// How many connections have a limit that is being watched.
    pub fn watched(&self) -> usize {
        self.deadlines.len()
    }

    fn event(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let Event { key, kind, .. } = event;
        match kind {
            EventKind::Opened => {
                self.conids.insert(key.cookie, key.conid);
            }
            EventKind::Transition | EventKind::Applied => {
                // An event may be older than what was pushed since, so it says only where to look: a connection that has
                // a limit, or had one.
                let may_have_limit = event.flags & EVENT_HAS_LIFETIME != 0 || self.deadlines.contains(key);
                if may_have_limit && event.new_state != TcpState::SynRecv {
                    effects.push(Effect::Inspect { key, look: false });
                }
            }
            EventKind::Closed => {
                // The socket may have its next conid already, where the record of its opening came first.
                if self.conids.get(&key.cookie) == Some(&key.conid) {
                    self.conids.remove(&key.cookie);
                }
                self.deadlines.remove(key);
                effects.push(Effect::Ended(key, self.closing.remove(&key), event));
            }
        }
    }

    fn inspected(
        &mut self,
        now_boot_ns: u64,
        key: ConnKey,
        subject: Option<Subject>,
        idle_ns: Option<u64>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(subject) = subject else {
            self.deadlines.remove(key);
            return;
        };
        match judge(&subject, idle_ns, now_boot_ns) {
            Verdict::Wait => self.deadlines.remove(key),
            Verdict::At(at_boot_ns) => self.deadlines.set(key, at_boot_ns),
            Verdict::LookIdle => effects.push(Effect::Inspect { key, look: true }),
            Verdict::Expired(expiry) => {
                self.deadlines.remove(key);
                effects.push(Effect::Expire(key, expiry));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpops_common::policy::Lifetime;

    use super::*;

    const KEY: ConnKey = ConnKey { cookie: 9, conid: 1 };

    fn event(kind: EventKind, new_state: TcpState, flags: u8) -> Event {
        Event { at_boot_ns: 0, key: KEY, kind, old_state: TcpState::Close, new_state, flags, errno: 0 }
    }

    fn apply(connections: &mut Connections, now_boot_ns: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        connections.apply(now_boot_ns, input, &mut effects);
        effects
    }

    fn inspected(lifetime: Lifetime, idle_ns: Option<u64>) -> Input {
        let subject = Some(Subject { key: KEY, established_boot_ns: 100, lifetime });
        Input::Inspected { key: KEY, subject, idle_ns }
    }

    #[test]
    fn an_idle_connection_is_looked_at_then_closed() {
        let mut connections = Connections::default();
        let idle = Lifetime { idle_ns: 50, ..Lifetime::NONE };
        assert!(apply(&mut connections, 100, Input::Event(event(EventKind::Opened, TcpState::SynSent, 0))).is_empty());
        let established = event(EventKind::Transition, TcpState::Established, EVENT_HAS_LIFETIME);
        let effects = apply(&mut connections, 100, Input::Event(established));
        assert_eq!(effects, [Effect::Inspect { key: KEY, look: false }]);
        assert!(apply(&mut connections, 100, inspected(idle, None)).is_empty());
        assert_eq!(connections.next_due(), Some(150));
        assert_eq!(apply(&mut connections, 150, Input::Due), [Effect::Inspect { key: KEY, look: false }]);
        assert_eq!(apply(&mut connections, 150, inspected(idle, None)), [Effect::Inspect { key: KEY, look: true }]);
        // A byte came 10 ns ago.
        assert!(apply(&mut connections, 150, inspected(idle, Some(10))).is_empty());
        assert_eq!(connections.next_due(), Some(190));
        assert_eq!(apply(&mut connections, 190, inspected(idle, Some(50))), [Effect::Expire(KEY, Expiry::Idle)]);
        assert_eq!(connections.next_due(), None);
        let reason = CloseReason::Expired(Expiry::Idle);
        apply(&mut connections, 190, Input::Closing(KEY, reason));
        let closed = event(EventKind::Closed, TcpState::Close, 0);
        assert_eq!(apply(&mut connections, 191, Input::Event(closed)), [Effect::Ended(KEY, Some(reason), closed)]);
        assert_eq!(connections.conid(9), None);
    }

    #[test]
    fn a_close_that_failed_is_tried_again() {
        let mut connections = Connections::default();
        apply(&mut connections, 5, Input::CloseFailed(KEY));
        assert_eq!(connections.next_due(), Some(5 + RETRY_NS));
    }

    #[test]
    fn a_lifetime_that_is_cleared_is_no_longer_watched() {
        let mut connections = Connections::default();
        apply(&mut connections, 100, inspected(Lifetime { max_age_ns: 50, ..Lifetime::NONE }, None));
        assert_eq!(connections.watched(), 1);
        apply(&mut connections, 100, Input::Inspected { key: KEY, subject: None, idle_ns: None });
        assert_eq!(connections.watched(), 0);
    }

    #[test]
    fn an_event_that_is_older_than_a_push_takes_no_limit_away() {
        let mut connections = Connections::default();
        apply(&mut connections, 100, inspected(Lifetime { max_age_ns: 50, ..Lifetime::NONE }, None));
        // It was written before the push, and read after it.
        let older = event(EventKind::Transition, TcpState::FinWait2, 0);
        assert_eq!(apply(&mut connections, 101, Input::Event(older)), [Effect::Inspect { key: KEY, look: false }]);
        assert_eq!(connections.next_due(), Some(150));
    }

    #[test]
    fn a_socket_that_connects_again_keeps_its_new_conid() {
        let mut connections = Connections::default();
        let opened = event(EventKind::Opened, TcpState::SynSent, 0);
        let again = Event { key: ConnKey { conid: 2, ..KEY }, ..opened };
        apply(&mut connections, 0, Input::Event(opened));
        apply(&mut connections, 0, Input::Event(again));
        apply(&mut connections, 0, Input::Event(event(EventKind::Closed, TcpState::Close, 0)));
        assert_eq!(connections.conid(9), Some(2));
    }

    #[test]
    fn resync_forgets_what_is_gone() {
        let mut connections = Connections::default();
        apply(&mut connections, 100, inspected(Lifetime { max_age_ns: 50, ..Lifetime::NONE }, None));
        let other = ConnKey { cookie: 7, conid: 3 };
        apply(&mut connections, 100, Input::Resync(vec![(other, None)]));
        assert_eq!((connections.watched(), connections.conid(9), connections.conid(7)), (0, None, Some(3)));
    }
}
