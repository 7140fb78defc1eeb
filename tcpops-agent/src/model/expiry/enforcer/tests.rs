use tcpops_common::state::TcpState;

use super::*;
use crate::model::expiry::closing::Manner;
use crate::model::expiry::lifetimes::Limits;
use crate::model::testing::candidate;

const RULE: u32 = 7;

fn aged(conid: u64) -> Inspection {
    let key = ConnKey { cookie: conid, conid };
    let limits = Limits { max_age_ns: 50, ..Limits::default() };
    Inspection {
        candidate: Candidate { key, rule: RULE, limits, ..candidate() },
        look: None,
        protection: None,
        at_boot_ns: 150,
    }
}

fn follow(enforcer: &mut Enforcer, inspection: &Inspection, now: u64) -> (Option<u64>, Vec<Effect>) {
    let mut effects = Vec::new();
    let next = enforcer.follow(inspection, 100, now, &mut effects);
    (next, effects)
}

fn closed(inspection: &Inspection, step: CloseStep) -> Effect {
    let reason = CloseReason::Expired(Expiry::MaxAge);
    Effect::Close(CloseOrder {
        key: inspection.candidate.key,
        reason,
        step,
        is_first: true,
        rule: RULE,
        due_boot_ns: Some(150),
    })
}

#[test]
fn what_is_over_is_closed_once() {
    let mut enforcer = Enforcer::default();
    let inspection = aged(1);
    let key = inspection.candidate.key;
    assert_eq!(follow(&mut enforcer, &inspection, 150), (None, vec![closed(&inspection, CloseStep::Reset)]));
    let mut effects = Vec::new();
    assert_eq!(enforcer.go_on(key, 160, &mut effects), Some(160 + RETRY_NS));
    let reason = CloseReason::Expired(Expiry::MaxAge);
    let begun = PendingClose { reason, rule: RULE, by_fin: false, fin_sent: false };
    assert_eq!((effects, enforcer.forget(key)), (vec![], Some(begun)));
    assert_eq!(enforcer.go_on(key, 160, &mut Vec::new()), None);
}

#[test]
fn a_grace_ends_with_a_reset_whatever_comes_meanwhile() {
    let mut enforcer = Enforcer::default();
    let mut inspection = aged(1);
    let key = inspection.candidate.key;
    inspection.candidate.manner = Manner::Fin { grace_ns: 30 };
    assert_eq!(
        follow(&mut enforcer, &inspection, 150),
        (None, vec![closed(&inspection, CloseStep::Fin { grace_ns: 30 })])
    );
    enforcer.fin_sent(key, 185);
    let mut effects = Vec::new();
    assert_eq!(enforcer.go_on(key, 184, &mut effects), Some(185));
    assert_eq!(effects, []);
    assert_eq!([enforcer.failed(key), enforcer.failed(key)], [RETRY_NS, 2 * RETRY_NS]);
    assert_eq!(enforcer.go_on(key, 185, &mut effects), Some(185 + RETRY_NS));
    let reason = CloseReason::Expired(Expiry::MaxAge);
    let reset = CloseOrder { key, reason, step: CloseStep::Reset, is_first: false, rule: RULE, due_boot_ns: Some(185) };
    assert_eq!(effects, [Effect::Close(reset)]);
    assert_eq!(enforcer.ended(key), Some(PendingClose { reason, rule: RULE, by_fin: true, fin_sent: true }));
}

#[test]
fn a_grace_that_another_agent_began_is_waited_for() {
    let mut enforcer = Enforcer::default();
    let mut inspection = aged(1);
    inspection.candidate.manner = Manner::Fin { grace_ns: 30 };
    inspection.candidate.state = TcpState::FinWait2;
    inspection.candidate.state_since_boot_ns = 140;
    assert_eq!(follow(&mut enforcer, &inspection, 150), (Some(170), vec![]));
    inspection.at_boot_ns = 170;
    assert_eq!(follow(&mut enforcer, &inspection, 170), (None, vec![closed(&inspection, CloseStep::Reset)]));
}

