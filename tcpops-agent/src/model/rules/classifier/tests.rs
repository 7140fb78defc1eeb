//! The compiled form against the definition of what matches.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;
use std::collections::HashSet;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tcpops_common::policy::Policy;
use tcpops_common::rule::{CLASS_ALL, MAX_CGROUP_DEPTH, PORT_BLOCKS};

use super::*;
use crate::model::expiry::closing::{ClosePolicy, Guard};
use crate::model::rules::rule_set::{Cgroup, Facts};

fn rule_set(matchers: impl IntoIterator<Item = Matcher>) -> RuleSet {
    let rule = |(n, matcher)| Rule {
        name: format!("r{n}"),
        id: n as u32 + 1,
        policy: Policy::default(),
        closing: ClosePolicy::DEFAULT,
        tracked: true,
        matcher,
    };
    RuleSet { rules: matchers.into_iter().enumerate().map(rule).collect(), guard: Guard::default() }
}

/// The position of the first match by the definition, once it is certain that both slots of the compiled form agree.
#[track_caller]
fn first_match(set: &RuleSet, facts: &Facts) -> Option<usize> {
    let defined = set.first_match(facts).map(|rule| rule.id as usize - 1);
    for slot in 0..SLOTS {
        assert_eq!(compile(set, slot).unwrap().first_match(facts), defined, "{facts:?}");
    }
    defined
}

fn facts(local: &str, remote: &str) -> Facts {
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
    Facts {
        direction: Direction::Inbound,
        family: if remote.ip().to_canonical().is_ipv4() { Family::Inet } else { Family::Inet6 },
        origin: Origin::Handshake,
        local,
        remote,
        uid: 1000,
        cgroups: vec![7, 3, 1],
    }
}

fn from(net: &str) -> Matcher {
    Matcher { remote: vec![net.parse().unwrap()], ..Matcher::default() }
}

fn on(ports: RangeInclusive<u16>) -> Matcher {
    Matcher { local_ports: vec![ports], ..Matcher::default() }
}

#[test]
fn no_rules_match_nothing() {
    let compiled = compile(&RuleSet::default(), 0).unwrap();
    assert_eq!((compiled.set.rules, compiled.set.words, compiled.set.dimensions), (0, 0, 0));
    assert_eq!((compiled.masks.len(), compiled.addrs.len(), compiled.keys.len()), (2, 0, 0));
    assert_eq!(compiled.first_match(&facts("10.0.0.1:22", "192.0.2.7:1")), None);
}

#[test]
fn one_rule_without_conditions_needs_no_dimension() {
    let set = rule_set([Matcher::default()]);
    let compiled = compile(&set, 1).unwrap();
    assert_eq!((compiled.set.words, compiled.set.dimensions), (1, 0));
    assert_eq!(compiled.set.kind_classes[kind(Direction::Listen, Family::Inet6, Origin::Adopted)], CLASS_ALL);
    assert!(compiled.ports.is_empty());
    assert_eq!(first_match(&set, &facts("10.0.0.1:22", "192.0.2.7:1")), Some(0));
}

#[test]
fn a_limit_of_the_handshake_is_told_beside_the_dimensions() {
    let mut set = rule_set([Matcher::default(), on(5060..=5060)]);
    let before = compile(&set, 0).unwrap();
    set.rules[1].closing.connect_ns = 5;
    let after = compile(&set, 0).unwrap();
    assert_eq!(after.set.dimensions, before.set.dimensions | dimensions::CONNECT);
    assert_eq!(before.set.dimensions & dimensions::CONNECT, 0);
}

#[test]
fn rules_keep_their_order_across_words() {
    for len in [63, 64, 65, 128, MAX_RULES] {
        let set = rule_set((1..=len).map(|port| on(port as u16..=port as u16)));
        let compiled = compile(&set, 0).unwrap();
        assert_eq!(compiled.set.words as usize, len.div_ceil(64));
        for n in [1, 62, 63, 64, 65, 66, 127, 128, 129, MAX_RULES, MAX_RULES + 1] {
            let facts = facts(&format!("10.0.0.1:{n}"), "192.0.2.7:1");
            assert_eq!(compiled.first_match(&facts), (n <= len).then_some(n - 1), "port {n} of {len}");
        }
    }
    let mut matchers = vec![on(1..=1); MAX_RULES];
    matchers[MAX_RULES - 1] = Matcher::default();
    assert_eq!(first_match(&rule_set(matchers), &facts("10.0.0.1:22", "192.0.2.7:1")), Some(MAX_RULES - 1));
}

