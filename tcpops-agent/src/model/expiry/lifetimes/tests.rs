use proptest::prelude::*;
use tcpops_common::policy::Lifetime;

use super::*;
use crate::model::testing::{candidate, connection};

fn limited(limits: Limits) -> Candidate {
    Candidate { limits, ..candidate() }
}

fn look(idle_ns: u64, bytes_received: u64) -> Option<Look> {
    Some(Look { idle_ns, bytes_received })
}

#[test]
fn max_age_counts_from_the_handshake() {
    let candidate = limited(Limits { max_age_ns: 50, ..Limits::default() });
    assert_eq!(judge(&candidate, None, 149), Verdict::At(150));
    assert_eq!(judge(&candidate, None, 150), Verdict::Expired(Expiry::MaxAge, 150));
}

#[test]
fn only_a_deadline_and_the_limit_of_a_handshake_count_before_its_end() {
    let limits = Limits { idle_ns: 1, max_age_ns: 1, first_byte_ns: 1, ..Limits::default() };
    let opening = Candidate { established_boot_ns: 0, state: TcpState::SynSent, inbound: false, ..limited(limits) };
    assert_eq!(judge(&opening, None, 1_000), Verdict::Wait);
    let deadline = opening.limits(|limits| limits.deadline_boot_ns = 500);
    assert_eq!(judge(&deadline, None, 499), Verdict::At(500));
    assert_eq!(judge(&deadline, None, 500), Verdict::Expired(Expiry::Deadline, 500));
    let connect = opening.limits(|limits| limits.connect_ns = 70);
    assert_eq!(judge(&connect, None, 159), Verdict::At(160));
    assert_eq!(judge(&connect, None, 160), Verdict::Expired(Expiry::Connect, 160));
    let established = Candidate { state: TcpState::Established, ..connect };
    assert_eq!(judge(&established, None, 160), Verdict::Wait);
}

#[test]
fn idle_is_read_only_when_it_can_be_over() {
    let candidate = limited(Limits { idle_ns: 50, ..Limits::default() });
    assert_eq!(judge(&candidate, None, 149), Verdict::At(150));
    assert_eq!(judge(&candidate, None, 150), Verdict::Look);
    assert_eq!(judge(&candidate, look(50, 7), 150), Verdict::Expired(Expiry::Idle, 150));
    assert_eq!(judge(&candidate, look(10, 7), 150), Verdict::At(190));
    // The kernel's clock for idleness may have started before the handshake ended.
    assert_eq!(judge(&candidate, look(60, 0), 120), Verdict::At(150));
}

#[test]
fn a_first_byte_ends_its_limit_for_good_and_a_fin_is_none() {
    let candidate = limited(Limits { first_byte_ns: 50, ..Limits::default() });
    assert_eq!(judge(&candidate, None, 149), Verdict::At(150));
    assert_eq!(judge(&candidate, None, 150), Verdict::Look);
    assert_eq!(judge(&candidate, look(50, 0), 150), Verdict::Expired(Expiry::FirstByte, 150));
    assert_eq!(judge(&candidate, look(50, 1), 150), Verdict::Wait);
    let closed = Candidate { state: TcpState::CloseWait, ..candidate };
    assert_eq!(judge(&closed, look(50, 1), 150), Verdict::Expired(Expiry::FirstByte, 150));
    assert_eq!(judge(&closed, look(50, 2), 150), Verdict::Wait);
    // The one who connects may be waiting to be greeted.
    assert_eq!(judge(&Candidate { inbound: false, ..candidate }, None, 150), Verdict::Wait);
}

#[test]
fn half_closed_counts_from_the_beginning_of_the_state() {
    let limits = Limits { half_closed_ns: 50, ..Limits::default() };
    for state in [TcpState::CloseWait, TcpState::FinWait2] {
        let candidate = Candidate { state, state_since_boot_ns: 300, ..limited(limits) };
        assert_eq!(judge(&candidate, None, 349), Verdict::At(350));
        assert_eq!(judge(&candidate, None, 350), Verdict::Expired(Expiry::HalfClosed, 350));
    }
    for state in [TcpState::Established, TcpState::FinWait1, TcpState::LastAck, TcpState::Closing] {
        assert_eq!(judge(&Candidate { state, ..limited(limits) }, None, 9_999), Verdict::Wait);
    }
}

#[test]
fn the_first_limit_to_end_is_the_reason() {
    let candidate = limited(Limits { max_age_ns: 50, deadline_boot_ns: 140, half_closed_ns: 70, ..Limits::default() });
    assert_eq!(judge(&candidate, None, 1_000), Verdict::Expired(Expiry::Deadline, 140));
    assert_eq!(judge(&candidate.without(Expiry::Deadline.bit()), None, 1_000), Verdict::Expired(Expiry::MaxAge, 150));
    let both = Expiry::Deadline.bit() | Expiry::MaxAge.bit();
    assert_eq!(judge(&candidate.without(both), None, 1_000), Verdict::Wait);
}