#[test]
fn the_protected_are_spared_and_told_of_once_but_not_from_a_push() {
    let mut enforcer = Enforcer::default();
    let mut inspection = Inspection { protection: Some(Protection::Port(22)), ..aged(1) };
    let (key, expiry) = (inspection.candidate.key, Expiry::MaxAge);
    let why = Exempt::Protected(Protection::Port(22));
    assert_eq!(
        follow(&mut enforcer, &inspection, 150),
        (None, vec![Effect::Exempt(Exemption { key, expiry, rule: RULE, why })])
    );
    assert_eq!(follow(&mut enforcer, &inspection, 151), (None, vec![]));
    enforcer.unsettle(Guard::default(), 160);
    enforcer.settle();
    assert_eq!(follow(&mut enforcer, &inspection, 161).1.len(), 1);
    enforcer.ended(key);
    inspection.candidate.is_override = true;
    assert!(matches!(follow(&mut enforcer, &inspection, 162).1[..], [Effect::Close(CloseOrder { rule: 0, .. })]));
}

#[test]
fn a_rule_that_is_not_enforced_says_each_expiry_once() {
    let mut enforcer = Enforcer::default();
    let mut inspection = aged(1);
    inspection.candidate.enforce = false;
    inspection.candidate.limits.deadline_boot_ns = 400;
    let exempt = |expiry| {
        let key = ConnKey { cookie: 1, conid: 1 };
        vec![Effect::Exempt(Exemption { key, expiry, rule: RULE, why: Exempt::NotEnforced })]
    };
    assert_eq!(follow(&mut enforcer, &inspection, 150), (Some(400), exempt(Expiry::MaxAge)));
    inspection.at_boot_ns = 300;
    assert_eq!(follow(&mut enforcer, &inspection, 300), (Some(400), vec![]));
    inspection.at_boot_ns = 400;
    assert_eq!(follow(&mut enforcer, &inspection, 400), (None, exempt(Expiry::Deadline)));
    assert_eq!(follow(&mut enforcer, &inspection, 400), (None, vec![]));
}

#[test]
fn what_is_held_back_is_tried_again_and_said_once_a_minute() {
    let mut enforcer = Enforcer::default();
    enforcer.unsettle(Guard { closes_per_second: Some(1), ..Guard::default() }, 0);
    enforcer.settle();
    let [first, second, third] = [aged(1), aged(2), aged(3)];
    assert_eq!(follow(&mut enforcer, &first, 150).1.len(), 1);
    let hold = |until_boot_ns| Hold { bound: Bound::Budget, until_boot_ns };
    let throttled = |inspection: &Inspection, hold, is_news| {
        let (key, expiry) = (inspection.candidate.key, Expiry::MaxAge);
        vec![Effect::Throttled(Throttled { key, expiry, rule: RULE, hold, is_new: true, is_news })]
    };
    let (next, after) = (150 + 1_000_000_000, 150 + 2_000_000_000);
    assert_eq!(follow(&mut enforcer, &second, 151), (Some(next), throttled(&second, hold(next), true)));
    assert_eq!(follow(&mut enforcer, &third, 152), (Some(after), throttled(&third, hold(after), false)));
    assert_eq!((enforcer.waiting(), enforcer.throttled(third.candidate.key)), (2, Some(Bound::Budget)));
    // A push for the one connection is not held back.
    let pushed = Inspection { candidate: Candidate { is_override: true, ..third.candidate }, ..third };
    assert_eq!(follow(&mut enforcer, &pushed, 153).1.len(), 1);
    let (next, effects) = follow(&mut enforcer, &second, next);
    assert!(next.is_none() && matches!(effects[..], [Effect::Close(CloseOrder { due_boot_ns: None, .. })]));
    assert_eq!(enforcer.waiting(), 0);
}

#[test]
fn while_rules_change_they_close_nothing() {
    let mut enforcer = Enforcer::default();
    enforcer.unsettle(Guard::default(), 0);
    let mut inspection = aged(1);
    assert_eq!(follow(&mut enforcer, &inspection, 150), (None, vec![]));
    inspection.candidate.is_override = true;
    assert_eq!(follow(&mut enforcer, &inspection, 150).1.len(), 1);
    enforcer.settle();
    assert_eq!(follow(&mut enforcer, &aged(2), 150).1.len(), 1);
}
