use proptest::prelude::*;
use tcpops_common::conn::Connection;
use tcpops_common::event::Summary;

use super::*;
use crate::model::expiry::closing::{CloseStep, Manner};
use crate::model::expiry::effects::{CloseReason, PendingClose};
use crate::model::expiry::enforcer::RETRY_NS;
use crate::model::expiry::lifetimes::{Candidate, Expiry, Limits, Look, judge};
use crate::model::testing::{candidate, connection};

const KEY: ConnKey = ConnKey { cookie: 9, conid: 1 };

fn event(kind: EventKind, new_state: TcpState, flags: u8) -> Event {
    Event {
        at_boot_ns: 0,
        key: KEY,
        kind,
        old_state: TcpState::Close,
        new_state,
        flags,
        errno: 0,
        connection: connection(),
        summary: Summary::NONE,
    }
}

fn apply(connections: &mut Connections, now_boot_ns: u64, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    connections.apply(now_boot_ns, input, &mut effects);
    effects.retain(|effect| !matches!(effect, Effect::Happened(_)));
    effects
}

fn open() -> Connections {
    let mut connections = Connections::default();
    assert!(apply(&mut connections, 90, Input::Event(event(EventKind::Opened, TcpState::SynSent, 0))).is_empty());
    connections
}

fn inspection(limits: Limits, idle_ns: Option<u64>, at_boot_ns: u64) -> Input {
    let look = idle_ns.map(|idle_ns| Look { idle_ns, bytes_received: 1 });
    let candidate = Candidate { key: KEY, limits, ..candidate() };
    Input::Inspected(KEY, Some(Inspection { candidate, look, protection: None, at_boot_ns }))
}

const AGED: Limits =
    Limits { max_age_ns: 50, idle_ns: 0, deadline_boot_ns: 0, first_byte_ns: 0, half_closed_ns: 0, connect_ns: 0 };

/// The close that an order began.
fn begun(order: CloseOrder, fin_sent: bool) -> Option<PendingClose> {
    let CloseOrder { reason, rule, step, .. } = order;
    Some(PendingClose { reason, rule, by_fin: matches!(step, CloseStep::Fin { .. }), fin_sent })
}

#[test]
fn an_idle_connection_is_looked_at_then_closed() {
    let mut connections = open();
    let idle = Limits { idle_ns: 50, ..Limits::default() };
    let established = event(EventKind::Transition, TcpState::Established, EVENT_HAS_LIFETIME);
    assert_eq!(apply(&mut connections, 100, Input::Event(established)), [Effect::Inspect(KEY)]);
    assert!(apply(&mut connections, 100, inspection(idle, None, 100)).is_empty());
    assert_eq!(connections.next_due(), Some(150));
    assert_eq!(apply(&mut connections, 150, Input::Due), [Effect::Inspect(KEY)]);
    // A byte came 10 ns ago.
    assert!(apply(&mut connections, 151, inspection(idle, Some(10), 150)).is_empty());
    assert_eq!(connections.next_due(), Some(190));
    let reason = CloseReason::Expired(Expiry::Idle);
    let close =
        CloseOrder { key: KEY, reason, step: CloseStep::Reset, is_first: true, rule: 0, due_boot_ns: Some(190) };
    assert_eq!(apply(&mut connections, 191, inspection(idle, Some(50), 190)), [Effect::Close(close)]);
    assert_eq!(connections.next_due(), None);
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    assert_eq!(apply(&mut connections, 191, Input::Event(closed)), [Effect::Ended(begun(close, false), closed)]);
    assert_eq!(connections.conid(9), None);
}

#[test]
fn the_limit_of_a_handshake_is_watched_from_its_beginning() {
    let mut connections = Connections::default();
    let opened = event(EventKind::Opened, TcpState::SynSent, EVENT_HAS_LIFETIME);
    assert_eq!(apply(&mut connections, 90, Input::Event(opened)), [Effect::Inspect(KEY)]);
}

