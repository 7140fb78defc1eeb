use std::convert::Infallible;

use tcpops_common::policy::{Lifetime, Options, Setting};
use tcpops_common::state::TcpState;

use super::*;
use crate::model::expiry::closing::{ClosePolicy, Guard};
use crate::model::rules::rule_set::{Cgroup, Matcher};
use crate::model::testing::connection;

const LONG: Policy =
    Policy { lifetime_setting: Setting::Set, lifetime: Lifetime { idle_ns: 7, ..Lifetime::NONE }, ..Policy::NONE };
const KEEPALIVE: Policy = Policy {
    options: Options { keepalive: Setting::Set, keepidle_s: 60, keepintvl_s: 5, keepcnt: 5, ..Options::NONE },
    ..Policy::NONE
};

fn rule(id: u32, policy: Policy, matcher: Matcher) -> Rule {
    Rule { name: format!("r{id}"), id, policy, closing: ClosePolicy::DEFAULT, tracked: true, matcher }
}

fn key(conid: u64) -> ConnKey {
    ConnKey { cookie: 100 + conid, conid }
}

fn preview(rules: Vec<Rule>, max: usize) -> Preview {
    Preview::new(RuleSet { rules, guard: Guard::default() }, max)
}

fn consider(preview: &mut Preview, conid: u64, connection: &Connection, lineage: Option<Vec<u64>>) {
    let considered: Result<(), Infallible> =
        preview.consider(key(conid), connection, |_| lineage, || Ok(None), || true);
    considered.unwrap();
}

#[test]
fn what_is_wanted_as_before_does_not_change() {
    let ruled = Connection { rule: 1, policy: LONG, ..connection() };
    assert_eq!(reconsidered(&connection(), None, None), None);
    assert_eq!(reconsidered(&ruled, Some(&rule(1, LONG, Matcher::default())), None), None);
    // Another rule that wants the same, and none at all.
    let (before, after) = reconsidered(&ruled, Some(&rule(2, LONG, Matcher::default())), None).unwrap();
    assert_eq!((before.rule, after.rule, before.policy), (1, 2, after.policy));
    assert_eq!(reconsidered(&ruled, None, None).unwrap().1, Standing { rule: 0, policy: Policy::NONE });
}

#[test]
fn a_handshake_under_way_gets_its_rule_at_its_end() {
    let rule = rule(1, LONG, Matcher::default());
    for state in [TcpState::SynSent, TcpState::SynRecv] {
        assert_eq!(reconsidered(&Connection { state, ..connection() }, Some(&rule), None), None);
    }
    let listener = Connection { state: TcpState::Listen, ..connection() };
    assert!(reconsidered(&listener, Some(&rule), None).is_some());
}

#[test]
fn an_override_wins() {
    let override_ = Policy { serial: 3, by_uid: 7, ..KEEPALIVE };
    let both = LONG.overridden_by(&override_);
    let applied = Connection { rule: 1, policy: both, ..connection() };
    let all = rule(1, LONG, Matcher::default());
    assert_eq!(reconsidered(&applied, Some(&all), Some(&override_)), None);
    let other = Policy { options: Options { keepidle_s: 9, ..KEEPALIVE.options }, ..LONG };
    let (_, after) = reconsidered(&applied, Some(&rule(2, other, Matcher::default())), Some(&override_)).unwrap();
    assert_eq!(after.policy.options.keepidle_s, 60);
    // No walk has come by with it: it is applied first, which no rule is the cause of.
    let waiting = Connection { rule: 1, policy: LONG, ..connection() };
    assert_eq!(reconsidered(&waiting, Some(&all), Some(&override_)), None);
    let (before, after) = reconsidered(&waiting, None, Some(&override_)).unwrap();
    assert_eq!((before.policy, after.policy.lifetime_setting), (both, Setting::Leave));
}

#[test]
fn the_lowest_conids_are_kept_and_all_are_counted() {
    let mut preview = preview(vec![rule(1, LONG, Matcher::default())], 2);
    for conid in [5, 3, 9, 3, 1] {
        consider(&mut preview, conid, &connection(), None);
    }
    let already = Connection { rule: 1, policy: LONG, ..connection() };
    consider(&mut preview, 2, &already, None);
    let previewed = preview.finish();
    let conids: Vec<u64> = previewed.changes.iter().map(|change| change.key.conid).collect();
    assert_eq!((conids, previewed.changed), (vec![1, 3], 4));
    assert_eq!((previewed.unreachable, previewed.unsure), (0, 0));
}

#[test]
fn a_cgroup_that_is_gone_is_told() {
    let below = Matcher { cgroups: vec![Cgroup { id: 30, ancestors: vec![10] }], ..Matcher::default() };
    let mut preview = preview(vec![rule(1, LONG, below)], 9);
    consider(&mut preview, 1, &connection(), Some(vec![1, 30, 10]));
    consider(&mut preview, 2, &connection(), Some(vec![1, 10]));
    consider(&mut preview, 3, &connection(), None);
    consider(&mut preview, 4, &Connection { cgroup_id: 30, ..connection() }, None);
    // Of this one the kernel knows no more.
    consider(&mut preview, 5, &Connection { cgroup_id: 0, ..connection() }, None);
    // Deeper than the kernel programs look.
    let deep = (1..30).chain([30]).collect();
    consider(&mut preview, 6, &connection(), Some(deep));
    let previewed = preview.finish();
    let conids: Vec<u64> = previewed.changes.iter().map(|change| change.key.conid).collect();
    assert_eq!((conids, previewed.unsure), (vec![1, 4], 2));
}

#[test]
fn what_no_walk_reaches_is_counted_apart() {
    let mut preview = preview(vec![rule(1, LONG, Matcher::default())], 9);
    let override_ = || Ok::<_, Infallible>(None);
    preview.consider(key(1), &connection(), |_| None, override_, || false).unwrap();
    let previewed = preview.finish();
    assert_eq!((previewed.changed, previewed.unreachable, previewed.changes.len()), (0, 1, 0));
}
