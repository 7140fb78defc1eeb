//! The audit: every policy that was pushed and every close, with who, what, why and the result, in lines that have the
//! same fields, under a tracing target of their own. docs/operations.md has the fields.

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::policy::Source;
use tracing::field::display;
use tracing::{Level, error, info, warn};

use crate::api::problem::Problem;
use crate::daemon::expiry::close::{CloseAttempt, CloseOutcome};
use crate::daemon::expiry::protect::protector;
use crate::daemon::policy::overrides::Push;
use crate::daemon::policy::rules::Given;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::model::expiry::connections::{CloseReason, Exemption, Throttled};
use crate::model::expiry::enforcer::Exempt;
use crate::model::expiry::lifetimes::Expiry;
use crate::model::rules::in_force::InForce;

/// One line.
struct Line<'a> {
    what: &'static str,
    /// Who: somebody, or a rule.
    uid: Option<u32>,
    rule: Option<&'a str>,
    key: ConnKey,
    connection: Option<&'a Connection>,
    why: String,
    result: &'static str,
    detail: Option<String>,
    late_ms: Option<u64>,
}

impl Line<'_> {
    fn say(&self, level: Level) {
        let Self { what, uid, rule, result, late_ms, .. } = *self;
        let conid = self.key.conid;
        let local = self.connection.map(|connection| display(connection.local()));
        let remote = self.connection.map(|connection| display(connection.remote()));
        let (why, detail) = (self.why.as_str(), self.detail.as_deref());
        macro_rules! say {
            ($say:ident) => {
                $say!(target: "tcpops::audit", uid, rule, conid, local, remote, why, result, late_ms, detail, "{what}")
            };
        }
        match level {
            Level::ERROR => say!(error),
            Level::WARN => say!(warn),
            _ => say!(info),
        }
    }
}

/// Who wants a connection closed: a rule, or the one who asked for it or pushed its lifetime.
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
            let pushed = connection.filter(|connection| connection.lifetime_source == Source::Override);
            (pushed.map(|connection| connection.policy.by_uid), None)
        }
    }
}

/// A close was made, or came to nothing.
pub(crate) fn attempt(shared: &Shared, attempt: &CloseAttempt) {
    let CloseAttempt { order, closing, connection, late } = attempt;
    let (result, detail, level) = match closing {
        CloseOutcome::Reset(no_fin) => ("reset", no_fin.map(|why| format!("no FIN: {why}")), Level::INFO),
        CloseOutcome::Fin { .. } => ("fin", None, Level::INFO),
        CloseOutcome::Absent => ("absent", Some("it had ended already".to_owned()), Level::INFO),
        CloseOutcome::NotClosable(why) => ("not_closable", Some((*why).to_owned()), Level::WARN),
        CloseOutcome::Failed(error) => ("failed", Some(refusal::chain(error)), Level::ERROR),
    };
    let in_force = shared.in_force();
    let connection = connection.as_ref();
    let (uid, rule) = author(order.reason, order.rule, connection, &in_force);
    let why = match order.reason {
        CloseReason::Expired(expiry) => expiry.name().to_owned(),
        CloseReason::Request(_) => "request".to_owned(),
    };
    let late_ms = late.map(|late| u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
    Line { what: "close", uid, rule, key: order.key, connection, why, result, detail, late_ms }.say(level);
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

/// The closes of a rule are held back.
pub(crate) fn throttled(shared: &Shared, throttled: &Throttled, waiting: usize) {
    let Throttled { key, expiry, rule, hold, .. } = *throttled;
    let detail = format!("by {}; {waiting} connections wait, of all rules", hold.bound.name());
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
    Line { what: "close", uid: None, rule, key, connection, why, result, detail, late_ms: None }.say(level);
}

/// A policy was pushed.
pub(crate) fn pushed(shared: &Shared, push: &Push, result: &Result<Connection, Problem>) {
    let Push { key, change, by_uid } = push;
    let before = if result.is_err() { shared.connections.get(*key).ok().flatten() } else { None };
    let (connection, result, detail) = match result {
        Ok(connection) => (Some(connection), "applied", None),
        Err(problem) => (before.as_ref(), "refused", Some(problem.detail.clone())),
    };
    let why = change.to_string();
    let uid = Some(*by_uid);
    Line { what: "policy", uid, rule: None, key: *key, connection, why, result, detail, late_ms: None }
        .say(Level::INFO);
}

/// Rules were put in force.
pub(crate) fn rules(given: &Given, rules: usize, generation: u64) {
    let (uid, why) = match given {
        Given::File(_) => (None, "file"),
        Given::Request(uid) => (Some(*uid), "request"),
        Given::Cgroups => (None, "cgroups"),
    };
    info!(target: "tcpops::audit", uid, rules, generation, why, "rules");
}

/// Everything was taken out of the kernel, by a request of `uid` or, with no agent, by the command that it ran.
pub(crate) fn detached(uid: u32, restored: bool) {
    info!(target: "tcpops::audit", uid, restored, "detached");
}
