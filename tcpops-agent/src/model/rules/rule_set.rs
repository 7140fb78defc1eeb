//! The ordered rules and which of them matches: the definition with which the compiled form must agree.

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use std::collections::HashSet;

use ipnet::IpNet;
use tcpops_common::conn::{Connection, Direction, Family, Origin};
use tcpops_common::policy::Policy;

use crate::model::expiry::closing::{ClosePolicy, Guard};

/// The rules in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleSet {
    /// The rules; the first that matches decides alone.
    pub(crate) rules: Vec<Rule>,
    /// The bounds on what they may close.
    pub(crate) guard: Guard,
}

/// What is wanted of the connections that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The name, which no other rule of the set has; at most [`MAX_NAME`](tcpops_common::rule::MAX_NAME) bytes.
    pub(crate) name: String,
    /// The id that goes with the name; never 0 after [`RuleSet::assign_ids`].
    pub(crate) id: u32,
    /// The options and lifetimes that it wants.
    pub(crate) policy: Policy,
    /// How it closes connections.
    pub(crate) closing: ClosePolicy,
    /// False if the connections that match are left alone: they get no entry.
    pub(crate) tracked: bool,
    /// The connections that match.
    pub(crate) matcher: Matcher,
}

/// The conditions on a connection, all of which must hold. A condition holds if one of its values does, or if it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matcher {
    /// Which side opened the connection; without values, listeners match too.
    pub(crate) directions: Vec<Direction>,
    /// The address family on the wire.
    pub(crate) families: Vec<Family>,
    /// How the connection became known.
    pub(crate) origins: Vec<Origin>,
    /// This host's address. A network within `::ffff:0:0/96` must be given as IPv4.
    pub(crate) local: Vec<IpNet>,
    /// The peer's address, in the same form.
    pub(crate) remote: Vec<IpNet>,
    /// This host's port.
    pub(crate) local_ports: Vec<RangeInclusive<u16>>,
    /// The peer's port.
    pub(crate) remote_ports: Vec<RangeInclusive<u16>>,
    /// The uid that owns the socket.
    pub(crate) uids: Vec<u32>,
    /// The socket's cgroup or one of its ancestors.
    pub(crate) cgroups: Vec<Cgroup>,
}

/// A cgroup that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// Its id: the inode number of its directory.
    pub(crate) id: u64,
    /// The ids of its ancestors up to the root, in any order.
    pub(crate) ancestors: Vec<u64>,
}

/// The facts about a connection that rules may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Which side opened it.
    pub(crate) direction: Direction,
    /// The address family on the wire.
    pub(crate) family: Family,
    /// How it became known.
    pub(crate) origin: Origin,
    /// This host's endpoint; IPv4-mapped counts as IPv4.
    pub(crate) local: SocketAddr,
    /// The peer's endpoint, in the same form.
    pub(crate) remote: SocketAddr,
    /// The uid that owns the socket.
    pub(crate) uid: u32,
    /// The socket's cgroup, then its ancestors up to the root; empty where they are not known.
    pub(crate) cgroups: Vec<u64>,
}

impl Facts {
    /// Reads the entry of a connection. `cgroups` are its cgroup and that cgroup's ancestors.
    pub(crate) fn of(connection: &Connection, cgroups: Vec<u64>) -> Self {
        Self {
            direction: connection.direction,
            family: connection.family,
            origin: connection.origin,
            local: connection.local(),
            remote: connection.remote(),
            uid: connection.uid,
            cgroups,
        }
    }
}

impl RuleSet {
    pub(crate) fn first_match(&self, facts: &Facts) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matcher.accepts(facts))
    }

    /// True if a rule asks for the cgroup.
    pub(crate) fn asks_for_cgroups(&self) -> bool {
        self.rules.iter().any(|rule| !rule.matcher.cgroups.is_empty())
    }

    /// True if a rule leaves connections untracked.
    pub(crate) fn leaves_untracked(&self) -> bool {
        self.rules.iter().any(|rule| !rule.tracked)
    }

    /// True if a rule wants socket options.
    pub(crate) fn wants_options(&self) -> bool {
        self.rules.iter().any(|rule| rule.policy.options.any())
    }

    /// Gives every rule an id that is derived from its name, so that the rule keeps it in every set and after a restart. In
    /// the unlikely case that two names give the same id, the later rule gets the next free one.
    pub(crate) fn assign_ids(&mut self) {
        let mut taken = HashSet::new();
        for rule in &mut self.rules {
            let mut id = hash(&rule.name).max(1);
            while !taken.insert(id) {
                id = id.wrapping_add(1).max(1);
            }
            rule.id = id;
        }
    }
}

