use tcpops_common::state::TcpState;

use super::*;
use crate::model::expiry::closing::Manner;
use crate::model::expiry::lifetimes::Limits;
use crate::model::expiry::limiter::Bound;
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

fn decide(enforcer: &mut Enforcer, inspection: &Inspection, now: u64) -> (Option<u64>, Vec<Effect>) {
    let mut effects = Vec::new();
    let next = enforcer.decide(inspection, 100, now, &mut effects);
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
    assert_eq!(decide(&mut enforcer, &inspection, 150), (None, vec![closed(&inspection, CloseStep::Reset)]));
    let mut effects = Vec::new();
    assert_eq!(enforcer.continue_close(key, 160, &mut effects), Some(160 + RETRY_NS));
    let reason = CloseReason::Expired(Expiry::MaxAge);
    let begun = PendingClose { reason, rule: RULE, by_fin: false, fin_sent: false };
    assert_eq!((effects, enforcer.forget(key)), (vec![], Some(begun)));
    assert_eq!(enforcer.continue_close(key, 160, &mut Vec::new()), None);
}

#[test]
fn a_grace_ends_with_a_reset_whatever_comes_meanwhile() {
    let mut enforcer = Enforcer::default();
    let mut inspection = aged(1);
    let key = inspection.candidate.key;
    inspection.candidate.manner = Manner::Fin { grace_ns: 30 };
    assert_eq!(
        decide(&mut enforcer, &inspection, 150),
        (None, vec![closed(&inspection, CloseStep::Fin { grace_ns: 30 })])
    );
    enforcer.begin_grace(key, 185);
    let mut effects = Vec::new();
    assert_eq!(enforcer.continue_close(key, 184, &mut effects), Some(185));
    assert_eq!(effects, []);
    assert_eq!([enforcer.fail_close(key), enforcer.fail_close(key)], [Some(RETRY_NS), Some(2 * RETRY_NS)]);
    assert_eq!(enforcer.continue_close(key, 185, &mut effects), Some(185 + RETRY_NS));
    let reason = CloseReason::Expired(Expiry::MaxAge);
    let reset = CloseOrder { key, reason, step: CloseStep::Reset, is_first: false, rule: RULE, due_boot_ns: Some(185) };
    assert_eq!(effects, [Effect::Close(reset)]);
    assert_eq!(enforcer.forget(key), Some(PendingClose { reason, rule: RULE, by_fin: true, fin_sent: true }));
}

#[test]
fn a_grace_that_another_agent_began_is_waited_for() {
    let mut enforcer = Enforcer::default();
    let mut inspection = aged(1);
    inspection.candidate.manner = Manner::Fin { grace_ns: 30 };
    inspection.candidate.state = TcpState::FinWait2;
    inspection.candidate.state_since_boot_ns = 140;
    assert_eq!(decide(&mut enforcer, &inspection, 150), (Some(170), vec![]));
    inspection.at_boot_ns = 170;
    assert_eq!(decide(&mut enforcer, &inspection, 170), (None, vec![closed(&inspection, CloseStep::Reset)]));
}

#[test]
fn the_protected_are_exempt_and_reported_once_but_not_from_an_override() {
    let mut enforcer = Enforcer::default();
    let mut inspection = Inspection { protection: Some(Protection::Port(22)), ..aged(1) };
    let (key, expiry) = (inspection.candidate.key, Expiry::MaxAge);
    let why = Exempt::Protected(Protection::Port(22));
    assert_eq!(
        decide(&mut enforcer, &inspection, 150),
        (None, vec![Effect::Exempt(Exemption { key, expiry, rule: RULE, why })])
    );
    assert_eq!(decide(&mut enforcer, &inspection, 151), (None, vec![]));
    enforcer.suspend_rules(Guard::default(), 160);
    enforcer.resume_rules();
    assert_eq!(decide(&mut enforcer, &inspection, 161).1.len(), 1);
    enforcer.forget(key);
    inspection.candidate.is_override = true;
    assert!(matches!(decide(&mut enforcer, &inspection, 162).1[..], [Effect::Close(CloseOrder { rule: 0, .. })]));
}

#[test]
fn a_rule_that_is_not_enforced_reports_each_expiry_once() {
    let mut enforcer = Enforcer::default();
    let mut inspection = aged(1);
    inspection.candidate.enforce = false;
    inspection.candidate.limits.deadline_boot_ns = 400;
    let exempt = |expiry| {
        let key = ConnKey { cookie: 1, conid: 1 };
        vec![Effect::Exempt(Exemption { key, expiry, rule: RULE, why: Exempt::NotEnforced })]
    };
    assert_eq!(decide(&mut enforcer, &inspection, 150), (Some(400), exempt(Expiry::MaxAge)));
    inspection.at_boot_ns = 300;
    assert_eq!(decide(&mut enforcer, &inspection, 300), (Some(400), vec![]));
    inspection.at_boot_ns = 400;
    assert_eq!(decide(&mut enforcer, &inspection, 400), (None, exempt(Expiry::Deadline)));
    assert_eq!(decide(&mut enforcer, &inspection, 400), (None, vec![]));
}

#[test]
fn a_delayed_close_is_tried_again_and_logged_once_a_minute() {
    let mut enforcer = Enforcer::default();
    enforcer.suspend_rules(Guard { closes_per_second: Some(1), ..Guard::default() }, 0);
    enforcer.resume_rules();
    let [first, second, third] = [aged(1), aged(2), aged(3)];
    assert_eq!(decide(&mut enforcer, &first, 150).1.len(), 1);
    let delay = |until_boot_ns| Delay { bound: Bound::Budget, until_boot_ns };
    let throttled = |inspection: &Inspection, delay, is_log_due| {
        let (key, expiry) = (inspection.candidate.key, Expiry::MaxAge);
        vec![Effect::Throttled(Throttled { key, expiry, rule: RULE, delay, is_new: true, is_log_due })]
    };
    let (next, after) = (150 + 1_000_000_000, 150 + 2_000_000_000);
    assert_eq!(decide(&mut enforcer, &second, 151), (Some(next), throttled(&second, delay(next), true)));
    assert_eq!(decide(&mut enforcer, &third, 152), (Some(after), throttled(&third, delay(after), false)));
    assert_eq!(
        (enforcer.watches.throttled(), enforcer.watches.phase(third.candidate.key).throttled_by()),
        (2, Some(Bound::Budget))
    );
    // An override is not delayed.
    let overridden = Inspection { candidate: Candidate { is_override: true, ..third.candidate }, ..third };
    assert_eq!(decide(&mut enforcer, &overridden, 153).1.len(), 1);
    let (next, effects) = decide(&mut enforcer, &second, next);
    assert!(next.is_none() && matches!(effects[..], [Effect::Close(CloseOrder { due_boot_ns: None, .. })]));
    assert_eq!(enforcer.watches.throttled(), 0);
}

#[test]
fn while_rules_change_they_close_nothing() {
    let mut enforcer = Enforcer::default();
    enforcer.suspend_rules(Guard::default(), 0);
    let mut inspection = aged(1);
    assert_eq!(decide(&mut enforcer, &inspection, 150), (None, vec![]));
    inspection.candidate.is_override = true;
    assert_eq!(decide(&mut enforcer, &inspection, 150).1.len(), 1);
    enforcer.resume_rules();
    assert_eq!(decide(&mut enforcer, &aged(2), 150).1.len(), 1);
}
