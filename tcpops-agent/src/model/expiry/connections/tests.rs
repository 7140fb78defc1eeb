use proptest::prelude::*;
use tcpops_common::event::Summary;
use tcpops_common::state::TcpState;

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
        left_boot_ns: 0,
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

/// Has a connection inspected, and gives the model what was found.
fn inspect(connections: &mut Connections, now_boot_ns: u64, key: ConnKey, found: Found) -> Vec<Effect> {
    if !connections.inspecting.contains_key(&key) {
        assert_eq!(apply(connections, now_boot_ns, Input::Changed(key)), [Effect::Inspect(key)]);
    }
    apply(connections, now_boot_ns, Input::Inspected(key, found))
}

fn found(limits: Limits, idle_ns: Option<u64>, at_boot_ns: u64) -> Found {
    let look = idle_ns.map(|idle_ns| Look { idle_ns, bytes_received: 1 });
    let candidate = Candidate { key: KEY, limits, ..candidate() };
    Found::Limits(Inspection { candidate, look, protection: None, at_boot_ns })
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
    let mut connections = Connections::default();
    let idle = Limits { idle_ns: 50, ..Limits::default() };
    let established = event(EventKind::Transition, TcpState::Established, needed::BY_LIMIT);
    assert_eq!(apply(&mut connections, 100, Input::Event(established)), [Effect::Inspect(KEY)]);
    assert!(inspect(&mut connections, 100, KEY, found(idle, None, 100)).is_empty());
    assert_eq!(connections.next_due(), Some(150));
    assert_eq!(apply(&mut connections, 150, Input::Due), [Effect::Inspect(KEY)]);
    // A byte came 10 ns ago.
    assert!(inspect(&mut connections, 151, KEY, found(idle, Some(10), 150)).is_empty());
    assert_eq!(connections.next_due(), Some(190));
    let reason = CloseReason::Expired(Expiry::Idle);
    let close =
        CloseOrder { key: KEY, reason, step: CloseStep::Reset, is_first: true, rule: 0, due_boot_ns: Some(190) };
    assert_eq!(inspect(&mut connections, 191, KEY, found(idle, Some(50), 190)), [Effect::Close(close)]);
    assert_eq!(connections.next_due(), None);
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    assert_eq!(apply(&mut connections, 191, Input::Event(closed)), [Effect::Ended(begun(close, false), closed)]);
}

#[test]
fn a_record_is_for_those_who_need_it() {
    let mut connections = Connections::default();
    let mut effects = Vec::new();
    for flags in [0, needed::BY_READER, needed::BY_LIMIT] {
        connections.apply(90, Input::Event(event(EventKind::Opened, TcpState::SynSent, flags)), &mut effects);
    }
    let happened = event(EventKind::Opened, TcpState::SynSent, needed::BY_READER);
    assert_eq!(effects, [Effect::Happened(happened), Effect::Inspect(KEY)]);
}

#[test]
fn a_close_that_failed_is_tried_again() {
    let mut connections = Connections::default();
    assert_eq!(inspect(&mut connections, 150, KEY, found(AGED, None, 150)).len(), 1);
    apply(&mut connections, 151, Input::CloseFailed(KEY));
    assert_eq!(connections.next_due(), Some(151 + RETRY_NS));
    assert_eq!(inspect(&mut connections, 200, KEY, found(AGED, None, 200)).len(), 1);
    // And one that cannot succeed is not.
    apply(&mut connections, 201, Input::NotClosed(KEY));
    assert_eq!(connections.next_due(), None);
}

#[test]
fn a_fin_is_followed_by_a_reset_even_where_the_limit_is_gone() {
    let mut connections = Connections::default();
    let reason = CloseReason::Request(7);
    let step = CloseStep::Fin { grace_ns: 349 };
    let fin = CloseOrder { key: KEY, reason, step, is_first: true, rule: 0, due_boot_ns: None };
    apply(&mut connections, 150, Input::Closing(fin));
    apply(&mut connections, 151, Input::FinSent(KEY, 500));
    assert_eq!(inspect(&mut connections, 152, KEY, Found::NoLimits), []);
    assert_eq!(connections.next_due(), Some(500));
    let all = vec![Known { key: KEY, verdict: None }];
    assert_eq!(apply(&mut connections, 153, Input::Resync(all)), [Effect::Inspect(KEY)]);
    assert_eq!(inspect(&mut connections, 153, KEY, Found::NoLimits), []);
    assert_eq!(apply(&mut connections, 500, Input::Due), [Effect::Inspect(KEY)]);
    let reset = CloseOrder { step: CloseStep::Reset, is_first: false, due_boot_ns: Some(500), ..fin };
    assert_eq!(inspect(&mut connections, 501, KEY, Found::NoLimits), [Effect::Close(reset)]);
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    assert_eq!(apply(&mut connections, 502, Input::Event(closed)), [Effect::Ended(begun(fin, true), closed)]);
    assert_eq!(connections.next_due(), None);
}