#[test]
fn too_many_rules_are_refused() {
    let error = compile(&rule_set(vec![Matcher::default(); MAX_RULES + 1]), 0).unwrap_err();
    assert_eq!(error.to_string(), "expected at most 1024 rules, found 1025");
}

#[test]
fn too_many_classes_are_refused() {
    // Each port is the only one that exactly these rules accept.
    let bits = |rule: usize| (1..=8200_u16).filter(|port| port >> rule & 1 == 1).map(|port| port..=port).collect();
    let set = rule_set((0..14).map(|rule| Matcher { local_ports: bits(rule), ..Matcher::default() }));
    let error = compile(&set, 0).unwrap_err();
    assert_eq!((error.limit, error.found), (Capacity::Classes, 8202));
    assert!(error.to_string().starts_with("expected at most 8192 different sets of rules"), "{error}");
}

#[test]
fn too_many_networks_uids_or_cgroups_are_refused() {
    let net = |n: u32| IpNet::new(IpAddr::V4((n << 8).into()), 24).unwrap();
    let nets = |n| rule_set([Matcher { remote: (0..n).map(net).collect(), ..Matcher::default() }]);
    assert_eq!(compile(&nets(16_383), 0).unwrap().addrs.len(), 16_384);
    assert_eq!(compile(&nets(16_384), 0).unwrap_err(), TooComplex { limit: Capacity::Addresses, found: 16_385 });
    let uids = |n| rule_set([Matcher { uids: (0..n).collect(), ..Matcher::default() }]);
    assert_eq!(compile(&uids(8192), 0).unwrap().keys.len(), 8192);
    assert_eq!(compile(&uids(8193), 0).unwrap_err(), TooComplex { limit: Capacity::Keys, found: 8193 });
}

#[test]
fn ports_have_both_ends() {
    let set = rule_set([on(65535..=65535), on(5060..=5070), on(5071..=5071), on(1..=1)]);
    let matched = |port: u16| first_match(&set, &facts(&format!("10.0.0.1:{port}"), "192.0.2.7:1"));
    assert_eq!(
        [65535, 65534, 5059, 5060, 5070, 5071, 5072].map(matched),
        [Some(0), None, None, Some(1), Some(1), Some(2), None]
    );
    assert_eq!([0, 1, 2].map(matched), [None, Some(3), None]);
    assert_eq!(compile(&set, 0).unwrap().ports.len(), 2 * PORT_BLOCKS as usize);
    let everything = rule_set([on(0..=65535)]);
    assert_eq!(first_match(&everything, &facts("10.0.0.1:0", "192.0.2.7:1")), Some(0));
}

#[test]
fn overlapping_ranges_of_one_rule_are_one() {
    let ports = vec![10..=20, 15..=18, 20..=30, 31..=31, 40..=50, 40..=45];
    let set = rule_set([Matcher { remote_ports: ports, ..Matcher::default() }]);
    for (port, matched) in
        [(9, false), (10, true), (19, true), (21, true), (31, true), (32, false), (48, true), (51, false)]
    {
        let facts = facts("10.0.0.1:22", &format!("192.0.2.7:{port}"));
        assert_eq!(first_match(&set, &facts).is_some(), matched, "{port}");
    }
}

#[test]
fn ipv6_networks_hold_no_ipv4() {
    for net in ["::/0", "::/8", "::/64", "::fffe:0:0/95"] {
        let set = rule_set([from(net)]);
        assert_eq!(first_match(&set, &facts("[::1]:22", "192.0.2.7:1")), None, "{net}");
        assert_eq!(first_match(&set, &facts("[::1]:22", "[::ffff:192.0.2.7]:1")), None, "{net}");
        assert_eq!(first_match(&set, &facts("[::1]:22", "[::fffe:1:1]:1")), Some(0), "{net}");
        let with_ipv4 = rule_set([from("10.0.0.0/8"), from(net), from("0.0.0.0/0")]);
        assert_eq!(first_match(&with_ipv4, &facts("[::1]:22", "10.2.3.4:1")), Some(0), "{net}");
        assert_eq!(first_match(&with_ipv4, &facts("[::1]:22", "192.0.2.7:1")), Some(2), "{net}");
        assert_eq!(first_match(&with_ipv4, &facts("[::1]:22", "[::fffe:1:1]:1")), Some(1), "{net}");
    }
    let set = rule_set([from("0.0.0.0/0")]);
    assert_eq!(first_match(&set, &facts("[::1]:22", "192.0.2.7:1")), Some(0));
    assert_eq!(first_match(&set, &facts("[::1]:22", "[2001:db8::1]:1")), None);
}

