//! Connections, policies and lifetimes between the maps' form and the protocol's.

use std::collections::HashMap;

use jiff::Timestamp;
use tcpops_common::conn::{ConnKey, Connection, Direction, Family, Origin};
use tcpops_common::policy::{Lifetime, Options, Outcome, Policy, Setting, SocketOptions, Source, TcpOption, limits};

use crate::api::connections as api;
use crate::api::keepalive::{KeepaliveRequest, SocketOptions as ApiOptions};
use crate::api::lifetime::{Lifetime as ApiLifetime, LifetimeRequest};
use crate::model::policies::Change;

const NS_PER_SECOND: f64 = 1e9;

/// The wall clock and the clock of the maps at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Nanoseconds since 1970.
    pub wall_ns: i128,
    /// Nanoseconds since boot.
    pub boot_ns: u64,
}

impl Clocks {
    /// The date of a time since boot, to the millisecond; `None` for zero, which means "not yet".
    pub fn date(&self, boot_ns: u64) -> Option<Timestamp> {
        if boot_ns == 0 {
            return None;
        }
        let wall_ns = self.wall_ns - i128::from(self.boot_ns) + i128::from(boot_ns);
        // To the nearest: the two clocks were read a moment apart.
        let rounded = wall_ns + 500_000;
        Timestamp::from_nanosecond(rounded - rounded.rem_euclid(1_000_000)).ok()
    }

    /// The time since boot of a date; `None` if it is not in the future.
    pub fn future_boot_ns(&self, date: Timestamp) -> Option<u64> {
        let ahead = date.as_nanosecond() - self.wall_ns;
        if ahead <= 0 {
            return None;
        }
        u64::try_from(i128::from(self.boot_ns) + ahead).ok()
    }

    /// Seconds since a time since boot.
    fn seconds_since(&self, boot_ns: u64) -> f64 {
        seconds(self.boot_ns.saturating_sub(boot_ns))
    }
}

/// Seconds, to the millisecond.
fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1e3
}

/// A connection as the API shows it.
pub fn connection(
    key: ConnKey,
    connection: &Connection,
    rule_names: &HashMap<u32, String>,
    clocks: Clocks,
) -> api::Connection {
    api::Connection {
        conid: key.conid,
        cookie: key.cookie,
        state: connection.state.name().to_owned(),
        direction: match connection.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
            Direction::Listen => "listen",
        }
        .to_owned(),
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
        local: connection.local().to_string(),
        remote: (connection.direction != Direction::Listen).then(|| connection.remote().to_string()),
        netns_cookie: connection.netns_cookie,
        uid: connection.uid,
        cgroup_id: (connection.cgroup_id != 0).then_some(connection.cgroup_id),
        opened: clocks.date(connection.opened_boot_ns).unwrap_or(Timestamp::UNIX_EPOCH),
        established: clocks.date(connection.established_boot_ns),
        age_seconds: clocks.seconds_since(connection.opened_boot_ns),
        state_seconds: clocks.seconds_since(connection.state_since_boot_ns),
        policy: policy(connection, rule_names, clocks),
    }
}

fn policy(connection: &Connection, rule_names: &HashMap<u32, String>, clocks: Clocks) -> api::Policy {
    let lifetime = connection.policy.lifetime_in_force();
    api::Policy {
        rule: rule_names.get(&connection.rule).cloned(),
        wanted: connection.policy.options.any().then(|| wanted(&connection.policy.options)),
        options_source: source(connection.options_source),
        lifetime: (!lifetime.is_none()).then(|| self::lifetime(&lifetime, clocks)),
        lifetime_source: source(connection.lifetime_source),
        result: result(connection, clocks),
    }
}

fn source(source: Source) -> Option<String> {
    match source {
        Source::None => None,
        Source::Rule => Some("rule".to_owned()),
        Source::Override => Some("override".to_owned()),
    }
}