#[test]
fn a_lifetime_that_is_cleared_is_no_longer_watched() {
    let mut connections = Connections::default();
    inspect(&mut connections, 100, KEY, found(AGED, None, 100));
    assert_eq!(connections.watched(), 1);
    inspect(&mut connections, 100, KEY, Found::NoLimits);
    assert_eq!(connections.watched(), 0);
}

#[test]
fn what_is_seen_of_a_connection_that_has_ended_is_forgotten() {
    let mut connections = Connections::default();
    let close = CloseOrder {
        key: KEY,
        reason: CloseReason::Request(0),
        step: CloseStep::Reset,
        is_first: true,
        rule: 0,
        due_boot_ns: None,
    };
    apply(&mut connections, 0, Input::Closing(close));
    apply(&mut connections, 0, Input::Changed(KEY));
    apply(&mut connections, 0, Input::Event(event(EventKind::Closed, TcpState::Close, 0)));
    // The inspection, and the close, were under way.
    assert_eq!(apply(&mut connections, 100, Input::Inspected(KEY, found(AGED, None, 100))), []);
    apply(&mut connections, 100, Input::FinSent(KEY, 500));
    apply(&mut connections, 100, Input::CloseFailed(KEY));
    assert_eq!((connections.watched(), connections.next_due()), (0, None));
    assert!(!connections.enforcer.watches.has(KEY) && connections.inspecting.is_empty());
}

#[test]
fn the_last_of_several_inspections_counts() {
    let mut connections = Connections::default();
    for _ in 0..2 {
        apply(&mut connections, 100, Input::Changed(KEY));
    }
    inspect(&mut connections, 100, KEY, Found::NoLimits);
    inspect(&mut connections, 101, KEY, found(AGED, None, 100));
    assert_eq!((connections.next_due(), connections.inspecting.len()), (Some(150), 0));
}

#[test]
fn a_connection_whose_end_was_lost_is_forgotten_when_it_is_missed() {
    let mut connections = Connections::default();
    assert_eq!(inspect(&mut connections, 150, KEY, found(AGED, None, 150)).len(), 1);
    assert_eq!(apply(&mut connections, 160, Input::Resync(Vec::new())), [Effect::Inspect(KEY)]);
    assert_eq!(inspect(&mut connections, 161, KEY, Found::Gone), []);
    assert!(!connections.enforcer.watches.has(KEY));
    // One whose end was told in time has its reason.
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    assert_eq!(apply(&mut connections, 162, Input::Event(closed)), [Effect::Ended(None, closed)]);
}

#[test]
fn resync_looks_at_what_may_be_over() {
    let mut connections = Connections::default();
    let known = |conid, verdict| Known { key: ConnKey { cookie: conid, conid }, verdict };
    let over = Some(Verdict::Expired(Expiry::Deadline, 5));
    let all = vec![known(3, None), known(4, Some(Verdict::At(70))), known(5, Some(Verdict::Look)), known(6, over)];
    let inspect = |conid| Effect::Inspect(ConnKey { cookie: conid, conid });
    assert_eq!(apply(&mut connections, 50, Input::Resync(all)), [inspect(5), inspect(6)]);
    assert_eq!((connections.watched(), connections.next_due()), (1, Some(70)));
}

