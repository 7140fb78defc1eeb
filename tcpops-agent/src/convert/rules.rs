//! Rules from the document to the model.

use std::fmt;

use ipnet::IpNet;
use tcpops_common::conn;
use tcpops_common::policy::{self, Options, Policy, Setting};

use crate::api::rules::{Rule, RuleDocument, RuleFault, RuleKeepalive, RuleLifetime, RuleMatch};
use crate::api::values::{Cidr, Direction, Family, OneOrMany, Origin, Ports, Switch, Uid, ValueError};
use crate::model::rules as model;

/// The rules of a document, with the id 0 each; `resolve_cgroup` finds the cgroup of a path.
///
/// # Errors
/// Those of [`RuleDocument::check`], and those of `resolve_cgroup`; each names the rule and the field.
pub fn to_model<E: fmt::Display>(
    document: &RuleDocument,
    mut resolve_cgroup: impl FnMut(&str) -> Result<model::Cgroup, E>,
) -> Result<model::RuleSet, RuleFault> {
    document.check()?;
    let mut rules = Vec::with_capacity(document.rules.len());
    for (index, rule) in document.rules.iter().enumerate() {
        rules.push(model::Rule {
            name: rule.name.as_str().to_owned(),
            id: 0,
            policy: policy(rule).map_err(|error| rule.fault(index, "user_timeout", error))?,
            matcher: matcher(&rule.matching, &mut resolve_cgroup)
                .map_err(|error| rule.fault(index, "match.cgroup", error))?,
        });
    }
    Ok(model::RuleSet { rules })
}

/// What the rule wants of its connections.
fn policy(rule: &Rule) -> Result<Policy, ValueError> {
    let mut options = Options::default();
    match rule.keepalive {
        None => {}
        Some(Switch::Off) => options.keepalive = Setting::Clear,
        Some(Switch::On(RuleKeepalive { idle, count, interval })) => {
            options.keepalive = Setting::Set;
            options.keepidle_s = idle.seconds();
            options.keepcnt = count.get();
            options.keepintvl_s = interval.seconds();
        }
    }
    match rule.user_timeout_ms()? {
        None => {}
        Some(0) => options.user_timeout = Setting::Clear,
        Some(ms) => {
            options.user_timeout = Setting::Set;
            options.user_timeout_ms = ms;
        }
    }
    let mut policy = Policy { options, ..Policy::default() };
    match rule.lifetime {
        None => {}
        Some(Switch::Off) => policy.lifetime_setting = Setting::Clear,
        Some(Switch::On(RuleLifetime { idle, max_age })) => {
            policy.lifetime_setting = Setting::Set;
            policy.lifetime = policy::Lifetime {
                idle_ns: idle.map_or(0, |idle| idle.as_nanos()),
                max_age_ns: max_age.map_or(0, |max_age| max_age.as_nanos()),
                deadline_boot_ns: 0,
            };
        }
    }
    Ok(policy)
}

/// Which connections it is for. Without a direction that is all of them, but no listener: what a rule wants of
/// connections is seldom meant for the socket that accepts them.
fn matcher<E>(
    matching: &RuleMatch,
    mut resolve_cgroup: impl FnMut(&str) -> Result<model::Cgroup, E>,
) -> Result<model::Matcher, E> {
    let mut directions = values(&matching.direction, |direction| from_direction(*direction));
    if directions.is_empty() {
        directions = vec![conn::Direction::Outbound, conn::Direction::Inbound];
    }
    let mut cgroups = Vec::new();
    for path in matching.cgroup.iter().flat_map(|paths| paths.as_slice()) {
        cgroups.push(resolve_cgroup(path.as_str())?);
    }
    Ok(model::Matcher {
        directions,
        families: values(&matching.family, |family| from_family(*family)),
        origins: values(&matching.origin, |origin| from_origin(*origin)),
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

/// The direction of the model.
pub fn from_direction(direction: Direction) -> conn::Direction {
    match direction {
        Direction::Inbound => conn::Direction::Inbound,
        Direction::Outbound => conn::Direction::Outbound,
        Direction::Listen => conn::Direction::Listen,
    }
}

/// The family of the model.
pub fn from_family(family: Family) -> conn::Family {
    match family {
        Family::Ipv4 => conn::Family::Inet,
        Family::Ipv6 => conn::Family::Inet6,
    }
}

/// The origin of the model.
pub fn from_origin(origin: Origin) -> conn::Origin {
    match origin {
        Origin::Handshake => conn::Origin::Handshake,
        Origin::Adopted => conn::Origin::Adopted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::classifier::compile;
    use crate::model::rules::{Cgroup, Facts};

    fn resolve(path: &str) -> Result<Cgroup, String> {
        match path {
            "/a/b" => Ok(Cgroup { id: 3, ancestors: vec![2, 1] }),
            _ => Err(format!("no cgroup {path:?} below /sys/fs/cgroup")),
        }
    }

    fn convert(fields: &str) -> Result<model::Rule, String> {
        let text = format!("[[rule]]\nname = \"sip\"\n{fields}");
        let document = RuleDocument::from_toml(&text, "f").map_err(|error| error.to_string())?;
        to_model(&document, resolve).map(|mut set| set.rules.remove(0)).map_err(|fault| fault.to_string())
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
        let fault = to_model(&document, resolve).unwrap_err();
        let place = "f:3:20: rule \"a\": match.cgroup: no cgroup \"/x\" below /sys/fs/cgroup";
        assert_eq!(fault.in_toml(text, "f").to_string(), place);

        let twice = RuleDocument { rules: vec![document.rules[0].clone(), document.rules[0].clone()] };
        assert!(
            to_model(&twice, |_| resolve("/a/b")).unwrap_err().to_string().contains("a name that no other rule has")
        );
    }

    #[test]
    fn the_example_does_what_it_says() {
        let document = RuleDocument::from_toml(include_str!("../../../examples/rules.toml"), "f").unwrap();
        let set = to_model(&document, resolve).unwrap();
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
    }
}
