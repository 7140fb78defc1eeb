//! Rules from the document to the model.

use std::fmt;

use ipnet::IpNet;
use tcpops_common::conn;
use tcpops_common::policy::{self, Options, Policy, Setting};

use crate::api::rules::{Rule, RuleDocument, RuleFault, RuleGuard, RuleKeepalive, RuleLifetime, RuleMatch};
use crate::api::values::{Cidr, Jitter, LifetimeDuration, Manner, Mode, OneOrMany, Ports, Switch, Uid, ValueError};
use crate::clocks::Clocks;
use crate::model::expiry::closing::{self, ClosePolicy, Guard};
use crate::model::expiry::looks::tells;
use crate::model::rules::rule_set as model;

/// The rules of a document, with the id 0 each; `clocks` turn its dates into times since boot, and `resolve_cgroup`
/// finds the cgroup of a path.
///
/// A deadline may be past: the connections under it are then closed at once, see [`RuleDocument::check_deadlines`].
///
/// # Errors
/// Fails as [`RuleDocument::check`] and `resolve_cgroup` do; each error names the rule and the field.
pub(crate) fn to_model<E: fmt::Display>(
    document: &RuleDocument,
    clocks: Clocks,
    mut resolve_cgroup: impl FnMut(&str) -> Result<model::Cgroup, E>,
) -> Result<model::RuleSet, RuleFault> {
    document.check()?;
    let mut rules = Vec::with_capacity(document.rules.len());
    for (index, rule) in document.rules.iter().enumerate() {
        rules.push(model::Rule {
            name: rule.name.as_str().to_owned(),
            id: 0,
            policy: policy(rule, clocks).map_err(|error| rule.fault(index, "user_timeout", error))?,
            closing: closing(rule),
            tracked: rule.track,
            matcher: matcher(&rule.matching, &mut resolve_cgroup)
                .map_err(|error| rule.fault(index, "match.cgroup", error))?,
        });
    }
    Ok(model::RuleSet { rules, guard: document.guard.as_ref().map_or_else(Guard::default, guard) })
}

/// The bounds on closes by rules.
fn guard(guard: &RuleGuard) -> Guard {
    let RuleGuard { closes_per_second, percent_per_minute, protect_ports } = guard;
    let ports = |ports: &Vec<Ports>| ports.iter().flat_map(|ports| ports.range()).collect();
    Guard {
        closes_per_second: closes_per_second.map(|rate| rate.get()),
        percent_per_minute: percent_per_minute.map(|share| share.percent()),
        protected_ports: protect_ports.as_ref().map_or_else(|| Guard::default().protected_ports, ports),
    }
}

/// The policy that the rule wants for its connections.
fn policy(rule: &Rule, clocks: Clocks) -> Result<Policy, ValueError> {
    let wanted = match rule.mode {
        Mode::Force => Setting::Set,
        Mode::Default => Setting::Default,
        Mode::Floor => Setting::Floor,
    };
    let mut options = Options::default();
    match rule.keepalive {
        None => {}
        Some(Switch::Off) => options.keepalive = Setting::Clear,
        Some(Switch::On(RuleKeepalive { idle, count, interval })) => {
            options.keepalive = wanted;
            options.keepidle_s = idle.seconds();
            options.keepcnt = count.get();
            options.keepintvl_s = interval.seconds();
        }
    }
    match rule.user_timeout_ms()? {
        None => {}
        Some(0) => options.user_timeout = Setting::Clear,
        Some(ms) => {
            options.user_timeout = wanted;
            options.user_timeout_ms = ms;
        }
    }
    let mut policy = Policy { options, ..Policy::default() };
    match rule.lifetime {
        None => {}
        Some(Switch::Off) => policy.lifetime_setting = Setting::Clear,
        Some(Switch::On(RuleLifetime { idle, max_age, deadline, jitter, .. })) => {
            // Also where all limits are those of `closing`: they count while the lifetimes are set.
            policy.lifetime_setting = Setting::Set;
            policy.jitter_percent = jitter.map_or(0, Jitter::percent);
            policy.lifetime = policy::Lifetime {
                idle_ns: nanoseconds(idle),
                max_age_ns: nanoseconds(max_age),
                deadline_boot_ns: deadline.map_or(0, |deadline| clocks.boot_ns(deadline.timestamp())),
            };
            policy.tells = tells(&policy.lifetime, &closing(rule));
        }
    }
    Ok(policy)
}