#[test]
fn a_look_remembers_what_is_near_and_leaves_alone_what_is_known() {
    const SECOND: u64 = 1_000_000_000;
    let mut connections = Connections::default();
    let changed = Input::RulesChanged { guard: Guard::default(), shortest_untold_ns: Some(100 * SECOND) };
    apply(&mut connections, 0, changed);
    let known = |conid, verdict| Known { key: ConnKey { cookie: conid, conid }, verdict: Some(verdict) };
    assert_eq!(apply(&mut connections, 0, Input::Judged(Vec::new())), []);
    assert_eq!(connections.next_due(), Some(50 * SECOND));
    assert_eq!(apply(&mut connections, 50 * SECOND, Input::Due), [Effect::LookAtAll]);
    assert_eq!(connections.next_due(), None);
    let near = known(1, Verdict::At(150 * SECOND));
    let far = known(2, Verdict::At(151 * SECOND));
    let idle = known(3, Verdict::Look);
    let looked = || Input::Looked(vec![near, far, idle]);
    assert_eq!(apply(&mut connections, 50 * SECOND, looked()), [Effect::Inspect(idle.key)]);
    assert_eq!((connections.watched(), connections.next_due()), (1, Some(100 * SECOND)));
    // Traffic postponed its end: the next look does not ask again.
    let limits = Limits { idle_ns: 100 * SECOND, ..Limits::default() };
    let candidate = Candidate { key: idle.key, limits, established_boot_ns: 1, ..candidate() };
    let look = Some(Look { idle_ns: 0, bytes_received: 1 });
    let inspection = Inspection { candidate, look, protection: None, at_boot_ns: 50 * SECOND };
    inspect(&mut connections, 51 * SECOND, idle.key, Found::Limits(inspection));
    assert_eq!(apply(&mut connections, 100 * SECOND, Input::Due), [Effect::LookAtAll]);
    assert_eq!(apply(&mut connections, 100 * SECOND, looked()), []);
    assert_eq!(connections.watched(), 3);
}

#[test]
fn what_happened_is_published_before_what_follows() {
    let mut connections = Connections::default();
    let mut effects = Vec::new();
    let flags = needed::BY_LIMIT | needed::BY_READER;
    let established = event(EventKind::Transition, TcpState::Established, flags);
    let closed = event(EventKind::Closed, TcpState::Close, 0);
    for event in [established, closed] {
        connections.apply(100, Input::Event(event), &mut effects);
    }
    assert_eq!(effects, [Effect::Happened(established), Effect::Inspect(KEY), Effect::Ended(None, closed)]);
}

#[test]
fn other_rules_bring_looks_forward_and_put_none_off() {
    let mut connections = Connections::default();
    inspect(&mut connections, 100, KEY, found(AGED, None, 100));
    let known = |verdict| Input::Judged(vec![Known { key: KEY, verdict }]);
    let inspect = vec![Effect::Inspect(KEY)];
    for (verdict, effects, next) in [
        (None, inspect.clone(), Some(150)),
        (Some(Verdict::Wait), inspect, Some(150)),
        (Some(Verdict::At(400)), vec![], Some(150)),
        (Some(Verdict::At(120)), vec![], Some(120)),
    ] {
        assert_eq!(apply(&mut connections, 101, known(verdict)), effects);
        assert_eq!(connections.next_due(), next);
    }
    let over = Some(Verdict::Expired(Expiry::MaxAge, 90));
    assert_eq!(apply(&mut connections, 101, known(over)), [Effect::Inspect(KEY)]);
}

#[test]
fn the_guard_counts_the_connections_that_there_are() {
    let mut connections = Connections::default();
    let guard = Guard { percent_per_minute: Some(50), ..Guard::default() };
    apply(&mut connections, 0, Input::RulesChanged { guard, shortest_untold_ns: None });
    apply(&mut connections, 0, Input::RulesApplied);
    apply(&mut connections, 0, Input::Live(3));
    let close = |connections: &mut Connections, conid| {
        let key = ConnKey { cookie: conid, conid };
        let ruled = Candidate { key, limits: AGED, rule: 3, ..candidate() };
        let inspection = Inspection { candidate: ruled, look: None, protection: None, at_boot_ns: 150 };
        inspect(connections, 150, key, Found::Limits(inspection))
    };
    // Half of three is one.
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
                    let found = if has_limits { Found::Limits(inspection) } else { Found::NoLimits };
                    self.input(Input::Inspected(key, found));
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
            connections: Connections::default(),
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
                    let event = event(EventKind::Applied, world.candidate.state, needed::BY_LIMIT);
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
                    world.input(Input::Event(event(EventKind::Transition, TcpState::FinWait2, needed::BY_LIMIT)));
                }
            }
            if world.closed {
                break;
            }
        }
        world.pass(world.now + 5_000)?;
    }
}