#[test]
fn a_close_that_failed_is_tried_again() {
    let mut connections = open();
    assert_eq!(apply(&mut connections, 150, inspection(AGED, None, 150)).len(), 1);
    apply(&mut connections, 151, Input::CloseFailed(KEY));
    assert_eq!(connections.next_due(), Some(151 + RETRY_NS));
    assert_eq!(apply(&mut connections, 200, inspection(AGED, None, 200)).len(), 1);
    // And one that cannot succeed is not.
    apply(&mut connections, 201, Input::NotClosed(KEY));
    assert_eq!(connections.next_due(), None);
}

#[test]
fn a_fin_is_followed_by_a_reset_even_where_the_limit_is_gone() {
    let mut connections = open();
    let reason = CloseReason::Request(7);
    let step = CloseStep::Fin { grace_ns: 349 };
    let fin = CloseOrder { key: KEY, reason, step, is_first: true, rule: 0, due_boot_ns: None };
    apply(&mut connections, 150, Input::Closing(fin));
    apply(&mut connections, 151, Input::FinSent(KEY, 500));
    assert_eq!(apply(&mut connections, 152, Input::Inspected(KEY, None)), []);
    assert_eq!(connections.next_due(), Some(500));
    let all = vec![Known { key: KEY, listens: false, verdict: None }];
    apply(&mut connections, 153, Input::Resync(all));
    apply(&mut connections, 153, Input::Resynced);
    assert_eq!(apply(&mut connections, 500, Input::Due), [Effect::Inspect(KEY)]);
    let reset = CloseOrder { step: CloseStep::Reset, is_first: false, due_boot_ns: Some(500), ..fin };
    assert_eq!(apply(&mut connections, 501, Input::Inspected(KEY, None)), [Effect::Close(reset)]);
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    assert_eq!(apply(&mut connections, 502, Input::Event(closed)), [Effect::Ended(begun(fin, true), closed)]);
    assert_eq!(connections.next_due(), None);
}

#[test]
fn a_lifetime_that_is_cleared_is_no_longer_watched() {
    let mut connections = open();
    apply(&mut connections, 100, inspection(AGED, None, 100));
    assert_eq!(connections.watched(), 1);
    apply(&mut connections, 100, Input::Inspected(KEY, None));
    assert_eq!(connections.watched(), 0);
}

#[test]
fn an_event_that_is_older_than_an_override_takes_no_limit_away() {
    let mut connections = open();
    apply(&mut connections, 100, inspection(AGED, None, 100));
    // It was written before the override was set, and read after it.
    let older = event(EventKind::Transition, TcpState::FinWait2, 0);
    assert_eq!(apply(&mut connections, 101, Input::Event(older)), [Effect::Inspect(KEY)]);
    assert_eq!(connections.next_due(), Some(150));
}

#[test]
fn a_socket_that_connects_again_keeps_its_new_conid() {
    let mut connections = open();
    let opened = event(EventKind::Opened, TcpState::SynSent, 0);
    let again = Event { key: ConnKey { conid: 2, ..KEY }, ..opened };
    apply(&mut connections, 0, Input::Event(again));
    apply(&mut connections, 0, Input::Event(event(EventKind::Closed, TcpState::Close, 0)));
    assert_eq!(connections.conid(9), Some(2));
}

#[test]
fn what_is_seen_of_a_connection_that_has_ended_is_forgotten() {
    let mut connections = open();
    apply(&mut connections, 0, Input::Event(event(EventKind::Closed, TcpState::Close, 0)));
    assert_eq!(apply(&mut connections, 100, inspection(AGED, None, 100)), []);
    apply(&mut connections, 100, Input::FinSent(KEY, 500));
    apply(&mut connections, 100, Input::CloseFailed(KEY));
    assert_eq!((connections.watched(), connections.next_due()), (0, None));
}

#[test]
fn what_is_inspected_before_its_event_comes_counts() {
    let mut connections = Connections::default();
    apply(&mut connections, 100, inspection(AGED, None, 100));
    assert_eq!(connections.next_due(), Some(150));
}

