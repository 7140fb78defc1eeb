//! An event as a line for people.

use crate::api::events::{Cause, Event, EventPolicy, EventType, Summary};
use crate::api::policy::Source;
use crate::api::values::Direction;
use crate::cli::human::{self, NOTHING};

/// The line, with its end: time, type, connection, and the rest as its type has it.
pub(crate) fn line(event: &Event) -> String {
    let name: &str = event.kind.into();
    let time = format!("{:.3}", event.time);
    let words = match event.kind {
        EventType::Lost => lost(event),
        EventType::Resynchronised => format!("{} connections", human::or_nothing(event.tracked)),
        EventType::Heartbeat => String::new(),
        _ => format!("{:<6}  {}  {}", human::or_nothing(event.conid), ends(event), what(event)),
    };
    format!("{time}  {name:<10}  {words}").trim_end().to_owned() + "\n"
}

fn lost(event: &Event) -> String {
    let count = event.count.map_or_else(|| "some".to_owned(), |count| count.to_string());
    format!("{count} events: {}", human::or_nothing(event.reason))
}

/// Both endpoints, with an arrow from the one that began.
fn ends(event: &Event) -> String {
    let local = event.local.as_deref().unwrap_or(NOTHING);
    match (event.direction, event.remote.as_deref()) {
        (Some(Direction::Inbound), Some(remote)) => format!("{local} <- {remote}"),
        (_, Some(remote)) => format!("{local} -> {remote}"),
        (_, None) => local.to_owned(),
    }
}

fn what(event: &Event) -> String {
    let state = human::or_nothing(event.state);
    let rule = event.rule.as_deref();
    match event.kind {
        EventType::Transition => format!("{} > {state}", human::or_nothing(event.old_state)),
        EventType::Applied | EventType::Refused => {
            event.policy.as_ref().map(|applied| policy(applied, rule)).unwrap_or_default()
        }
        EventType::Expiring => event.cause.as_ref().map(cause).unwrap_or_default(),
        EventType::Closed => human::join([event.cause.as_ref().map(cause), event.summary.as_ref().map(summary)], "; "),
        _ => state,
    }
}

fn policy(policy: &EventPolicy, rule: Option<&str>) -> String {
    let by = match (policy.source, policy.by_uid, rule) {
        (Some(Source::Override), Some(uid), _) => format!("uid {uid}"),
        (Some(_), _, Some(rule)) => format!("rule {rule}"),
        (Some(source), ..) => source.to_string(),
        (None, ..) => "no rule any more".to_owned(),
    };
    let options = policy.in_force.map(|now| {
        format!("keepalive {}, user timeout {}", human::keepalive_of(&now), human::user_timeout(now.user_timeout_ms))
    });
    let left = policy.outcome.filter(|_| options.is_none()).map(|outcome| outcome.to_string());
    let refused = policy.refused_option.as_ref().map(|option| match policy.errno {
        Some(errno) => format!("{option}: {}", std::io::Error::from_raw_os_error(errno)),
        None => option.to_string(),
    });
    let parts = human::join([options, left, policy.lifetime.as_ref().map(human::lifetime), refused], ", ");
    if parts.is_empty() { by } else { format!("{by}: {parts}") }
}

fn cause(cause: &Cause) -> String {
    let particulars = [
        cause.lifetime.map(|limit| limit.to_string()),
        cause.detail.map(|detail| detail.to_string()),
        cause.side.as_ref().map(|side| format!("by {side}")),
        cause.rule.as_ref().map(|rule| format!("rule {rule}")),
        cause.by_uid.map(|uid| format!("uid {uid}")),
    ];
    let particulars = human::join(particulars, ", ");
    if particulars.is_empty() { cause.name.to_string() } else { format!("{} ({particulars})", cause.name) }
}