/// The way in which the rule closes.
fn closing(rule: &Rule) -> ClosePolicy {
    let lifetime = rule.lifetime.as_ref().and_then(Switch::on).copied().unwrap_or_default();
    ClosePolicy {
        first_byte_ns: nanoseconds(lifetime.first_byte),
        half_closed_ns: nanoseconds(lifetime.half_closed),
        connect_ns: nanoseconds(lifetime.connect),
        manner: match rule.close {
            Manner::Reset => closing::Manner::Reset,
            Manner::Fin => closing::Manner::Fin { grace_ns: rule.grace_ms() * 1_000_000 },
        },
        enforce: rule.enforce,
        protect: rule.protect,
    }
}

/// A limit of the model, where zero is none.
fn nanoseconds(limit: Option<LifetimeDuration>) -> u64 {
    limit.map_or(0, LifetimeDuration::as_nanos)
}

/// The connections that a rule matches. Without a direction those are all connections, but no listener: a rule for
/// connections is seldom meant for the socket that accepts them.
fn matcher<E>(
    matching: &RuleMatch,
    mut resolve_cgroup: impl FnMut(&str) -> Result<model::Cgroup, E>,
) -> Result<model::Matcher, E> {
    let mut directions = values(&matching.direction, |direction| (*direction).into());
    if directions.is_empty() {
        directions = vec![conn::Direction::Outbound, conn::Direction::Inbound];
    }
    let mut cgroups = Vec::new();
    for path in matching.cgroup.iter().flat_map(|paths| paths.as_slice()) {
        cgroups.push(resolve_cgroup(path.as_str())?);
    }
    Ok(model::Matcher {
        directions,
        families: values(&matching.family, |family| (*family).into()),
        origins: values(&matching.origin, |origin| (*origin).into()),
        local: values(&matching.local, net),
        remote: values(&matching.remote, net),
        local_ports: values(&matching.local_port, |ports: &Ports| ports.range()),
        remote_ports: values(&matching.remote_port, |ports: &Ports| ports.range()),
        uids: values(&matching.uid, |uid: &Uid| uid.get()),
        cgroups,
    })
}

/// The values of a condition; none if it is not there.
fn values<T, U>(condition: &Option<OneOrMany<T>>, convert: impl Fn(&T) -> U) -> Vec<U> {
    condition.iter().flat_map(|values| values.as_slice()).map(convert).collect()
}

