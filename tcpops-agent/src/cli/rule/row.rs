//! A rule as a row of the list.

use serde::Serialize;
use serde_json::Value;

use crate::api::rules::{Rule, RuleMatch};
use crate::api::values::{OneOrMany, Switch, UserTimeout};
use crate::cli::human::{self, NOTHING};

/// The names of the columns.
pub(super) const HEADER: [&str; 6] = ["#", "NAME", "MATCH", "KEEPALIVE", "USER-TIMEOUT", "LIFETIME"];

/// The row of the rule at `index`, which people count from 1.
pub(super) fn row(index: usize, rule: &Rule) -> [String; HEADER.len()] {
    let (number, name) = ((index + 1).to_string(), rule.name.to_string());
    [number, name, matching(&rule.matching), keepalive(rule), user_timeout(rule), lifetime(rule)]
}

fn matching(matching: &RuleMatch) -> String {
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
    let text = fields.into_iter().flatten().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "any".to_owned() } else { text }
}

fn field<T: Serialize>(name: &str, values: &Option<OneOrMany<T>>) -> Option<String> {
    let word = |value: &T| match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    };
    let words: Vec<_> = values.as_ref()?.as_slice().iter().map(word).collect();
    Some(format!("{name}={}", words.join(",")))
}

/// What the rule wants of keepalive.
pub(super) fn keepalive(rule: &Rule) -> String {
    match rule.keepalive {
        None => NOTHING.to_owned(),
        Some(Switch::Off) => "off".to_owned(),
        Some(Switch::On(on)) => human::keepalive(on.idle.seconds(), on.count.get(), on.interval.seconds()),
    }
}

/// What the rule wants of the user timeout.
pub(super) fn user_timeout(rule: &Rule) -> String {
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

/// When the rule has connections closed.
pub(super) fn lifetime(rule: &Rule) -> String {
    match rule.lifetime {
        None => NOTHING.to_owned(),
        Some(Switch::Off) => "none".to_owned(),
        Some(Switch::On(on)) => human::lifetime(&crate::api::lifetime::Lifetime {
            idle_seconds: on.idle.map(|idle| idle.as_millis() as f64 / 1000.0),
            max_age_seconds: on.max_age.map(|max_age| max_age.as_millis() as f64 / 1000.0),
            deadline: None,
        }),
    }
}