#[test]
fn resync_forgets_what_is_gone_and_looks_at_what_may_be_over() {
    let mut connections = open();
    apply(&mut connections, 100, inspection(AGED, None, 100));
    let known = |conid, verdict| Known { key: ConnKey { cookie: conid, conid }, listens: false, verdict };
    let over = Some(Verdict::Expired(Expiry::Deadline, 5));
    let all = vec![known(3, None), known(4, Some(Verdict::At(70))), known(5, Some(Verdict::Look)), known(6, over)];
    let inspect = |conid| Effect::Inspect(ConnKey { cookie: conid, conid });
    assert_eq!(apply(&mut connections, 100, Input::Resync(all)), [inspect(5), inspect(6)]);
    assert_eq!((connections.watched(), connections.next_due()), (1, Some(70)));
    assert_eq!((connections.conid(9), connections.conid(3)), (None, Some(3)));
}

#[test]
fn what_happened_is_published_before_what_follows() {
    let mut connections = Connections::default();
    let mut effects = Vec::new();
    let established = event(EventKind::Transition, TcpState::Established, EVENT_HAS_LIFETIME);
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    for event in [established, closed] {
        connections.apply(100, Input::Event(event), &mut effects);
    }
    assert_eq!(effects, [Effect::Happened(established), Effect::Inspect(KEY), Effect::Ended(None, closed)]);
}

#[test]
fn a_reason_outlives_a_resync_until_the_events_of_that_time_are_given() {
    let mut connections = Connections::default();
    let reason = CloseReason::Request(0);
    let close = CloseOrder { key: KEY, reason, step: CloseStep::Reset, is_first: true, rule: 0, due_boot_ns: None };
    let other = ConnKey { cookie: 7, conid: 3 };
    for key in [KEY, other] {
        apply(&mut connections, 100, Input::Closing(CloseOrder { key, ..close }));
    }
    // Both are over; the last event of one came while the connections were read, that of the other was lost.
    apply(&mut connections, 100, Input::Resync(Vec::new()));
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    assert_eq!(apply(&mut connections, 100, Input::Event(closed)), [Effect::Ended(begun(close, false), closed)]);
    apply(&mut connections, 100, Input::Resynced);
    let late = Event { key: other, ..closed };
    assert_eq!(apply(&mut connections, 100, Input::Event(late)), [Effect::Ended(None, late)]);
}

#[test]
fn other_rules_bring_looks_forward_and_put_none_off() {
    let mut connections = open();
    apply(&mut connections, 100, inspection(AGED, None, 100));
    let known = |verdict| Input::Judged(vec![Known { key: KEY, listens: false, verdict }]);
    for (verdict, next) in [
        (None, Some(150)),
        (Some(Verdict::Wait), Some(150)),
        (Some(Verdict::At(400)), Some(150)),
        (Some(Verdict::At(120)), Some(120)),
    ] {
        assert_eq!(apply(&mut connections, 101, known(verdict)), []);
        assert_eq!(connections.next_due(), next);
    }
    let over = Some(Verdict::Expired(Expiry::MaxAge, 90));
    assert_eq!(apply(&mut connections, 101, known(over)), [Effect::Inspect(KEY)]);
    apply(&mut connections, 102, Input::Event(event(EventKind::Closed, TcpState::Close, 0)));
    assert_eq!(apply(&mut connections, 103, known(over)), []);
}

#[test]
fn listeners_do_not_count_for_the_guard() {
    let mut connections = open();
    connections.apply(0, Input::RulesChanged(Guard { percent_per_minute: Some(50), ..Guard::default() }), &mut vec![]);
    connections.apply(0, Input::RulesApplied, &mut vec![]);
    for conid in 2..=4 {
        let key = ConnKey { cookie: 100 + conid, conid };
        let connection = Connection { direction: Direction::Listen, ..connection() };
        let opened = event(EventKind::Opened, TcpState::Listen, 0);
        apply(&mut connections, 0, Input::Event(Event { key, connection, ..opened }));
    }
    let close = |connections: &mut Connections, conid| {
        let key = ConnKey { cookie: conid, conid };
        let ruled = Candidate { key, limits: AGED, rule: 3, ..candidate() };
        let inspection = Inspection { candidate: ruled, look: None, protection: None, at_boot_ns: 150 };
        apply(connections, 150, Input::Inspected(key, Some(inspection)))
    };
    // Half of the one connection is one; half of it and three listeners would be two.
    assert!(matches!(close(&mut connections, 11)[..], [Effect::Close(_)]));
    assert!(matches!(close(&mut connections, 12)[..], [Effect::Throttled(_)]));
    assert_eq!(connections.throttled(), 1);
}

