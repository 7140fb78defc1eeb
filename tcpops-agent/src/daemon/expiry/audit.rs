//! The audit lines about closes.

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::policy::Source;
use tracing::Level;

use crate::daemon::expiry::close::{CloseAttempt, CloseOutcome};
use crate::daemon::expiry::protect::protector;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::daemon::telling::audit::Line;
use crate::model::expiry::effects::{CloseReason, Exempt, Exemption, Throttled};
use crate::model::expiry::lifetimes::Expiry;
use crate::model::rules::in_force::InForce;

/// A close was made, or came to nothing.
pub(crate) fn attempt(shared: &Shared, attempt: &CloseAttempt) {
    let CloseAttempt { request, outcome, connection, late } = attempt;
    let order = request.order;
    let (result, detail, level) = match outcome {
        CloseOutcome::Reset(no_fin) => ("reset", no_fin.map(|why| format!("no FIN: {why}")), Level::INFO),
        CloseOutcome::Fin { .. } => ("fin", None, Level::INFO),
        CloseOutcome::Absent => ("absent", Some("it had ended already".to_owned()), Level::INFO),
        CloseOutcome::NotClosable(why) => ("not_closable", Some((*why).to_owned()), Level::WARN),
        CloseOutcome::Failed(error) => ("failed", Some(refusal::chain(error)), Level::ERROR),
    };
    let in_force = shared.in_force();
    let connection = connection.as_deref();
    let (uid, rule) = author(order.reason, order.rule, connection, &in_force);
    let why = match order.reason {
        CloseReason::Expired(expiry) => expiry.name().to_owned(),
        CloseReason::Request(_) => "request".to_owned(),
    };
    let late_ms = late.map(|late| u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
    Line { what: "close", uid, rule, key: order.key, connection, why, result, detail, late_ms }.write(level);
}

/// Who wants a connection closed: a rule, or the one who asked for it or set its lifetime.
fn author<'a>(
    reason: CloseReason,
    rule: u32,
    connection: Option<&Connection>,
    in_force: &'a InForce,
) -> (Option<u32>, Option<&'a str>) {
    match reason {
        CloseReason::Request(uid) => (Some(uid), None),
        CloseReason::Expired(_) if rule != 0 => (None, Some(in_force.name(rule))),
        CloseReason::Expired(_) => {
            let overridden = connection.filter(|connection| connection.lifetime_source == Source::Override);
            (overridden.map(|connection| connection.policy.by_uid), None)
        }
    }
}

/// A connection's time is over by a rule, and it is not closed.
pub(crate) fn exempt(shared: &Shared, exemption: &Exemption) {
    let Exemption { key, expiry, rule, why } = *exemption;
    let (result, detail) = match why {
        Exempt::Protected(protection) => ("protected", Some(protector(protection, &shared.in_force()))),
        Exempt::NotEnforced => ("not_enforced", None),
    };
    by_rule(shared, (key, expiry, rule), result, detail, Level::INFO);
}

/// The closes of a rule are held back; `waiting` connections are, of all rules.
pub(crate) fn throttled(shared: &Shared, throttled: &Throttled, waiting: usize) {
    let Throttled { key, expiry, rule, delay, .. } = *throttled;
    let detail = format!("by {}; {waiting} connections wait, of all rules", delay.bound.name());
    by_rule(shared, (key, expiry, rule), "held", Some(detail), Level::WARN);
}

fn by_rule(
    shared: &Shared,
    (key, expiry, rule): (ConnKey, Expiry, u32),
    result: &'static str,
    detail: Option<String>,
    level: Level,
) {
    let in_force = shared.in_force();
    let connection = shared.connections.get(key).ok().flatten();
    let (why, rule, connection) = (expiry.name().to_owned(), Some(in_force.name(rule)), connection.as_ref());
    Line { what: "close", uid: None, rule, key, connection, why, result, detail, late_ms: None }.write(level);
}
