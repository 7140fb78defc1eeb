//! A rule as a row of the list, and the guard as the line under it.

use serde::Serialize;
use serde_json::Value;

use crate::api::lifetime::Lifetime;
use crate::api::rules::{Rule, RuleGuard, RuleMatch};
use crate::api::values::{LifetimeDuration, Manner, OneOrMany, Switch, UserTimeout};
use crate::cli::human::{self, NOTHING};

/// The names of the columns.
pub(crate) const HEADER: [&str; 8] = ["#", "NAME", "MATCH", "KEEPALIVE", "USER-TIMEOUT", "MODE", "LIFETIME", "CLOSE"];

/// The ports that are protected by default.
const DEFAULT_PORTS: &str = "22";

/// The row of the rule at `index`; the table counts from 1.
pub(crate) fn row(index: usize, rule: &Rule) -> [String; HEADER.len()] {
    let (number, name) = ((index + 1).to_string(), rule.name.to_string());
    let matching = matching(&rule.matching);
    [number, name, matching, keepalive(rule), user_timeout(rule), mode(rule), lifetime(rule), close(rule)]
}

/// The bounds of the guard, and the ports that it protects.
pub(crate) fn guard(guard: &RuleGuard) -> String {
    let RuleGuard { closes_per_second, percent_per_minute, protect_ports } = guard;
    let ports = protect_ports.as_ref().map_or_else(|| DEFAULT_PORTS.to_owned(), |ports| words(ports));
    let bounds = [
        closes_per_second.map(|rate| format!("at most {} closes a second", rate.get())),
        percent_per_minute.map(|share| format!("at most {}% of the connections a minute by one rule", share.percent())),
        Some(format!("protected ports: {}", if ports.is_empty() { "none" } else { &ports })),
    ];
    human::join(bounds, ", ")
}

/// The connections that match.
pub(crate) fn matching(matching: &RuleMatch) -> String {
    let RuleMatch { direction, local, local_port, remote, remote_port, uid, cgroup, family, origin } = matching;
    let fields = [
        field("direction", direction),
        field("family", family),
        field("origin", origin),
        field("local", local),
        field("local_port", local_port),
        field("remote", remote),
        field("remote_port", remote_port),
        field("uid", uid),
        field("cgroup", cgroup),
    ];
    let text = human::join(fields, " ");
    if text.is_empty() { "any".to_owned() } else { text }
}

fn field<T: Serialize>(name: &str, values: &Option<OneOrMany<T>>) -> Option<String> {
    Some(format!("{name}={}", words(values.as_ref()?.as_slice())))
}

/// The values as in the document, without quotes.
fn words<T: Serialize>(values: &[T]) -> String {
    let word = |value: &T| match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    };
    values.iter().map(word).collect::<Vec<_>>().join(",")
}

/// The keepalive that the rule wants.
pub(crate) fn keepalive(rule: &Rule) -> String {
    match rule.keepalive {
        None => NOTHING.to_owned(),
        Some(Switch::Off) => "off".to_owned(),
        Some(Switch::On(on)) => human::keepalive(on.idle.seconds(), on.count.get(), on.interval.seconds()),
    }
}

/// The user timeout that the rule wants.
pub(crate) fn user_timeout(rule: &Rule) -> String {
    match (rule.user_timeout, rule.keepalive) {
        (None, _) => NOTHING.to_owned(),
        (Some(UserTimeout::Off), _) => "off".to_owned(),
        (Some(UserTimeout::After(ms)), _) => human::user_timeout(ms),
        (Some(UserTimeout::Auto), Some(Switch::On(on))) => match UserTimeout::auto_ms(on.idle, on.count, on.interval) {
            Ok(ms) => format!("auto ({})", human::user_timeout(ms)),
            Err(_beyond) => "auto".to_owned(),
        },
        (Some(UserTimeout::Auto), _) => "auto".to_owned(),
    }
}

/// The mode of a rule that wants socket options.
pub(crate) fn mode(rule: &Rule) -> String {
    let wants_options = rule.keepalive.is_some() || rule.user_timeout.is_some();
    if wants_options { rule.mode.to_string() } else { NOTHING.to_owned() }
}

/// The limits after which the rule closes connections.
pub(crate) fn lifetime(rule: &Rule) -> String {
    let on = match rule.lifetime {
        None => return NOTHING.to_owned(),
        Some(Switch::Off) => return "none".to_owned(),
        Some(Switch::On(on)) => on,
    };
    let seconds = |limit: LifetimeDuration| limit.as_millis() as f64 / 1000.0;
    let shared = human::lifetime(&Lifetime {
        idle_seconds: on.idle.map(seconds),
        max_age_seconds: on.max_age.map(seconds),
        deadline: on.deadline.map(|deadline| deadline.timestamp()),
        jitter_percent: on.jitter.map(|jitter| jitter.percent()),
    });
    let named = |name, limit: Option<LifetimeDuration>| {
        limit.map(|limit| format!("{name} {}", human::duration(seconds(limit))))
    };
    let limits = [
        Some(shared).filter(|shared| shared != NOTHING),
        named("first byte", on.first_byte),
        named("half closed", on.half_closed),
        named("connect", on.connect),
    ];
    human::join(limits, ", ")
}

/// The way in which the rule closes connections, that it protects them, or that it leaves them untracked.
pub(crate) fn close(rule: &Rule) -> String {
    if !rule.track {
        return "not tracked".to_owned();
    }
    if rule.protect {
        return "protected".to_owned();
    }
    if !rule.enforce {
        return "logged only".to_owned();
    }
    match rule.close {
        Manner::Reset if rule.lifetime.as_ref().and_then(Switch::on).is_none() => NOTHING.to_owned(),
        Manner::Reset => "reset".to_owned(),
        Manner::Fin => format!("fin, reset after {}", human::duration(rule.grace_ms() as f64 / 1000.0)),
    }
}