/// What happens to the one connection of the property below.
#[derive(Clone, Debug)]
enum Happening {
    Limits(Limits),
    Byte,
    HalfClose,
}

fn happenings() -> impl Strategy<Value = Vec<(u64, Happening)>> {
    let limit = || prop_oneof![2 => Just(0), 1 => 50_u64..1_000];
    let limits = (limit(), limit(), prop_oneof![2 => Just(0), 1 => 100_u64..3_000], limit(), limit()).prop_map(
        |(idle_ns, max_age_ns, deadline_boot_ns, first_byte_ns, half_closed_ns)| {
            Happening::Limits(Limits {
                idle_ns,
                max_age_ns,
                deadline_boot_ns,
                first_byte_ns,
                half_closed_ns,
                connect_ns: 0,
            })
        },
    );
    let what = prop_oneof![3 => limits, 6 => Just(Happening::Byte), 1 => Just(Happening::HalfClose)];
    prop::collection::vec((1_u64..300, what), 1..20)
}

/// The world as it is: an accepted connection, its traffic and its limits, under a clock that stands still while
/// anything is done.
struct World {
    now: u64,
    candidate: Candidate,
    last_byte: u64,
    received: u64,
    connections: Connections,
    closed: bool,
}

impl World {
    fn look(&self) -> Look {
        Look { idle_ns: self.now - self.last_byte, bytes_received: self.received }
    }

    /// True if a limit is over by the whole truth.
    fn is_over(&self) -> bool {
        matches!(judge(&self.candidate, Some(self.look()), self.now), Verdict::Expired(..))
    }

    /// Does what follows from an input, as the agent does.
    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.connections.apply(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Inspect(key) => {
                    let look = self.candidate.is_unsure(self.now).then(|| self.look());
                    let inspection =
                        Inspection { candidate: self.candidate, look, protection: None, at_boot_ns: self.now };
                    let has_limits = self.candidate.limits != Limits::default();
                    self.input(Input::Inspected(key, has_limits.then_some(inspection)));
                }
                Effect::Close(_) => self.closed = true,
                Effect::Happened(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets time pass, waking the agent when it asked for it.
    fn pass(&mut self, until: u64) -> Result<(), TestCaseError> {
        while !self.closed && self.connections.next_due().is_some_and(|due| due <= until) {
            let due = self.connections.next_due().unwrap_or(until);
            prop_assert!(due > self.now);
            self.now = due - 1;
            prop_assert!(!self.is_over(), "late at {}", self.now);
            self.now = due;
            self.input(Input::Due);
            prop_assert_eq!(self.closed, self.is_over());
        }
        if !self.closed {
            self.now = until;
            prop_assert!(!self.is_over(), "late at {until}");
        }
        Ok(())
    }
}

proptest! {
    /// Whatever comes, limits raised and lowered, bytes and ends of streams: the connection is closed at the very moment
    /// at which a limit is over.
    #[test]
    fn never_early_and_never_late(happenings in happenings()) {
        let mut world = World {
            now: 100,
            candidate: Candidate { key: KEY, manner: Manner::Reset, ..candidate() },
            last_byte: 100,
            received: 0,
            connections: open(),
            closed: false,
        };
        for (wait, happening) in happenings {
            world.pass(world.now + wait)?;
            if world.closed {
                break;
            }
            match happening {
                Happening::Limits(limits) => {
                    world.candidate.limits = limits;
                    // As after a change of the override.
                    let over = world.is_over();
                    let now = world.now;
                    let event = event(EventKind::Applied, world.candidate.state, EVENT_HAS_LIFETIME);
                    world.input(Input::Event(Event { at_boot_ns: now, ..event }));
                    prop_assert_eq!(world.closed, over);
                }
                Happening::Byte => {
                    world.last_byte = world.now;
                    world.received += 1;
                }
                Happening::HalfClose => {
                    world.candidate.state = TcpState::FinWait2;
                    world.candidate.state_since_boot_ns = world.now;
                    world.input(Input::Event(event(EventKind::Transition, TcpState::FinWait2, EVENT_HAS_LIFETIME)));
                }
            }
            if world.closed {
                break;
            }
        }
        world.pass(world.now + 5_000)?;
    }
}
