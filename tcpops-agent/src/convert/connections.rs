//! Connections, policies and lifetimes between the maps' form and the protocol's.

use std::collections::HashMap;

use jiff::Timestamp;
use tcpops_common::conn::{ConnKey, Connection, Direction, Family, Origin};
use tcpops_common::option::Part;
use tcpops_common::policy::{Lifetime, Options, Outcome, Policy, Setting, SocketOptions, Source, TcpOption, limits};

use crate::api::connections as api;
use crate::api::keepalive::{KeepaliveRequest, SocketOptions as ApiOptions};
use crate::api::lifetime::{Lifetime as ApiLifetime, LifetimeRequest};
use crate::api::seconds::LifetimeSeconds;
use crate::api::values::{self as words, Mode};
use crate::api::why::Override;
use crate::clocks::{Clocks, seconds};
use crate::model::expiry::closing::{Closed, Manner};
use crate::model::expiry::lifetimes::Expiry;
use crate::model::requests::policies::Change;

const NS_PER_SECOND: f64 = 1e9;
/// The time between a FIN and a reset, unless something else is said.
const GRACE_NS: u64 = 10_000_000_000;

/// A connection as the API shows it.
pub(crate) fn connection(
    key: ConnKey,
    connection: &Connection,
    rule_names: &HashMap<u32, String>,
    expires: Option<api::Expires>,
    clocks: Clocks,
) -> api::Connection {
    let (local, remote) = ends(connection);
    api::Connection {
        conid: key.conid,
        cookie: key.cookie,
        state: connection.state.name().to_owned(),
        direction: direction(connection.direction).to_owned(),
        origin: match connection.origin {
            Origin::Handshake => "handshake",
            Origin::Adopted => "adopted",
        }
        .to_owned(),
        family: match connection.family {
            Family::Inet => "ipv4",
            Family::Inet6 => "ipv6",
        }
        .to_owned(),
        local,
        remote,
        netns_cookie: connection.netns_cookie,
        uid: connection.uid,
        cgroup_id: (connection.cgroup_id != 0).then_some(connection.cgroup_id),
        opened: clocks.date(connection.opened_boot_ns).unwrap_or(Timestamp::UNIX_EPOCH),
        established: clocks.date(connection.established_boot_ns),
        age_seconds: clocks.seconds_since(connection.opened_boot_ns),
        state_seconds: clocks.seconds_since(connection.state_since_boot_ns),
        policy: policy(connection, rule_names, clocks),
        expires,
    }
}

/// When a connection will end, and by which limit, as the API shows it; `None` for a time that no calendar has.
pub(crate) fn expires(
    at_boot_ns: u64,
    expiry: Expiry,
    connection: &Connection,
    held: Option<String>,
    clocks: Clocks,
) -> Option<api::Expires> {
    Some(api::Expires {
        at: clocks.date(at_boot_ns)?,
        seconds: seconds(at_boot_ns.saturating_sub(clocks.boot_ns)),
        limit: expiry.name().to_owned(),
        source: source(connection.lifetime_source).unwrap_or_else(|| "rule".to_owned()),
        held,
    })
}

/// Both ends; a listener has one.
pub(crate) fn ends(connection: &Connection) -> (String, Option<String>) {
    let remote = (connection.direction != Direction::Listen).then(|| connection.remote().to_string());
    (connection.local().to_string(), remote)
}

/// The name of a direction.
pub(crate) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
        Direction::Listen => "listen",
    }
}

fn policy(connection: &Connection, rule_names: &HashMap<u32, String>, clocks: Clocks) -> api::Policy {
    api::Policy {
        rule: rule_names.get(&connection.rule).cloned(),
        wanted: connection.policy.options.any().then(|| wanted(&connection.policy.options)),
        keepalive_source: source(connection.keepalive_source),
        user_timeout_source: source(connection.user_timeout_source),
        lifetime: Some(lifetime_in_force(&connection.policy, clocks))
            .filter(|limits| *limits != ApiLifetime::default()),
        lifetime_source: source(connection.lifetime_source),
        result: result(connection, clocks),
    }
}

