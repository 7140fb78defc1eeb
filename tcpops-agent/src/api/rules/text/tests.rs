use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use strum::VariantArray;
use utoipa::{PartialSchema, ToSchema};

use super::*;
use crate::api::rules::{RuleKeepalive, RuleLifetime, RuleMatch};
use crate::api::values::{
    Deadline, Direction, Family, KeepaliveCount, LifetimeDuration, OneOrMany, Origin, Switch, UserTimeout,
};

fn toml_error(text: &str) -> String {
    RuleDocument::from_toml(text, "rules.toml").unwrap_err().to_string()
}

fn json_error(text: &str) -> String {
    RuleDocument::from_json(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn toml_errors_have_their_place() {
    let rule = |fields: &str| toml_error(&format!("# comment\n[[rule]]\nname = \"Büro\"\n{fields}\n"));
    assert_eq!(
        rule("keepalive = { idle = \"0s\", count = 5, interval = \"1s\" }"),
        "rules.toml:4:22: expected a duration of 1s to 32767s such as \"60s\", found \"0s\""
    );
    assert_eq!(
        rule("keepalive = { idle = \"1s\", count = 500, interval = \"1s\" }"),
        "rules.toml:4:36: expected a number of probes from 1 to 127, found 500"
    );
    assert_eq!(rule("keepalive = { idle = \"1s\", count = 5 }"), "rules.toml:4:13: missing field `interval`");
    assert_eq!(
        rule("keepalive = \"on\""),
        "rules.toml:4:13: expected \"off\" or a table such as { idle = \"60s\", count = 5, interval = \"5s\" }, \
         found \"on\""
    );
    assert_eq!(
        rule("lifetime = 07:30:00"),
        "rules.toml:4:12: found a date or a time, expected one of `idle`, `max_age`, `deadline`, `jitter`, \
         `first_byte`, `half_closed`, `connect`"
    );
    assert_eq!(
        rule("lifetime = { idle = \"1m\", deadline = 2026-12-24T18:00:00 }"),
        "rules.toml:4:38: expected a time with its date and offset such as \"2026-12-24T18:00:00Z\", \
         found 2026-12-24T18:00:00"
    );
    assert_eq!(
        rule("lifetime = { idle = \"1m\", jitter = \"110%\" }"),
        "rules.toml:4:36: expected a percentage from 0 to 100 such as \"10%\", found \"110%\""
    );
    assert_eq!(
        rule("mode = \"loose\""),
        "rules.toml:4:8: expected \"force\", \"default\" or \"floor\", found \"loose\""
    );
    assert_eq!(rule("close = 5"), "rules.toml:4:9: expected \"reset\" or \"fin\", found 5");
    assert_eq!(rule("enforce = \"no\""), "rules.toml:4:11: expected true or false, found \"no\"");
    assert_eq!(rule("protect = 1"), "rules.toml:4:11: expected true or false, found 1");
    assert_eq!(
        rule("match = { remote = [\"::/0\", \"10.0.0.1/8\"] }"),
        "rules.toml:4:29: 10.0.0.1/8 has bits set beyond /8; expected 10.0.0.0/8"
    );
    assert_eq!(
        rule("match = { cgroup = \"ü\", uid = -1 }"),
        "rules.toml:4:20: expected the path of a cgroup below the cgroup2 mount such as \
         \"/system.slice/ssh.service\", found \"ü\""
    );
    assert_eq!(
        rule("match = { cgroup = \"/ü\", uid = -1 }"),
        "rules.toml:4:32: expected a uid, an integer from 0 to 4294967294, found -1"
    );
    assert_eq!(
        rule("match = [\"inbound\"]"),
        "rules.toml:4:9: expected a table such as { direction = \"inbound\", local_port = 5060 }, found a list"
    );
    assert_eq!(
        rule("keepalives = \"off\""),
        "rules.toml:4:1: unknown field `keepalives`, \
         expected one of `name`, `match`, `mode`, `keepalive`, `user_timeout`, `lifetime`, `close`, `grace`, `enforce`, \
         `protect`, `track`"
    );
    assert_eq!(rule("name = \"b\""), "rules.toml:4:1: duplicate key");
    assert_eq!(toml_error("[[rule]]\n"), "rules.toml:1:1: missing field `name`");
    assert_eq!(
        toml_error("[rule]\nname = \"a\"\n"),
        "rules.toml:1:1: expected a list, each of it a rule with a name ([[rule]]), found one table"
    );
    assert!(toml_error("[[rule]\n").starts_with("rules.toml:1:8: "));
}

#[test]
fn errors_of_the_guard_have_their_place() {
    let guard = |fields: &str| toml_error(&format!("[guard]\n{fields}\n"));
    assert_eq!(guard("closes_per_second = 0"), "rules.toml:2:21: expected a number from 1 to 4294967295, found 0");
    assert_eq!(
        guard("percent_per_minute = 101"),
        "rules.toml:2:22: expected a percentage from 1 to 100 such as 20, found 101"
    );
    let port = "a port from 1 to 65535 or a range such as \"5060-5070\"";
    assert_eq!(guard("protect_ports = [22, 0]"), format!("rules.toml:2:22: expected {port}, found 0"));
    assert_eq!(guard("protect_ports = 22"), format!("rules.toml:2:17: expected a list, each of it {port}, found 22"));
    assert_eq!(
        guard("closes = 5"),
        "rules.toml:2:1: unknown field `closes`, \
         expected one of `closes_per_second`, `percent_per_minute`, `protect_ports`"
    );
    assert_eq!(
        toml_error("guard = 100"),
        "rules.toml:1:9: expected a table such as { closes_per_second = 100, percent_per_minute = 20 }, found 100"
    );
    assert!(toml_error("[[guard]]\n").ends_with(", found a list"));
    assert_eq!(
        json_error("{\"guard\":{\"percent_per_minute\":null},\"rule\":[]}"),
        "line 1, column 35: expected a percentage from 1 to 100 such as 20, found null"
    );
    assert!(json_error("{\"guard\":null,\"rule\":[]}").contains("expected a table such as"));
}

#[test]
fn toml_errors_across_fields_have_their_place() {
    assert_eq!(
        toml_error("[[rule]]\nname = \"a\"\nkeepalive = \"off\"\nuser_timeout = \"auto\"\n"),
        "rules.toml:4:16: rule \"a\": user_timeout: expected keepalive with idle, count and interval beside \
         user_timeout = \"auto\", found keepalive = \"off\""
    );
    assert_eq!(
        toml_error("[[rule]]\nname = \"a\"\n\n[[rule]]\nkeepalive = \"off\"\nname = \"a\""),
        "rules.toml:6:8: rule \"a\": name: expected a name that no other rule has, found \"a\", the name of rule 1"
    );
    let nested = toml_error("[[rule]]\nname = \"a\"\n[rule.match]\ndirection = \"listen\"\nremote = \"::/0\"\n");
    assert!(
        nested.starts_with("rules.toml:5:10: rule \"a\": match.remote: expected no condition on the peer"),
        "{nested}"
    );
}

#[test]
fn json_errors_have_their_place() {
    assert_eq!(json_error(""), "line 1, column 1: EOF while parsing a value");
    assert_eq!(json_error("[]"), "line 1, column 2: expected a table with a list of rules, \"rule\", found a list");
    assert_eq!(
        json_error("{\"rule\":[[]]}"),
        "line 1, column 11: expected a rule with a name ([[rule]]), found a list"
    );
    assert_eq!(
        json_error("{\"rule\":[\n{\"name\":\"a\",\"match\":{\"uid\":[1,-1]}}]}"),
        "line 2, column 32: expected a uid, an integer from 0 to 4294967294, found -1"
    );
    assert_eq!(json_error("{\"rule\":[]} x"), "line 1, column 13: trailing characters");
    assert_eq!(
        json_error("{\"rule\":[{\"name\":\"a\",\"user_timeout\":null}]}"),
        "line 1, column 40: expected \"auto\", \"off\" or a duration of 1ms to 2147483647ms such as \"30s\", found null"
    );
    assert_eq!(
        json_error("{\"rule\":[{\"name\":\"a\"},\n{\"name\":\"a\"}]}"),
        "line 2, column 8: rule \"a\": name: expected a name that no other rule has, found \"a\", the name of rule 1"
    );
}

#[test]
fn a_fault_without_a_field_is_placed_at_the_table_around_it() {
    let text = "[[rule]]\nname = \"a\"\n\n[[rule]]\nname = \"b\"\nmatch = { uid = 1 }\n";
    let document = RuleDocument::from_toml(text, "f").unwrap();
    let place = |index: usize, field| {
        let error = document.rules[index].fault(index, field, "wrong").in_toml(text, "f");
        (error.line, error.column)
    };
    assert_eq!(place(1, "match.uid"), (6, 17));
    assert_eq!(place(1, "match.cgroup"), (6, 9));
    assert_eq!(place(1, "lifetime"), (4, 1));
}

#[test]
fn the_written_form_is_compact() {
    let text = "[[rule]]\nname = \"a\"\nuser_timeout = \"60000ms\"\n[rule.match]\nuid = [1, 2]\n\
                local_port = [\"5060-5060\"]\n\
                remote = \"::ffff:10.0.0.0/104\"\n[rule.keepalive]\nidle = \"5m 50s\"\ncount = 3\ninterval = \"10s\"\n\
                [[rule]]\nname = \"b\"\nlifetime = \"none\"\n";
    let document = RuleDocument::from_toml(text, "f").unwrap();
    assert_eq!(
        document.to_toml(),
        "[[rule]]\nname = \"a\"\nmatch = { local_port = 5060, remote = \"10.0.0.0/8\", uid = [1, 2] }\n\
         keepalive = { idle = \"350s\", count = 3, interval = \"10s\" }\nuser_timeout = \"1m\"\n\n\
         [[rule]]\nname = \"b\"\nlifetime = \"none\"\n"
    );
    assert_eq!(
        document.to_json(),
        "{\"rule\":[{\"name\":\"a\",\"match\":{\"local_port\":5060,\"remote\":\"10.0.0.0/8\",\"uid\":[1,2]},\
         \"keepalive\":{\"idle\":\"350s\",\"count\":3,\"interval\":\"10s\"},\"user_timeout\":\"1m\"},\
         {\"name\":\"b\",\"lifetime\":\"none\"}]}"
    );
    let text = "guard = { closes_per_second = 100, percent_per_minute = \"20%\", protect_ports = [\"22\"] }\n\
                [[rule]]\nprotect = false\nenforce = false\ngrace = \"2000ms\"\nclose = \"fin\"\nname = \"a\"\n\
                lifetime = { jitter = 10, deadline = 2026-12-24 19:00:00+01:00, idle = \"60s\" }\n\
                user_timeout = \"30s\"\nmode = \"floor\"\n\
                [[rule]]\nname = \"b\"\nmode = \"force\"\nclose = \"reset\"\nenforce = true\nprotect = true\n";
    let document = RuleDocument::from_toml(text, "f").unwrap();
    assert_eq!(
        document.to_toml(),
        "[guard]\ncloses_per_second = 100\npercent_per_minute = 20\nprotect_ports = [22]\n\n\
         [[rule]]\nname = \"a\"\nmode = \"floor\"\nuser_timeout = \"30s\"\n\
         lifetime = { idle = \"1m\", deadline = \"2026-12-24T18:00:00Z\", jitter = \"10%\" }\n\
         close = \"fin\"\ngrace = \"2s\"\nenforce = false\n\n\
         [[rule]]\nname = \"b\"\nprotect = true\n"
    );
    assert_eq!(
        document.to_json(),
        "{\"guard\":{\"closes_per_second\":100,\"percent_per_minute\":20,\"protect_ports\":[22]},\"rule\":[\
         {\"name\":\"a\",\"mode\":\"floor\",\"user_timeout\":\"30s\",\
         \"lifetime\":{\"idle\":\"1m\",\"deadline\":\"2026-12-24T18:00:00Z\",\"jitter\":\"10%\"},\
         \"close\":\"fin\",\"grace\":\"2s\",\"enforce\":false},\
         {\"name\":\"b\",\"protect\":true}]}"
    );
    assert_eq!(RuleDocument::from_toml("", "f").unwrap(), RuleDocument::default());
    let none = RuleDocument::default();
    assert_eq!(RuleDocument::from_json(none.to_json().as_bytes()).unwrap(), none);
    let error = RuleDocument::from_json(b"{}").unwrap_err();
    assert!(error.message.contains("expected a list of rules"), "{error}");
}

#[test]
fn a_guard_needs_no_rules() {
    let document = RuleDocument::from_toml("[guard]\ncloses_per_second = 5\n", "f").unwrap();
    assert!(document.rules.is_empty() && document.guard.is_some());
    assert_eq!(document.to_toml(), "[guard]\ncloses_per_second = 5\n");
    assert_eq!(RuleDocument::from_json(document.to_json().as_bytes()).unwrap(), document);
    // In a request it does not say by silence that all rules go.
    assert!(json_error("{\"guard\":{\"closes_per_second\":5}}").contains("expected a list of rules"));
}

#[test]
fn the_example_parses() {
    let text = include_str!("../../../../../examples/rules.toml");
    let document = RuleDocument::from_toml(text, "examples/rules.toml").unwrap_or_else(|error| panic!("{error}"));
    assert!(document.rules.len() >= 3);
}

#[test]
fn every_reference_of_the_schema_resolves() {
    let mut schemas = vec![("RuleDocument".to_owned(), RuleDocument::schema())];
    RuleDocument::schemas(&mut schemas);
    let text = serde_json::to_string(&schemas).unwrap();
    for reference in text.split("#/components/schemas/").skip(1) {
        let (name, _) = reference.split_once('"').unwrap();
        assert!(schemas.iter().any(|(known, _)| known == name), "{name}");
    }
    assert!(!text.contains("null"), "{text}");
    assert!(text.contains("#/components/schemas/LifetimeDuration"));
}

fn one_or_many<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<OneOrMany<T>>> {
    vec(value, 0..4).prop_map(OneOrMany::new)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl Into<String>) -> T {
    text.into().parse().unwrap()
}

prop_compose! {
    fn matching()(
        direction in one_or_many(select(&[Direction::Inbound, Direction::Outbound][..])),
        local in one_or_many(any::<(std::net::Ipv4Addr, u8)>().prop_map(|(addr, len)| {
            ipnet::Ipv4Net::new(addr, len % 33).unwrap().trunc().to_string().parse().unwrap()
        })),
        local_port in one_or_many((1_u16.., 1_u16..).prop_map(|(a, b)| parsed(format!("{}-{}", a.min(b), a.max(b))))),
        remote in one_or_many(any::<(std::net::Ipv6Addr, u8)>().prop_map(|(addr, len)| {
            ipnet::Ipv6Net::new(addr, len % 129).unwrap().trunc().to_string().parse().unwrap()
        })),
        remote_port in one_or_many((1_u16..).prop_map(|port| parsed(port.to_string()))),
        uid in one_or_many((0..u32::MAX).prop_map(|uid| serde_json::from_str(&uid.to_string()).unwrap())),
        cgroup in one_or_many("(/[a-z\"\\\\ü.]{3,9}){1,3}".prop_map(parsed)),
        family in one_or_many(select(Family::VARIANTS)),
        origin in one_or_many(select(Origin::VARIANTS)),
    ) -> RuleMatch {
        RuleMatch { direction, local, local_port, remote, remote_port, uid, cgroup, family, origin }
    }
}

prop_compose! {
    fn lifetime(protected: bool)(
        durations in proptest::array::uniform5(option::of(1_000_u64..315_360_000_000)),
        deadline in option::of(0_i64..253_000_000_000),
        jitter in option::of(0_u8..=100),
    ) -> Switch<RuleLifetime> {
        let [idle, max_age, first_byte, half_closed, connect] =
            durations.map(|ms| ms.map(|ms| LifetimeDuration::from_millis(ms).unwrap()));
        let lifetime = RuleLifetime {
            idle,
            max_age,
            deadline: deadline.map(|second| Deadline::from(jiff::Timestamp::from_second(second).unwrap())),
            jitter: jitter.filter(|_| idle.or(max_age).is_some()).map(|percent| parsed(format!("{percent}%"))),
            first_byte,
            half_closed,
            connect,
        };
        if lifetime.has_limit() && !protected { Switch::On(lifetime) } else { Switch::Off }
    }
}

prop_compose! {
    fn guard()(
        closes_per_second in option::of(1_u32..),
        percent_per_minute in option::of(1_u8..=100),
        protect_ports in option::of(vec((1_u16.., 1_u16..), 0..4)),
    ) -> RuleGuard {
        let ports = |(a, b): (u16, u16)| parsed(format!("{}-{}", a.min(b), a.max(b)));
        RuleGuard {
            closes_per_second: closes_per_second.map(|rate| serde_json::from_str(&rate.to_string()).unwrap()),
            percent_per_minute: percent_per_minute.map(|share| serde_json::from_str(&share.to_string()).unwrap()),
            protect_ports: protect_ports.map(|list| list.into_iter().map(ports).collect()),
        }
    }
}

prop_compose! {
    fn rule()(
        name in "[a-zß\"'\\\\#=]( ?[a-zß\"'\\\\#=]){0,10}".prop_map(parsed),
        matching in matching(),
        mode in select(Mode::VARIANTS),
        keepalive in option::of((1_u64..=10_000, 1_u8..=127, 1_u64..=10_000)),
        off in any::<bool>(),
        timeout in option::of(1_u64..=2_147_483_647),
        auto in any::<bool>(),
        (protect, lifetime) in any::<bool>().prop_flat_map(|protect| (Just(protect), option::of(lifetime(protect)))),
        close in select(Manner::VARIANTS),
        grace in option::of(1_000_u64..315_360_000_000),
        enforce in any::<bool>(),
        track in any::<bool>(),
    ) -> Rule {
        let time = |seconds| crate::api::values::KeepaliveTime::from_seconds(seconds).unwrap();
        let keepalive = keepalive.map(|(idle, count, interval)| Switch::On(RuleKeepalive {
            idle: time(idle), count: KeepaliveCount(count), interval: time(interval),
        })).or(off.then_some(Switch::Off));
        let user_timeout = if auto && matches!(keepalive, Some(Switch::On(_))) {
            Some(UserTimeout::Auto)
        } else {
            timeout.map(|ms| UserTimeout::from_millis(ms).unwrap())
        };
        let rule = Rule {
            name,
            matching,
            mode,
            keepalive,
            user_timeout,
            lifetime,
            close,
            grace: grace.filter(|_| close == Manner::Fin).map(|ms| LifetimeDuration::from_millis(ms).unwrap()),
            enforce,
            protect,
            track,
        };
        // What a rule may not say together is for the tests of the check.
        let force = Rule { mode: Mode::Force, ..rule.clone() };
        let alone = Rule { lifetime: None, track: true, ..force.clone() };
        let bare = Rule {
            mode: Mode::Force,
            keepalive: None,
            user_timeout: None,
            lifetime: None,
            close: Manner::Reset,
            grace: None,
            enforce: true,
            protect: false,
            ..rule.clone()
        };
        let is_right = |rule: &Rule| RuleDocument { guard: None, rules: vec![rule.clone()] }.check().is_ok();
        [rule, force, bare].into_iter().find(is_right).unwrap_or(alone)
    }
}

proptest! {
    #[test]
    fn documents_round_trip(mut rules in vec(rule(), 0..8), guard in option::of(guard())) {
        let mut names = std::collections::HashSet::new();
        rules.retain(|rule| names.insert(rule.name.clone()));
        let document = RuleDocument { guard, rules };
        prop_assert_eq!(document.check(), Ok(()));
        let (toml, json) = (document.to_toml(), document.to_json());
        let from_toml = RuleDocument::from_toml(&toml, "f");
        let from_toml = from_toml.map_err(|error| TestCaseError::fail(format!("{error}\n{toml}")))?;
        prop_assert_eq!(&from_toml, &document);
        prop_assert_eq!(&RuleDocument::from_json(json.as_bytes()).unwrap(), &document);
        prop_assert_eq!(&toml::from_str::<RuleDocument>(&toml).unwrap(), &document);
        prop_assert_eq!(from_toml.to_json(), json);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\[\\[rule\\]\\]|name|=|\"[a-zü]*\"|match|\\{|\\}|uid|\n|[0-9]|,|ü){0,20}") {
        let _ = RuleDocument::from_toml(&text, "f").map_err(|error| error.to_string());
        let _ = RuleDocument::from_json(text.as_bytes()).map_err(|error| error.to_string());
    }
}