#[test]
fn a_prefix_that_says_nothing_new_is_left_out() {
    let nets = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"].map(|net| net.parse().unwrap()).to_vec();
    let set = rule_set([Matcher { remote: nets, ..Matcher::default() }]);
    assert_eq!(compile(&set, 0).unwrap().addrs.iter().map(|(len, ..)| *len).collect::<Vec<_>>(), [32, 32 + 96 + 8]);
}

#[test]
fn the_first_rule_wins_also_over_a_longer_prefix() {
    let set = rule_set([from("10.0.0.0/8"), from("10.1.2.0/24"), from("0.0.0.0/0"), Matcher::default()]);
    let matched = |remote| first_match(&set, &facts("10.0.0.1:22", remote));
    assert_eq!(matched("10.1.2.3:1"), Some(0));
    assert_eq!(matched("192.0.2.7:1"), Some(2));
    assert_eq!(matched("[2001:db8::1]:1"), Some(3));
}

#[test]
fn a_named_cgroup_has_the_rules_of_those_above_it() {
    let of = |id, ancestors: &[u64]| Cgroup { id, ancestors: ancestors.to_vec() };
    let naming = |cgroup| Matcher { cgroups: vec![cgroup], ..Matcher::default() };
    let set = rule_set([naming(of(1, &[])), naming(of(7, &[3, 1])), naming(of(8, &[3, 1]))]);
    let matched = |cgroups: &[u64]| {
        let facts = Facts { cgroups: cgroups.to_vec(), ..facts("10.0.0.1:22", "192.0.2.7:1") };
        first_match(&set, &facts)
    };
    assert_eq!(matched(&[7, 3, 1]), Some(0));
    assert_eq!(matched(&[9, 7, 3, 1]), Some(0));
    assert_eq!(matched(&[3, 1]), Some(0));
    assert_eq!(matched(&[2]), None);
    assert_eq!(matched(&[]), None);
    assert_eq!(matched(&[0]), None);
}

#[test]
fn the_kernel_looks_up_sixteen_levels() {
    let set = rule_set([Matcher { cgroups: vec![Cgroup { id: 1, ancestors: vec![] }], ..Matcher::default() }]);
    let compiled = compile(&set, 0).unwrap();
    let at_depth = |depth: u32| {
        let cgroups = (0..depth).map(|level| 100 + u64::from(level)).chain([1]).collect();
        compiled.first_match(&Facts { cgroups, ..facts("10.0.0.1:22", "192.0.2.7:1") })
    };
    assert_eq!(at_depth(MAX_CGROUP_DEPTH - 1), Some(0));
    assert_eq!(at_depth(MAX_CGROUP_DEPTH), None);
}

#[test]
fn names_and_policies_go_along() {
    let mut set = rule_set([Matcher::default(), Matcher::default()]);
    set.rules[0].name = "Büro".to_owned();
    set.rules[1].name = format!("{}ü", "x".repeat(MAX_NAME - 1));
    set.rules[1].policy.options.keepcnt = 5;
    let compiled = compile(&set, 0).unwrap();
    assert_eq!(compiled.rules[0].name[..6], *b"B\xc3\xbcro\0");
    assert_eq!(compiled.rules[1].name[MAX_NAME - 2..], *b"x\0\0", "a character that does not fit is left out whole");
    assert_eq!((compiled.rules[1].id, compiled.rules[1].policy.options.keepcnt), (2, 5));
}

/// Networks, many of them within others, and around the border between IPv4 and IPv6.
const NETS: [&str; 24] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "10.1.2.2/31",
    "128.0.0.0/1",
    "192.0.2.0/24",
    "255.255.255.255/32",
    "::/0",
    "::/1",
    "::/8",
    "::/64",
    "::/95",
    "::fffe:0:0/95",
    "::1/128",
    "::/128",
    "8000::/1",
    "2001:db8::/32",
    "2001:db8:0:1::/64",
    "2001:db8::1/128",
    "fe80::/10",
];
const PORTS: [u16; 12] = [1, 2, 63, 64, 65, 5059, 5060, 5061, 5070, 5071, 65534, 65535];
const UIDS: [u32; 4] = [0, 1, 1000, u32::MAX - 1];
const CGROUPS: RangeInclusive<u64> = 1..=12;

/// The cgroups above one, and itself: a tree in which n is below n / 2.
fn chain(id: u64) -> Vec<u64> {
    core::iter::successors(Some(id), |id| Some(id / 2)).take_while(|id| *id > 0).collect()
}

/// No value, most often; else a few.
fn some<T: core::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    (vec(value, 1..4), 0..5).prop_map(|(values, n)| if n < 2 { values } else { Vec::new() })
}