/// What a policy wants, and the name of the rule that matches.
pub(crate) fn intent(rule: Option<&str>, policy: &Policy, clocks: Clocks) -> api::Intent {
    let limits = match policy.lifetime_setting {
        // A lifetime that is taken off is something that is wanted.
        Setting::Clear => Some(ApiLifetime::default()),
        _ => Some(lifetime_in_force(policy, clocks)).filter(|limits| *limits != ApiLifetime::default()),
    };
    api::Intent {
        rule: rule.map(str::to_owned),
        wanted: policy.options.any().then(|| wanted(&policy.options)),
        lifetime: limits,
    }
}

/// What was pushed for a connection, as its detail shows it.
pub(crate) fn pushed(pushed: &Policy, connection: &Connection, clocks: Clocks) -> Override {
    let api::Intent { wanted, lifetime, .. } = intent(None, pushed, clocks);
    Override { by_uid: pushed.by_uid, applied: !connection.awaits(pushed), wanted, lifetime }
}

/// What the program has set itself.
pub(crate) fn set_by_program(connection: &Connection) -> Vec<String> {
    Part::ALL.iter().filter(|part| connection.is_own(**part)).map(|part| part.name().to_owned()).collect()
}

fn source(source: Source) -> Option<String> {
    match source {
        Source::None => None,
        Source::Rule => Some("rule".to_owned()),
        Source::Override => Some("override".to_owned()),
    }
}

fn wanted(options: &Options) -> api::Wanted {
    let set = !matches!(options.keepalive, Setting::Leave | Setting::Clear);
    api::Wanted {
        keepalive: match options.keepalive {
            Setting::Leave => None,
            Setting::Set | Setting::Default | Setting::Floor => Some(true),
            Setting::Clear => Some(false),
        },
        idle_seconds: set.then_some(options.keepidle_s),
        count: set.then_some(options.keepcnt),
        interval_seconds: set.then_some(options.keepintvl_s),
        keepalive_mode: mode(options.keepalive),
        user_timeout_mode: mode(options.user_timeout),
        user_timeout_ms: match options.user_timeout {
            Setting::Leave => None,
            Setting::Set | Setting::Default | Setting::Floor => Some(options.user_timeout_ms),
            Setting::Clear => Some(0),
        },
    }
}

/// How what is wanted stands against the program's own; nothing where it replaces it.
fn mode(setting: Setting) -> Option<Mode> {
    match setting {
        Setting::Leave | Setting::Set | Setting::Clear => None,
        Setting::Default => Some(Mode::Default),
        Setting::Floor => Some(Mode::Floor),
    }
}

fn result(connection: &Connection, clocks: Clocks) -> Option<api::ApplyResult> {
    Some(api::ApplyResult {
        outcome: outcome(connection.outcome)?.to_owned(),
        at: clocks.date(connection.applied_boot_ns)?,
        refused_option: (connection.refused != TcpOption::None).then(|| connection.refused.name().to_owned()),
        errno: (connection.errno != 0).then(|| i32::from(connection.errno)),
        in_force: options(&connection.in_force),
        original: options(&connection.original),
    })
}

/// The words for what came of applying options; `None` where none were applied.
pub(crate) fn outcome(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Untouched => None,
        Outcome::Applied => Some("applied"),
        Outcome::Yielded => Some("left to the program"),
        Outcome::Refused => Some("refused"),
    }
}

/// Socket options as the API shows them.
pub(crate) fn options(options: &SocketOptions) -> ApiOptions {
    ApiOptions {
        keepalive: options.keepalive != 0,
        idle_seconds: options.keepidle_s,
        count: options.keepcnt,
        interval_seconds: options.keepintvl_s,
        user_timeout_ms: options.user_timeout_ms,
    }
}

/// The lifetimes in force under a policy, as the API shows them.
pub(crate) fn lifetime_in_force(policy: &Policy, clocks: Clocks) -> ApiLifetime {
    let Lifetime { idle_ns, max_age_ns, deadline_boot_ns } = policy.lifetime_in_force();
    let given = |ns: u64| (ns != 0).then(|| ns as f64 / NS_PER_SECOND);
    let spread = policy.jitter_percent != 0 && (idle_ns != 0 || max_age_ns != 0);
    ApiLifetime {
        idle_seconds: given(idle_ns),
        max_age_seconds: given(max_age_ns),
        deadline: clocks.date(deadline_boot_ns),
        jitter_percent: spread.then_some(policy.jitter_percent),
    }
}