/// FNV-1a, 32 bits.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl Matcher {
    /// True if every condition holds.
    pub(crate) fn accepts(&self, facts: &Facts) -> bool {
        one_of(&self.directions, |direction| *direction == facts.direction)
            && one_of(&self.families, |family| *family == facts.family)
            && one_of(&self.origins, |origin| *origin == facts.origin)
            && one_of(&self.local, |net| holds(net, facts.local.ip()))
            && one_of(&self.remote, |net| holds(net, facts.remote.ip()))
            && one_of(&self.local_ports, |ports| ports.contains(&facts.local.port()))
            && one_of(&self.remote_ports, |ports| ports.contains(&facts.remote.port()))
            && one_of(&self.uids, |uid| *uid == facts.uid)
            && one_of(&self.cgroups, |cgroup| facts.cgroups.contains(&cgroup.id))
    }
}

fn one_of<T>(values: &[T], accepts: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(accepts)
}

/// True if the network holds the address. An IPv6 network never holds an IPv4 address.
fn holds(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, matcher: Matcher) -> Rule {
        Rule {
            name: name.to_owned(),
            id: 0,
            policy: Policy::default(),
            closing: ClosePolicy::DEFAULT,
            tracked: true,
            matcher,
        }
    }

    fn facts(local: &str, remote: &str) -> Facts {
        Facts {
            direction: Direction::Inbound,
            family: Family::Inet,
            origin: Origin::Handshake,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            uid: 1000,
            cgroups: vec![30, 20, 10],
        }
    }

    #[test]
    fn the_first_match_decides() {
        let set = RuleSet {
            rules: vec![
                rule("ssh", Matcher { local_ports: vec![22..=22], ..Matcher::default() }),
                rule("inbound", Matcher { directions: vec![Direction::Inbound], ..Matcher::default() }),
                rule("rest", Matcher::default()),
            ],
            guard: Guard::default(),
        };
        let name = |facts: &Facts| set.first_match(facts).map(|rule| rule.name.as_str());
        assert_eq!(name(&facts("10.0.0.1:22", "192.0.2.7:40000")), Some("ssh"));
        assert_eq!(name(&facts("10.0.0.1:23", "192.0.2.7:40000")), Some("inbound"));
        let outbound = Facts { direction: Direction::Outbound, ..facts("10.0.0.1:40000", "192.0.2.7:22") };
        assert_eq!(name(&outbound), Some("rest"));
        assert_eq!(RuleSet::default().first_match(&outbound), None);
    }

    #[test]
    fn every_condition_must_accept_and_one_value_is_enough() {
        let matcher = Matcher {
            remote: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            uids: vec![0, 1000],
            ..Matcher::default()
        };
        assert!(matcher.accepts(&facts("10.0.0.1:22", "192.0.2.7:40000")));
        assert!(matcher.accepts(&facts("10.0.0.1:22", "[::ffff:192.0.2.7]:40000")));
        assert!(!matcher.accepts(&facts("10.0.0.1:22", "192.0.3.7:40000")));
        assert!(!matcher.accepts(&Facts { uid: 1, ..facts("10.0.0.1:22", "192.0.2.7:40000") }));
    }

    #[test]
    fn an_ipv6_network_holds_no_ipv4_address() {
        let matcher = Matcher { remote: vec!["::/0".parse().unwrap()], ..Matcher::default() };
        assert!(matcher.accepts(&facts("[::1]:22", "[2001:db8::1]:40000")));
        assert!(!matcher.accepts(&facts("10.0.0.1:22", "192.0.2.7:40000")));
        assert!(!matcher.accepts(&facts("10.0.0.1:22", "[::ffff:192.0.2.7]:40000")));
    }

    #[test]
    fn a_cgroup_holds_those_below_it() {
        let names = |id| Matcher { cgroups: vec![Cgroup { id, ancestors: vec![10] }], ..Matcher::default() };
        let facts = facts("10.0.0.1:22", "192.0.2.7:40000");
        assert!(names(30).accepts(&facts));
        assert!(names(20).accepts(&facts));
        assert!(!names(40).accepts(&facts));
        assert!(!names(30).accepts(&Facts { cgroups: vec![], ..facts }));
    }

    #[test]
    fn a_name_keeps_its_id_and_no_two_rules_share_one() {
        let mut set = rules(["a", "b", "c"]);
        set.assign_ids();
        let ids: Vec<u32> = set.rules.iter().map(|rule| rule.id).collect();
        let mut other = rules(["c", "d", "a"]);
        other.assign_ids();
        assert_eq!([other.rules[2].id, other.rules[0].id], [ids[0], ids[2]]);
        let mut same = rules(["a", "a"]);
        same.assign_ids();
        assert_ne!(same.rules[0].id, same.rules[1].id);
        assert!(ids.iter().all(|id| *id != 0));
    }

    fn rules<const N: usize>(names: [&str; N]) -> RuleSet {
        RuleSet { rules: names.map(|name| rule(name, Matcher::default())).into(), guard: Guard::default() }
    }
}