#[test]
fn jitter_spreads_and_stays_the_same() {
    let all: Vec<u64> = (1..=1_000).map(|conid| lengthened(1_000_000, 10, conid)).collect();
    assert_eq!(all, (1..=1_000).map(|conid| lengthened(1_000_000, 10, conid)).collect::<Vec<_>>());
    let tenths = |tenth: u64| all.iter().filter(|ns| (**ns - 1_000_000) / 10_000 == tenth).count();
    // A tenth of the connections in each tenth of the spread, more or less.
    assert!((0..10).all(|tenth| (60..140).contains(&tenths(tenth))), "{:?}", (0..10).map(tenths).collect::<Vec<_>>());
    assert_eq!((0..10).map(tenths).sum::<usize>(), 1_000);
    assert_eq!(lengthened(7, 0, 5), 7);
    assert_eq!(lengthened(u64::MAX, 100, 5), u64::MAX);
}

#[test]
fn the_outlook_is_the_earliest_end() {
    let candidate = limited(Limits { idle_ns: 50, max_age_ns: 200, ..Limits::default() });
    assert_eq!(candidate.outlook(None, None, 120), Some((150, Expiry::Idle)));
    assert_eq!(candidate.outlook(None, Some(190), 160), Some((190, Expiry::Idle)));
    assert_eq!(candidate.outlook(look(10, 1), Some(190), 170), Some((210, Expiry::Idle)));
    assert_eq!(candidate.outlook(look(10, 1), Some(190), 280), Some((300, Expiry::MaxAge)));
    assert_eq!(limited(Limits::default()).outlook(None, None, 1), None);
}

#[test]
fn an_override_replaces_all_limits_of_a_rule_and_asks_no_guard() {
    let key = ConnKey { cookie: 1, conid: 1 };
    let rule =
        ClosePolicy { first_byte_ns: 5, enforce: false, manner: Manner::Fin { grace_ns: 3 }, ..ClosePolicy::DEFAULT };
    let lifetime = Lifetime { idle_ns: 7, ..Lifetime::NONE };
    let policy = Policy { lifetime_setting: Setting::Set, lifetime, ..Policy::NONE };
    let mut entry = Connection { rule: 9, policy, lifetime_source: Source::Rule, ..connection() };
    let ruled = Candidate::of(key, &entry, Some(&rule)).unwrap();
    assert_eq!(ruled.limits, Limits { idle_ns: 7, first_byte_ns: 5, ..Limits::default() });
    assert_eq!((ruled.rule, ruled.is_override, ruled.enforce), (9, false, false));
    // Its rule is gone.
    assert_eq!(Candidate::of(key, &entry, None), None);
    entry.lifetime_source = Source::Override;
    let overridden = Candidate::of(key, &entry, Some(&rule)).unwrap();
    assert_eq!(overridden.limits, Limits { idle_ns: 7, ..Limits::default() });
    assert_eq!((overridden.is_override, overridden.enforce, overridden.manner), (true, true, rule.manner));
    entry.policy.lifetime_setting = Setting::Clear;
    assert_eq!(Candidate::of(key, &entry, Some(&rule)), None);
    entry.policy = policy;
    entry.direction = Direction::Listen;
    assert_eq!(Candidate::of(key, &entry, Some(&rule)), None);
}

/// A connection's life in small numbers: when it was opened and established, and its last byte.
fn lives() -> impl Strategy<Value = (Candidate, u64, bool)> {
    let states = prop::sample::select(vec![
        TcpState::Established,
        TcpState::SynSent,
        TcpState::CloseWait,
        TcpState::FinWait2,
        TcpState::FinWait1,
    ]);
    let limit = || prop_oneof![Just(0), 1_u64..1_000];
    let limits = (limit(), limit(), prop_oneof![Just(0), 1_u64..3_000], limit(), limit(), limit()).prop_map(
        |(idle_ns, max_age_ns, deadline_boot_ns, first_byte_ns, half_closed_ns, connect_ns)| Limits {
            idle_ns,
            max_age_ns,
            deadline_boot_ns,
            first_byte_ns,
            half_closed_ns,
            connect_ns,
        },
    );
    (states, limits, 1_u64..500, 0_u64..500, 0_u64..500, any::<bool>(), any::<bool>()).prop_map(
        |(state, limits, opened, until_established, until_last, inbound, spoke)| {
            let handshake = state == TcpState::SynSent;
            let established = if handshake { 0 } else { opened + until_established };
            let last_byte = established + until_last;
            let state_since_boot_ns = if handshake { opened } else { last_byte };
            let candidate = Candidate {
                state,
                inbound: inbound && !handshake,
                opened_boot_ns: opened,
                established_boot_ns: established,
                state_since_boot_ns,
                ..limited(limits)
            };
            (candidate, last_byte, spoke)
        },
    )
}