fn net() -> impl Strategy<Value = IpNet> {
    select(&NETS[..]).prop_map(|net| net.parse().unwrap())
}

fn ports() -> impl Strategy<Value = RangeInclusive<u16>> {
    let port = || select(&PORTS[..]);
    (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b))
}

fn direction() -> impl Strategy<Value = Direction> {
    select(&[Direction::Outbound, Direction::Inbound, Direction::Listen][..])
}

fn family() -> impl Strategy<Value = Family> {
    select(&[Family::Inet, Family::Inet6][..])
}

fn origin() -> impl Strategy<Value = Origin> {
    select(&[Origin::Handshake, Origin::Adopted][..])
}

prop_compose! {
    fn matcher()(
        directions in some(direction()),
        families in some(family()),
        origins in some(origin()),
        local in some(net()),
        remote in some(net()),
        local_ports in some(ports()),
        remote_ports in some(ports()),
        uids in some(select(&UIDS[..])),
        cgroups in some(CGROUPS.prop_map(|id| Cgroup { id, ancestors: chain(id / 2) })),
    ) -> Matcher {
        Matcher { directions, families, origins, local, remote, local_ports, remote_ports, uids, cgroups }
    }
}

/// An address at the start, at the end, just before or just after one of the networks; seldom any.
fn address() -> impl Strategy<Value = IpAddr> {
    let near = || {
        (net(), 0..6).prop_map(|(net, place)| {
            let bits = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            let (first, last) = (bits(net.network()), bits(net.broadcast()));
            let address = match place {
                0 | 1 => first,
                2 => first.wrapping_add(1),
                3 => first.wrapping_sub(1),
                4 => last,
                _ => last.wrapping_add(1),
            };
            IpAddr::V6(Ipv6Addr::from_bits(address))
        })
    };
    prop_oneof![
        6 => near(),
        3 => near().prop_map(|address| address.to_canonical()),
        1 => any::<Ipv6Addr>().prop_map(IpAddr::V6)
    ]
}

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    let port = prop_oneof![4 => select(&PORTS[..]), 1 => any::<u16>()];
    (address(), port).prop_map(|(address, port)| SocketAddr::new(address, port))
}

prop_compose! {
    fn any_facts()(
        direction in direction(), family in family(), origin in origin(),
        local in endpoint(), remote in endpoint(),
        uid in prop_oneof![4 => select(&UIDS[..]), 1 => any::<u32>()],
        cgroup in 0..=2 * CGROUPS.end(),
    ) -> Facts {
        Facts { direction, family, origin, local, remote, uid, cgroups: chain(cgroup) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn compiled_rules_match_what_the_rules_mean(
        matchers in prop_oneof![4 => vec(matcher(), 0..12), 1 => vec(matcher(), 60..70)],
        connections in vec(any_facts(), 40),
        slot in 0..SLOTS,
    ) {
        let set = rule_set(matchers);
        let compiled = compile(&set, slot).unwrap();
        let different: HashSet<_> = compiled.masks.iter().collect();
        prop_assert!(different.len() == compiled.masks.len() || set.rules.is_empty());
        for facts in connections {
            let defined = set.first_match(&facts).map(|rule| rule.id as usize - 1);
            prop_assert_eq!(compiled.first_match(&facts), defined, "{:?}", facts);
        }
    }

    /// Rules with one condition each, so that every dimension decides often.
    #[test]
    fn each_dimension_alone_matches_what_the_rules_mean(
        matchers in vec(matcher(), 1..20),
        connections in vec(any_facts(), 40),
        dimension in 0..7,
    ) {
        let only = |all: Matcher| match dimension {
            0 => Matcher { local: all.local, ..Matcher::default() },
            1 => Matcher { remote: all.remote, ..Matcher::default() },
            2 => Matcher { local_ports: all.local_ports, ..Matcher::default() },
            3 => Matcher { remote_ports: all.remote_ports, ..Matcher::default() },
            4 => Matcher { uids: all.uids, ..Matcher::default() },
            5 => Matcher { cgroups: all.cgroups, ..Matcher::default() },
            _ => {
                let Matcher { directions, families, origins, .. } = all;
                Matcher { directions, families, origins, ..Matcher::default() }
            }
        };
        // Rules without any condition would hide what comes after them.
        let set = rule_set(matchers.into_iter().map(only).filter(|matcher| *matcher != Matcher::default()));
        let compiled = compile(&set, 0).unwrap();
        for facts in connections {
            let defined = set.first_match(&facts).map(|rule| rule.id as usize - 1);
            prop_assert_eq!(compiled.first_match(&facts), defined, "{:?}", facts);
        }
    }
}