fn summary(summary: &Summary) -> String {
    let idle = summary.idle_seconds.map(|idle| format!(", idle {}", span(idle)));
    let again = match summary.retransmissions {
        0 => String::new(),
        count => format!(", {count} segments sent again"),
    };
    let (age, idle) = (span(summary.age_seconds), idle.unwrap_or_default());
    format!("age {age}{idle}, {} B in, {} B out{again}", summary.bytes_in, summary.bytes_out)
}

/// A short time to the millisecond, a long one in its two greatest units.
fn span(seconds: f64) -> String {
    if seconds < 10.0 { human::duration(seconds) } else { human::age(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(kind: &str, more: Value) -> String {
        let mut event = json!({ "seq": 5, "time": "2026-11-23T03:07:21.1Z", "type": kind });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let line = line(&serde_json::from_value(event).unwrap());
        let words = line.strip_prefix("2026-11-23T03:07:21.100Z  ").unwrap();
        words.strip_suffix('\n').unwrap().to_owned()
    }

    fn of_connection(kind: &str, more: Value) -> String {
        let mut fields = json!({
            "conid": 17, "direction": "inbound", "local": "10.0.0.1:5060", "remote": "192.0.2.7:40112", "rule": "sip",
        });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let words = shown(kind, fields);
        let expected = format!("{kind:<10}  17      10.0.0.1:5060 <- 192.0.2.7:40112  ");
        words.strip_prefix(&expected).unwrap_or_else(|| panic!("{words}")).to_owned()
    }

    #[test]
    fn each_type_says_what_matters() {
        assert_eq!(of_connection("opened", json!({ "state": "syn-recv" })), "syn-recv");
        let transition = json!({ "old_state": "syn-recv", "state": "established" });
        assert_eq!(of_connection("transition", transition), "syn-recv > established");
        let in_force = json!({ "keepalive": true, "idle_seconds": 60, "count": 5, "interval_seconds": 5,
            "user_timeout_ms": 85_000 });
        let policy = json!({ "source": "rule", "in_force": in_force, "lifetime": { "idle_seconds": 300.0 } });
        assert_eq!(
            of_connection("applied", json!({ "policy": policy })),
            "rule sip: keepalive 60s/5x5s, user timeout 1m25s, idle 5m"
        );
        assert_eq!(of_connection("applied", json!({ "policy": {} })), "no rule any more");
        let policy = json!({ "source": "rule", "outcome": "left to the program" });
        assert_eq!(of_connection("applied", json!({ "policy": policy })), "rule sip: left to the program");
        let policy = json!({ "source": "override", "by_uid": 1000, "refused_option": "TCP_KEEPCNT", "errno": 22 });
        assert_eq!(
            of_connection("refused", json!({ "policy": policy })),
            "uid 1000: TCP_KEEPCNT: Invalid argument (os error 22)"
        );
        let cause = json!({ "name": "expired", "lifetime": "idle", "rule": "sip" });
        assert_eq!(of_connection("expiring", json!({ "cause": cause })), "expired (idle, rule sip)");
        let summary = json!({ "age_seconds": 62.0, "idle_seconds": 0.3, "bytes_in": 120, "bytes_out": 3400,
            "retransmissions": 2, "states": {} });
        let cause = json!({ "name": "timeout", "detail": "keepalive", "errno": 110 });
        assert_eq!(
            of_connection("closed", json!({ "state": "established", "cause": cause, "summary": summary })),
            "timeout (keepalive); age 1m2s, idle 0.3s, 120 B in, 3400 B out, 2 segments sent again"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(
            shown("lost", json!({ "count": 12, "reason": "slow_reader" })),
            "lost        12 events: slow_reader"
        );
        assert_eq!(shown("lost", json!({ "reason": "agent_restarted" })), "lost        some events: agent_restarted");
        assert_eq!(shown("resynchronised", json!({ "tracked": 9 })), "resynchronised  9 connections");
    }

    #[test]
    fn a_listener_has_one_end() {
        let listener = json!({ "conid": 1, "direction": "listen", "local": "[::]:5060", "state": "listen" });
        assert_eq!(shown("closed", listener), "closed      1       [::]:5060");
    }
}