/// What a request for keepalive changes.
pub(crate) fn keepalive_change(request: &KeepaliveRequest) -> Change {
    Change::KeepaliveEnable {
        idle_s: request.idle_seconds.0,
        count: request.count.0,
        interval_s: request.interval_seconds.0,
        user_timeout_ms: request.user_timeout_ms.map(|timeout| timeout.0),
    }
}

/// What a request for lifetimes changes.
///
/// # Errors
/// Says what was expected: at least one limit, one that jitter is about, and a deadline in the future, within ten years.
pub(crate) fn lifetime_change(request: &LifetimeRequest, clocks: Clocks) -> Result<Change, String> {
    let LifetimeRequest { idle_seconds, max_age_seconds, deadline, jitter_percent } = *request;
    match (idle_seconds.or(max_age_seconds), deadline, jitter_percent) {
        (None, None, _) => {
            return Err("expected at least one of idle_seconds, max_age_seconds and deadline, found none".to_owned());
        }
        (None, Some(_), Some(_)) => {
            return Err("expected idle_seconds or max_age_seconds beside jitter_percent, found neither".to_owned());
        }
        _ => {}
    }
    let ns = |seconds: Option<LifetimeSeconds>| seconds.map_or(0, |seconds| (seconds.0 * NS_PER_SECOND) as u64);
    let deadline_boot_ns = match deadline {
        None => 0,
        Some(deadline) => {
            let latest_ns = clocks.boot_ns + limits::LIFETIME_SECONDS.end() * 1_000_000_000;
            clocks
                .future_boot_ns(deadline)
                .filter(|at| *at <= latest_ns)
                .ok_or_else(|| format!("expected a deadline in the future and within ten years, found {deadline}"))?
        }
    };
    Ok(Change::LifetimeSet {
        lifetime: Lifetime { idle_ns: ns(idle_seconds), max_age_ns: ns(max_age_seconds), deadline_boot_ns },
        jitter_percent: jitter_percent.map_or(0, |jitter| jitter.0),
    })
}

/// How a close is asked for.
///
/// # Errors
/// Says what was expected: no grace without a FIN.
pub(crate) fn manner(query: &api::CloseQuery) -> Result<Manner, String> {
    match (query.close, query.grace_seconds) {
        (words::Manner::Reset, None) => Ok(Manner::Reset),
        (words::Manner::Reset, Some(_)) => Err("grace_seconds: expected close=fin beside it, found a reset".to_owned()),
        (words::Manner::Fin, grace) => {
            let grace_ns = grace.map_or(GRACE_NS, |grace| (grace.0 * NS_PER_SECOND) as u64);
            Ok(Manner::Fin { grace_ns })
        }
    }
}