fn net(cidr: &Cidr) -> IpNet {
    cidr.net()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rules::classifier::compile;
    use crate::model::rules::rule_set::{Cgroup, Facts};

    fn resolve(path: &str) -> Result<Cgroup, String> {
        match path {
            "/a/b" => Ok(Cgroup { id: 3, ancestors: vec![2, 1] }),
            _ => Err(format!("no cgroup {path:?} below /sys/fs/cgroup")),
        }
    }

    const CLOCKS: Clocks = Clocks { wall_ns: 1_700_000_000_000_000_000, boot_ns: 10_000_000_000 };

    fn convert(fields: &str) -> Result<model::Rule, String> {
        let text = format!("[[rule]]\nname = \"sip\"\n{fields}");
        let document = RuleDocument::from_toml(&text, "f").map_err(|error| error.to_string())?;
        to_model(&document, CLOCKS, resolve).map(|mut set| set.rules.remove(0)).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_rule_that_wants_nothing_leaves_everything() {
        let rule = convert("").unwrap();
        assert_eq!((rule.name.as_str(), rule.id, rule.policy), ("sip", 0, Policy::default()));
        let directions = vec![conn::Direction::Outbound, conn::Direction::Inbound];
        assert_eq!(rule.matcher, model::Matcher { directions, ..model::Matcher::default() });
    }

    #[test]
    fn everything_that_a_rule_may_want() {
        let policy = convert(
            "keepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\nuser_timeout = \"auto\"\n\
             lifetime = { idle = \"1500ms\", max_age = \"1d\" }\n",
        );
        let policy = policy.unwrap().policy;
        let options = Options {
            keepalive: Setting::Set,
            keepidle_s: 60,
            keepcnt: 5,
            keepintvl_s: 5,
            user_timeout: Setting::Set,
            user_timeout_ms: 85_000,
            pad: 0,
        };
        assert_eq!(policy.options, options);
        let lifetime = policy::Lifetime { idle_ns: 1_500_000_000, max_age_ns: 86_400_000_000_000, deadline_boot_ns: 0 };
        assert_eq!(policy.lifetime_in_force(), lifetime);
        assert_eq!((policy.serial, policy.by_uid), (0, 0));

        let off = convert("keepalive = \"off\"\nuser_timeout = \"off\"\nlifetime = \"none\"\n").unwrap().policy;
        assert_eq!([off.options.keepalive, off.options.user_timeout, off.lifetime_setting], [Setting::Clear; 3]);
        assert_eq!(off.options.user_timeout_ms, 0);
        let only = convert("user_timeout = \"350ms\"").unwrap().policy;
        assert_eq!((only.options.keepalive, only.options.user_timeout_ms), (Setting::Leave, 350));
        let age = convert("lifetime = { max_age = \"1h\" }").unwrap().policy.lifetime;
        assert_eq!((age.idle_ns, age.max_age_ns), (0, 3_600_000_000_000));
    }

    #[test]
    fn the_mode_decides_what_is_wanted_of_either_option() {
        let keepalive = "keepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\n";
        for (mode, setting) in [("force", Setting::Set), ("default", Setting::Default), ("floor", Setting::Floor)] {
            let both = format!("mode = \"{mode}\"\nuser_timeout = \"30s\"\n{keepalive}");
            let options = convert(&both).unwrap().policy.options;
            assert_eq!([options.keepalive, options.user_timeout], [setting; 2]);
            assert_eq!((options.keepidle_s, options.user_timeout_ms), (60, 30_000));
            let one = convert(&format!("mode = \"{mode}\"\n{keepalive}")).unwrap().policy.options;
            assert_eq!([one.keepalive, one.user_timeout], [setting, Setting::Leave]);
        }
    }

    #[test]
    fn all_that_a_lifetime_limits() {
        // The clocks say 22:13:20.
        let rule = convert(
            "lifetime = { idle = \"10m\", deadline = 2023-11-14T22:13:21Z, jitter = \"10%\", first_byte = \"10s\", \
             half_closed = \"1m\", connect = \"5s\" }\n",
        );
        let rule = rule.unwrap();
        assert_eq!((rule.policy.lifetime_setting, rule.policy.jitter_percent), (Setting::Set, 10));
        assert_eq!(rule.policy.lifetime.deadline_boot_ns, 11_000_000_000);
        let ClosePolicy { first_byte_ns, half_closed_ns, connect_ns, .. } = rule.closing;
        assert_eq!([first_byte_ns, half_closed_ns, connect_ns], [10_000_000_000, 60_000_000_000, 5_000_000_000]);

        // A limit that is not in the policy: its events are told all the same.
        for limit in ["first_byte", "half_closed", "connect"] {
            let policy = convert(&format!("lifetime = {{ {limit} = \"1m\" }}")).unwrap().policy;
            assert_eq!((policy.lifetime_setting, policy.lifetime.is_none()), (Setting::Set, true), "{limit}");
        }
        // A deadline that passed while no agent ran: over, and not forgotten.
        let past = convert("lifetime = { deadline = 2001-01-01T00:00:00Z }").unwrap().policy.lifetime;
        assert!((1..CLOCKS.boot_ns).contains(&past.deadline_boot_ns), "{past:?}");
    }

    #[test]
    fn how_connections_are_closed() {
        let closing = |fields: &str| convert(fields).unwrap().closing;
        assert_eq!(closing(""), ClosePolicy::DEFAULT);
        assert_eq!(closing("close = \"reset\"\nenforce = true\nprotect = false\n"), ClosePolicy::DEFAULT);
        let fin = |grace_ns| ClosePolicy { manner: closing::Manner::Fin { grace_ns }, ..ClosePolicy::DEFAULT };
        assert_eq!(closing("close = \"fin\""), fin(10_000_000_000));
        assert_eq!(closing("close = \"fin\"\ngrace = \"1500ms\""), fin(1_500_000_000));
        assert_eq!(closing("enforce = false"), ClosePolicy { enforce: false, ..ClosePolicy::DEFAULT });
        assert_eq!(closing("protect = true"), ClosePolicy { protect: true, ..ClosePolicy::DEFAULT });
    }

    #[test]
    fn the_guard_of_a_document() {
        let guard = |text: &str| {
            let document = RuleDocument::from_toml(text, "f").unwrap();
            to_model(&document, CLOCKS, resolve).unwrap().guard
        };
        assert_eq!(guard(""), Guard::default());
        assert_eq!(guard("[guard]"), Guard::default());
        let all = "[guard]\ncloses_per_second = 100\npercent_per_minute = 20\nprotect_ports = [22, \"80-82\"]\n";
        let expected =
            Guard { closes_per_second: Some(100), percent_per_minute: Some(20), protected_ports: vec![22, 80, 81, 82] };
        assert_eq!(guard(all), expected);
        assert_eq!(guard("[guard]\nprotect_ports = []\n").protected_ports, Vec::<u16>::new());
    }

    #[test]
    fn everything_that_a_rule_may_ask() {
        let rule = convert(
            "[rule.match]\ndirection = [\"listen\", \"inbound\"]\nfamily = \"ipv6\"\norigin = \"adopted\"\n\
             local = \"::ffff:10.0.0.0/104\"\nremote = [\"192.0.2.7\", \"2001:db8::/32\"]\n\
             local_port = 5060\nremote_port = [\"1-1023\", 65535]\nuid = [0, 1000]\ncgroup = \"/a/b\"\n",
        );
        let matcher = model::Matcher {
            directions: vec![conn::Direction::Listen, conn::Direction::Inbound],
            families: vec![conn::Family::Inet6],
            origins: vec![conn::Origin::Adopted],
            local: vec!["10.0.0.0/8".parse().unwrap()],
            remote: vec!["192.0.2.7/32".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            local_ports: vec![5060..=5060],
            remote_ports: vec![1..=1023, 65535..=65535],
            uids: vec![0, 1000],
            cgroups: vec![Cgroup { id: 3, ancestors: vec![2, 1] }],
        };
        assert_eq!(rule.unwrap().matcher, matcher);
    }

    #[test]
    fn errors_name_rule_and_field() {
        assert_eq!(
            convert("match = { cgroup = [\"/a/b\", \"/x\"] }").unwrap_err(),
            "rule \"sip\": match.cgroup: no cgroup \"/x\" below /sys/fs/cgroup"
        );
        let text = "[[rule]]\nname = \"a\"\nmatch = { cgroup = \"/x\" }\n";
        let document = RuleDocument::from_toml(text, "f").unwrap();
        let fault = to_model(&document, CLOCKS, resolve).unwrap_err();
        let place = "f:3:20: rule \"a\": match.cgroup: no cgroup \"/x\" below /sys/fs/cgroup";
        assert_eq!(fault.in_toml(text, "f").to_string(), place);

        let rules = vec![document.rules[0].clone(), document.rules[0].clone()];
        let twice = to_model(&RuleDocument { rules, guard: None }, CLOCKS, |_| resolve("/a/b")).unwrap_err();
        assert!(twice.to_string().contains("a name that no other rule has"), "{twice}");
    }

    #[test]
    fn the_example_does_what_it_says() {
        let document = RuleDocument::from_toml(include_str!("../../../examples/rules.toml"), "f").unwrap();
        let set = to_model(&document, CLOCKS, resolve).unwrap();
        let compiled = compile(&set, 0).unwrap();
        let matched = |direction, local: &str, remote: &str| {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let (family, origin) = (conn::Family::Inet, conn::Origin::Handshake);
            let facts = Facts { direction, family, origin, local, remote, uid: 0, cgroups: vec![] };
            let rule = set.first_match(&facts).map(|rule| rule.name.as_str());
            assert_eq!(compiled.first_match(&facts).map(|rule| set.rules[rule].name.as_str()), rule);
            rule
        };
        use conn::Direction::{Inbound, Listen, Outbound};
        assert_eq!(matched(Inbound, "203.0.113.1:22", "192.0.2.7:40000"), Some("ssh"));
        assert_eq!(matched(Outbound, "203.0.113.1:40000", "192.0.2.7:22"), None);
        assert_eq!(matched(Inbound, "203.0.113.1:5060", "198.51.100.7:40000"), Some("sip-clients"));
        assert_eq!(matched(Inbound, "203.0.113.1:5061", "192.0.2.7:40000"), Some("sip-strangers"));
        assert_eq!(matched(Listen, "0.0.0.0:5060", "[::]:0"), None);
        assert_eq!(matched(Outbound, "10.0.0.1:40000", "10.0.0.2:5432"), Some("database"));
        assert!(set.rules[0].policy == Policy::default());
        assert_eq!(matched(Inbound, "203.0.113.1:5061", "203.0.113.65:40000"), Some("sip-strangers"));
        assert_eq!(matched(Inbound, "203.0.113.1:80", "203.0.113.65:40000"), Some("operators"));
        assert_eq!(set.rules[3].policy.options.keepalive, Setting::Floor);
        assert!(set.rules[4].closing.protect);
    }
}