fn wanted(options: &Options) -> api::Wanted {
    let set = options.keepalive == Setting::Set;
    api::Wanted {
        keepalive: match options.keepalive {
            Setting::Leave => None,
            Setting::Set => Some(true),
            Setting::Clear => Some(false),
        },
        idle_seconds: set.then_some(options.keepidle_s),
        count: set.then_some(options.keepcnt),
        interval_seconds: set.then_some(options.keepintvl_s),
        user_timeout_ms: match options.user_timeout {
            Setting::Leave => None,
            Setting::Set => Some(options.user_timeout_ms),
            Setting::Clear => Some(0),
        },
    }
}

fn result(connection: &Connection, clocks: Clocks) -> Option<api::ApplyResult> {
    let outcome = match connection.outcome {
        Outcome::Untouched => return None,
        Outcome::Applied => "applied",
        Outcome::Refused => "refused",
    };
    Some(api::ApplyResult {
        outcome: outcome.to_owned(),
        at: clocks.date(connection.applied_boot_ns)?,
        refused_option: (connection.refused != TcpOption::None).then(|| connection.refused.name().to_owned()),
        errno: (connection.errno != 0).then(|| i32::from(connection.errno)),
        in_force: options(&connection.in_force),
        original: options(&connection.original),
    })
}

/// Socket options as the API shows them.
pub fn options(options: &SocketOptions) -> ApiOptions {
    ApiOptions {
        keepalive: options.keepalive != 0,
        idle_seconds: options.keepidle_s,
        count: options.keepcnt,
        interval_seconds: options.keepintvl_s,
        user_timeout_ms: options.user_timeout_ms,
    }
}

/// Lifetimes as the API shows them.
pub fn lifetime(lifetime: &Lifetime, clocks: Clocks) -> ApiLifetime {
    let given = |ns: u64| (ns != 0).then(|| ns as f64 / NS_PER_SECOND);
    ApiLifetime {
        idle_seconds: given(lifetime.idle_ns),
        max_age_seconds: given(lifetime.max_age_ns),
        deadline: clocks.date(lifetime.deadline_boot_ns),
    }
}

/// The lifetimes in force under a policy, as the API shows them.
pub fn lifetime_in_force(policy: &Policy, clocks: Clocks) -> ApiLifetime {
    lifetime(&policy.lifetime_in_force(), clocks)
}

/// What a request for keepalive changes.
pub fn keepalive_change(request: &KeepaliveRequest) -> Change {
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
/// Says what was expected: at least one limit, and a deadline in the future, within ten years.
pub fn lifetime_change(request: &LifetimeRequest, clocks: Clocks) -> Result<Change, String> {
    if *request == LifetimeRequest::default() {
        return Err("expected at least one of idle_seconds, max_age_seconds and deadline, found none".to_owned());
    }
    let ns = |seconds: Option<crate::api::seconds::LifetimeSeconds>| {
        seconds.map_or(0, |seconds| (seconds.0 * NS_PER_SECOND) as u64)
    };
    let deadline_boot_ns = match request.deadline {
        None => 0,
        Some(deadline) => {
            let latest_ns = clocks.boot_ns + limits::LIFETIME_SECONDS.end() * 1_000_000_000;
            clocks
                .future_boot_ns(deadline)
                .filter(|at| *at <= latest_ns)
                .ok_or_else(|| format!("expected a deadline in the future and within ten years, found {deadline}"))?
        }
    };
    Ok(Change::LifetimeSet(Lifetime {
        idle_ns: ns(request.idle_seconds),
        max_age_ns: ns(request.max_age_seconds),
        deadline_boot_ns,
    }))
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
    fn a_plain_connection_has_no_policy() {
        let shown = connection(ConnKey { cookie: 9, conid: 4 }, &testing::connection(), &HashMap::new(), CLOCKS);
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
        let expected = Lifetime { idle_ns: 1_500_000_000, max_age_ns: 60_000_000_000, deadline_boot_ns: 0 };
        assert_eq!(change(r#"{"idle_seconds": 1.5, "max_age_seconds": 60}"#), Ok(Change::LifetimeSet(expected)));
    }
}
