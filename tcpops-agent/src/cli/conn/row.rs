//! A connection as a row of the list.

use crate::api::connections::{Connection, Expires};
use crate::api::policy::{Outcome, Policy, Source};
use crate::api::values::Direction;
use crate::cli::human::{self, NOTHING};

/// The names of the columns; the last three are those of a wide list.
pub(crate) const HEADER: [&str; 12] =
    ["CONID", "STATE", "DIR", "LOCAL", "REMOTE", "AGE", "KEEPALIVE", "LIFETIME", "POLICY", "ENDS", "UID", "COOKIE"];

/// The number of columns of a list that is not wide.
pub(crate) const NARROW: usize = 9;

pub(crate) fn row(connection: &Connection) -> [String; HEADER.len()] {
    let direction = match connection.direction {
        Direction::Inbound => "in",
        Direction::Outbound => "out",
        Direction::Listen => "listen",
    };
    let policy = &connection.policy;
    [
        connection.conid.to_string(),
        connection.state.to_string(),
        direction.to_owned(),
        connection.local.clone(),
        human::or_nothing(connection.remote.as_ref()),
        human::age(connection.age_seconds),
        keepalive(policy),
        human::or_nothing(policy.lifetime.as_ref().map(human::lifetime)),
        origin(policy).to_owned(),
        human::or_nothing(connection.expires.as_ref().map(ends)),
        connection.uid.to_string(),
        connection.cookie.to_string(),
    ]
}

/// The limit that ends a connection, and when, or why not.
fn ends(expires: &Expires) -> String {
    match &expires.held {
        Some(held) => format!("{} ({}): {held}", expires.limit, expires.source),
        None => format!("{} ({}) in {}", expires.limit, expires.source, human::age(expires.seconds)),
    }
}

/// The keepalive of the policy: as it is in force where the policy was applied, as it is wanted where it was not yet.
pub(crate) fn keepalive(policy: &Policy) -> String {
    match (policy.wanted.filter(|wanted| wanted.keepalive.is_some()), &policy.result) {
        (None, _) => NOTHING.to_owned(),
        (Some(_), Some(result)) if result.outcome == Outcome::Applied => human::keepalive_of(&result.in_force),
        (Some(_), Some(result)) => result.outcome.to_string(),
        (Some(wanted), None) => human::wanted_keepalive(&wanted),
    }
}

/// The policy that decides: an override, or the name of a rule.
fn origin(policy: &Policy) -> &str {
    let sources = [&policy.keepalive_source, &policy.user_timeout_source, &policy.lifetime_source];
    if sources.into_iter().flatten().any(|source| *source == Source::Override) {
        return "override";
    }
    policy.rule.as_deref().unwrap_or(NOTHING)
}

#[cfg(test)]
pub(crate) mod tests {
    use tcpops_common::state::TcpState;

    use super::*;
    use crate::api::connections::Limit;
    use crate::api::keepalive::SocketOptions;
    use crate::api::lifetime::Lifetime;
    use crate::api::policy::{ApplyResult, Wanted};
    use crate::api::values::{Family, Origin, State};
    use crate::cli::table::Blocks;

    const PROGRAM: SocketOptions =
        SocketOptions { keepalive: false, idle_seconds: 7200, count: 9, interval_seconds: 75, user_timeout_ms: 0 };