/// The limits that are over, computed in another and plainer way.
fn over(candidate: &Candidate, last_byte: u64, spoke: bool, now: u64) -> Vec<Expiry> {
    let Limits { idle_ns, max_age_ns, deadline_boot_ns, first_byte_ns, half_closed_ns, connect_ns } = candidate.limits;
    let established = candidate.established_boot_ns != 0;
    let since = |start: u64| now - start.min(now);
    let state = |states: &[TcpState]| states.contains(&candidate.state);
    let all = [
        (Expiry::Idle, idle_ns != 0 && established && since(last_byte) >= idle_ns),
        (Expiry::MaxAge, max_age_ns != 0 && established && since(candidate.established_boot_ns) >= max_age_ns),
        (Expiry::Deadline, deadline_boot_ns != 0 && now >= deadline_boot_ns),
        (
            Expiry::FirstByte,
            first_byte_ns != 0
                && established
                && candidate.inbound
                && !spoke
                && since(candidate.established_boot_ns) >= first_byte_ns,
        ),
        (
            Expiry::HalfClosed,
            half_closed_ns != 0
                && state(&[TcpState::CloseWait, TcpState::FinWait2])
                && since(candidate.state_since_boot_ns) >= half_closed_ns,
        ),
        (
            Expiry::Connect,
            connect_ns != 0 && state(&[TcpState::SynSent]) && since(candidate.opened_boot_ns) >= connect_ns,
        ),
    ];
    all.into_iter().filter(|(_, over)| *over).map(|(expiry, _)| expiry).collect()
}

fn look_at(candidate: &Candidate, last_byte: u64, spoke: bool, now: u64) -> Option<Look> {
    let fin = u64::from(candidate.has_fin());
    look(now - last_byte.min(now), u64::from(spoke) * 100 + fin)
}

proptest! {
    /// Time passes only as the verdicts say. A limit is reported at the moment at which it is over, and never before.
    #[test]
    fn never_early_and_never_late((candidate, last_byte, spoke) in lives(), begin in 1_u64..4_000) {
        let begin = begin.max(last_byte).max(candidate.opened_boot_ns);
        let mut now = begin;
        for _ in 0..10 {
            let verdict = match judge(&candidate, None, now) {
                Verdict::Look => judge(&candidate, look_at(&candidate, last_byte, spoke, now), now),
                verdict => verdict,
            };
            match verdict {
                Verdict::Expired(expiry, since) => {
                    prop_assert!(over(&candidate, last_byte, spoke, now).contains(&expiry));
                    prop_assert!(since <= now);
                    prop_assert!(over(&candidate, last_byte, spoke, since).contains(&expiry));
                    // It ended no earlier than the last time that was waited for.
                    prop_assert!(now == begin || since == now);
                    return Ok(());
                }
                Verdict::At(at) => {
                    prop_assert!(at > now);
                    prop_assert!(over(&candidate, last_byte, spoke, at - 1).is_empty());
                    now = at;
                }
                Verdict::Wait => {
                    prop_assert!(over(&candidate, last_byte, spoke, u64::MAX / 2).is_empty());
                    return Ok(());
                }
                Verdict::Look => prop_assert!(false, "it was looked at"),
            }
        }
        prop_assert!(false, "no verdict after ten looks at a connection without traffic");
    }

    /// A limit that is raised or lowered counts at once, from the same start.
    #[test]
    fn other_limits_count_at_once(
        (candidate, last_byte, spoke) in lives(), (other, ..) in lives(), now in 1_u64..4_000,
    ) {
        let now = now.max(last_byte).max(candidate.opened_boot_ns);
        let changed = Candidate { limits: other.limits, ..candidate };
        let verdict = judge(&changed, look_at(&changed, last_byte, spoke, now), now);
        let expected = over(&changed, last_byte, spoke, now);
        match verdict {
            Verdict::Expired(expiry, _) => prop_assert!(expected.contains(&expiry)),
            _ => prop_assert!(expected.is_empty(), "{expected:?} and {verdict:?}"),
        }
    }

    /// Without a look, no limit counts as over that traffic may have postponed.
    #[test]
    fn nothing_ends_unseen((candidate, ..) in lives(), now in 1_u64..4_000) {
        if let Verdict::Expired(expiry, _) = judge(&candidate, None, now) {
            prop_assert!(!expiry.moves_with_traffic());
        }
    }

    #[test]
    fn jitter_lengthens_by_no_more_than_its_share(ns in 0_u64..1_u64 << 60, percent in 0_u8..=100, conid in any::<u64>()) {
        let long = lengthened(ns, percent, conid);
        prop_assert!(long >= ns);
        prop_assert!(u128::from(long - ns) * 100 <= u128::from(ns) * u128::from(percent));
    }
}

impl Candidate {
    fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }
}