/// How a close that was asked for in some manner was made.
pub(crate) fn closed(conid: u64, wanted: words::Manner, closed: Closed, clocks: Clocks) -> api::Closed {
    let mut answer = api::Closed { conid, close: None, reset_at: None, detail: None };
    match (wanted, closed) {
        (words::Manner::Reset, _) => {}
        (words::Manner::Fin, Closed::Reset(no_fin)) => {
            answer.close = Some(words::Manner::Reset);
            answer.detail = no_fin.map(str::to_owned);
        }
        (words::Manner::Fin, Closed::Fin(reset_at_boot_ns)) => {
            answer.close = Some(words::Manner::Fin);
            answer.reset_at = clocks.date(reset_at_boot_ns);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    const CLOCKS: Clocks = Clocks { wall_ns: 1_700_000_000_000_000_000, boot_ns: 10_000_000_000 };

    #[test]
    fn dates_follow_the_clocks() {
        assert_eq!(CLOCKS.date(0), None);
        let date = CLOCKS.date(11_000_000_000).unwrap();
        assert_eq!(date.as_second(), 1_700_000_001);
        assert_eq!(CLOCKS.future_boot_ns(date), Some(11_000_000_000));
        assert_eq!(CLOCKS.future_boot_ns(CLOCKS.date(10_000_000_000).unwrap()), None);
    }

    #[test]
    fn a_date_gives_the_same_time_again() {
        let date = CLOCKS.date(11_005_000_000).unwrap();
        assert_eq!(CLOCKS.boot_ns(date), 11_010_000_000);
        let later = Clocks { wall_ns: CLOCKS.wall_ns + 3_600_000_000_700, boot_ns: CLOCKS.boot_ns + 3_600_000_000_000 };
        assert_eq!(later.boot_ns(date), 11_010_000_000);
        assert_eq!(CLOCKS.boot_ns(CLOCKS.date(11_000_000_000).unwrap()), 11_000_000_000);
        // Before the boot, and beyond what is counted.
        assert_eq!(CLOCKS.boot_ns(Timestamp::UNIX_EPOCH), 10_000_000);
        assert_eq!(CLOCKS.boot_ns(Timestamp::MAX), u64::MAX);
    }

    #[test]
    fn a_plain_connection_has_no_policy() {
        let shown = connection(ConnKey { cookie: 9, conid: 4 }, &testing::connection(), &HashMap::new(), None, CLOCKS);
        assert_eq!((shown.conid, shown.cookie, shown.state.as_str()), (4, 9, "established"));
        assert_eq!(shown.remote.as_deref(), Some("192.0.2.7:5060"));
        assert_eq!((shown.policy.wanted, shown.policy.lifetime, shown.policy.result), (None, None, None));
    }

    #[test]
    fn lifetimes_are_checked() {
        let change = |text: &str| lifetime_change(&serde_json::from_str(text).unwrap(), CLOCKS);
        assert!(change("{}").unwrap_err().contains("at least one"));
        assert!(change(r#"{"deadline": "2001-01-01T00:00:00Z"}"#).unwrap_err().contains("future"));
        assert!(change(r#"{"deadline": "2101-01-01T00:00:00Z"}"#).unwrap_err().contains("ten years"));
        let lifetime = Lifetime { idle_ns: 1_500_000_000, max_age_ns: 60_000_000_000, deadline_boot_ns: 0 };
        let exact = Change::LifetimeSet { lifetime, jitter_percent: 0 };
        assert_eq!(change(r#"{"idle_seconds": 1.5, "max_age_seconds": 60}"#), Ok(exact));
        let spread = Change::LifetimeSet { lifetime, jitter_percent: 25 };
        assert_eq!(change(r#"{"idle_seconds": 1.5, "max_age_seconds": 60, "jitter_percent": 25}"#), Ok(spread));
        assert!(change(r#"{"jitter_percent": 25}"#).unwrap_err().contains("at least one"));
        let alone = change(r#"{"deadline": "2024-01-01T00:00:00Z", "jitter_percent": 25}"#).unwrap_err();
        assert_eq!(alone, "expected idle_seconds or max_age_seconds beside jitter_percent, found neither");
    }

    #[test]
    fn what_is_wanted_says_how_it_stands_against_the_program() {
        let mut entry = testing::connection();
        entry.policy.options = Options {
            keepalive: Setting::Floor,
            user_timeout: Setting::Default,
            user_timeout_ms: 5_000,
            keepidle_s: 60,
            ..Options::NONE
        };
        entry.policy.lifetime_setting = Setting::Set;
        entry.policy.lifetime.idle_ns = 60_000_000_000;
        entry.policy.jitter_percent = 10;
        let shown = policy(&entry, &HashMap::new(), CLOCKS);
        let wanted = shown.wanted.unwrap();
        assert_eq!((wanted.keepalive, wanted.idle_seconds), (Some(true), Some(60)));
        assert_eq!((wanted.keepalive_mode, wanted.user_timeout_mode), (Some(Mode::Floor), Some(Mode::Default)));
        let lifetime = shown.lifetime.unwrap();
        assert_eq!((lifetime.idle_seconds, lifetime.jitter_percent), (Some(60.0), Some(10)));
        entry.policy.options = Options { keepalive: Setting::Set, ..entry.policy.options };
        entry.policy.lifetime = Lifetime { deadline_boot_ns: 11_000_000_000, ..Lifetime::NONE };
        let shown = policy(&entry, &HashMap::new(), CLOCKS);
        assert_eq!(shown.wanted.unwrap().keepalive_mode, None);
        assert_eq!(shown.lifetime.unwrap().jitter_percent, None, "a deadline is exact");
    }
}