    pub(crate) fn connection(conid: u64) -> Connection {
        Connection {
            conid,
            cookie: 42,
            state: State(TcpState::Established),
            direction: Direction::Inbound,
            origin: Origin::Handshake,
            family: Family::Ipv4,
            local: "10.0.0.1:5060".to_owned(),
            remote: Some("192.0.2.7:40112".to_owned()),
            netns_cookie: 1,
            uid: 107,
            cgroup_id: Some(4711),
            opened: "2026-11-23T00:00:00.25Z".parse().unwrap(),
            established: Some("2026-11-23T00:00:00.27Z".parse().unwrap()),
            age_seconds: 312.5,
            state_seconds: 312.4,
            policy: Policy {
                rule: Some("sip-clients".to_owned()),
                wanted: Some(Wanted {
                    keepalive: Some(true),
                    idle_seconds: Some(60),
                    count: Some(5),
                    interval_seconds: Some(5),
                    keepalive_mode: None,
                    user_timeout_ms: Some(85_000),
                    user_timeout_mode: None,
                }),
                keepalive_source: Some(Source::Rule),
                user_timeout_source: Some(Source::Rule),
                lifetime: Some(Lifetime {
                    idle_seconds: Some(300.0),
                    max_age_seconds: Some(3600.0),
                    ..Lifetime::default()
                }),
                lifetime_source: Some(Source::Override),
                result: Some(ApplyResult {
                    outcome: Outcome::Applied,
                    at: "2026-11-23T00:00:00.27Z".parse().unwrap(),
                    refused_option: None,
                    errno: None,
                    in_force: SocketOptions {
                        keepalive: true,
                        idle_seconds: 60,
                        count: 5,
                        interval_seconds: 5,
                        user_timeout_ms: 85_000,
                    },
                    original: PROGRAM,
                }),
            },
            expires: Some(Expires {
                at: "2026-11-23T00:10:00Z".parse().unwrap(),
                seconds: 252.5,
                limit: Limit::Idle,
                source: Source::Override,
                held: None,
            }),
        }
    }

    #[test]
    fn a_wide_row_says_when_and_why_it_ends() {
        let mut connection = connection(1);
        assert_eq!(row(&connection)[NARROW..], ["idle (override) in 4m12s", "107", "42"]);
        let held = Some("protected by rule \"ssh\"".to_owned());
        connection.expires = connection.expires.map(|expires| Expires { source: Source::Rule, held, ..expires });
        assert_eq!(row(&connection)[9], "idle (rule): protected by rule \"ssh\"");
        connection.expires = None;
        assert_eq!(row(&connection)[9], "-");
    }

    fn nothing() -> Policy {
        let (rule, wanted, keepalive_source, user_timeout_source) = Default::default();
        let (lifetime, lifetime_source, result) = Default::default();
        Policy { rule, wanted, keepalive_source, user_timeout_source, lifetime, lifetime_source, result }
    }

    #[test]
    fn rows_line_up() {
        let mut listener = connection(7);
        listener.state = State(TcpState::Listen);
        listener.direction = Direction::Listen;
        listener.local = "[::]:5060".to_owned();
        listener.remote = None;
        listener.policy = nothing();
        let mut ruled = connection(1_000_017);
        ruled.direction = Direction::Outbound;
        ruled.policy.lifetime_source = Some(Source::Rule);
        let rows = [listener, connection(17), ruled];
        assert_eq!(
            Blocks::new(&HEADER[..NARROW])
                .render(rows.iter().map(|connection| row(connection).into_iter().take(NARROW))),
            "CONID    STATE        DIR     LOCAL          REMOTE           AGE    KEEPALIVE  LIFETIME         POLICY\n\
             7        listen       listen  [::]:5060      -                5m12s  -          -                -\n\
             17       established  in      10.0.0.1:5060  192.0.2.7:40112  5m12s  60s/5x5s   idle 5m, max 1h  override\n\
             1000017  established  out     10.0.0.1:5060  192.0.2.7:40112  5m12s  60s/5x5s   idle 5m, max 1h  sip-clients\n"
        );
    }

    #[test]
    fn keepalive_is_what_is_in_force() {
        let full = connection(1).policy;
        assert_eq!(keepalive(&full), "60s/5x5s");
        assert_eq!(keepalive(&Policy { result: None, ..full.clone() }), "60s/5x5s");
        assert_eq!(keepalive(&nothing()), "-");
        let wanted = |keepalive| {
            Some(Wanted {
                keepalive,
                idle_seconds: None,
                count: None,
                interval_seconds: None,
                keepalive_mode: None,
                user_timeout_ms: Some(1),
                user_timeout_mode: None,
            })
        };
        assert_eq!(keepalive(&Policy { wanted: wanted(None), ..full.clone() }), "-");
        assert_eq!(keepalive(&Policy { wanted: wanted(Some(false)), result: None, ..full.clone() }), "off");
        let result =
            |outcome: Outcome| full.result.clone().map(|result| ApplyResult { outcome, in_force: PROGRAM, ..result });
        assert_eq!(
            keepalive(&Policy { wanted: wanted(Some(false)), result: result(Outcome::Applied), ..full.clone() }),
            "off"
        );
        assert_eq!(keepalive(&Policy { result: result(Outcome::Refused), ..full.clone() }), "refused");
    }
}
