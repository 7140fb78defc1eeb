//! Which rule a connection gets. Each rule here wants another TCP_KEEPIDLE, which tells them apart.

use serde_json::json;

use crate::harness::cgroup::Cgroup;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::{Peer, Sock};
use crate::harness::wait::{SOON, wait_until};

/// The TCP_KEEPIDLE that a rule gave, if any did.
fn idle(program: &Peer, sock: Sock) -> Option<u64> {
    let options = program.options(sock);
    if options == Options::DEFAULT {
        return None;
    }
    assert_eq!(options, Options::on(options.idle_s, 3, 2, 0));
    Some(options.idle_s)
}

/// Rules in order: what each matches, and the TCP_KEEPIDLE that it sets.
fn rules(rules: &[(&str, u64)]) -> String {
    let rule = |(matches, idle_s): &(&str, u64)| {
        format!(
            "[[rule]]\nname = \"rule {idle_s}\"\nmatch = {{ {matches} }}\n\
             keepalive = {{ idle = \"{idle_s}s\", count = 3, interval = \"2s\" }}\n"
        )
    };
    rules.iter().map(rule).collect()
}

/// A connection of `program` from `bind` to `host` and `port`, and the socket of the other side.
fn connect(program: &mut Peer, server: &mut Peer, bind: &str, host: &str, port: u16) -> (Sock, Sock) {
    let listener = server.listen_with(&json!({ "host": host, "port": port }));
    let sock = program.connect_with(listener.local, &json!({ "bind": bind })).expect("the server listens");
    let far = server.accept(listener);
    server.close(listener);
    (sock, far)
}

#[test]
fn the_first_rule_that_matches_wins() {
    let lab = Lab::new();
    let text = rules(&[("remote_port = 7001", 101), ("remote = \"127.0.0.0/8\"", 102), ("", 103)]);
    let agent = lab.agent().rules(&text).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    for (host, port, expected) in
        [("127.0.0.1", 7001, 101), ("127.0.0.1", 7002, 102), ("::1", 7001, 101), ("::1", 7002, 103)]
    {
        let bind = if host == "::1" { "::1" } else { "127.0.0.1" };
        let (sock, _far) = connect(&mut program, &mut outsider, bind, host, port);
        assert_eq!(idle(&program, sock), Some(expected), "{host} {port}");
        assert_eq!(agent.connection(&sock.id())["policy"]["rule"], format!("rule {expected}"));
    }
}

#[test]
fn by_direction() {
    let lab = Lab::new();
    let text = rules(&[("direction = \"inbound\"", 201), ("direction = \"outbound\"", 202)]);
    let _agent = lab.agent().rules(&text).start();
    let (mut server, mut client) = (lab.program(), lab.program());
    let (sock, far) = connect(&mut client, &mut server, "127.0.0.1", "127.0.0.1", 7001);
    assert_eq!(idle(&client, sock), Some(202));
    assert_eq!(idle(&server, far), Some(201));
}

#[test]
fn listeners_get_only_what_is_for_listeners() {
    let lab = Lab::new();
    let text =
        rules(&[("direction = \"listen\", local_port = 7001", 211), ("direction = [\"inbound\", \"outbound\"]", 212)]);
    let _agent = lab.agent().rules(&text).start();
    let mut program = lab.program();
    let listen = |program: &mut Peer, port: u16| program.listen_with(&json!({ "host": "127.0.0.1", "port": port }));
    let (one, other) = (listen(&mut program, 7001), listen(&mut program, 7002));
    assert_eq!((idle(&program, one), idle(&program, other)), (Some(211), None));
    let (sock, _far) = connect(&mut program, &mut lab.outsider(), "127.0.0.1", "127.0.0.1", 7003);
    assert_eq!(idle(&program, sock), Some(212));
}

#[test]
fn by_family() {
    let lab = Lab::new();
    let text = rules(&[("family = \"ipv6\"", 221), ("family = \"ipv4\", remote_port = 7001", 222)]);
    let _agent = lab.agent().rules(&text).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    for (host, port, expected) in [("::1", 7001, Some(221)), ("127.0.0.1", 7001, Some(222)), ("127.0.0.1", 7002, None)]
    {
        let (sock, _far) = connect(&mut program, &mut outsider, host, host, port);
        assert_eq!(idle(&program, sock), expected, "{host} {port}");
    }
}

#[test]
fn by_one_of_several_values() {
    let lab = Lab::new();
    let text = rules(&[("remote = [\"127.0.6.0/24\", \"::1\"], remote_port = [7001, \"7010-7012\"]", 231)]);
    let _agent = lab.agent().rules(&text).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    for (bind, host, port, expected) in [
        ("127.0.0.1", "127.0.6.1", 7001, Some(231)),
        ("::1", "::1", 7012, Some(231)),
        ("127.0.0.1", "127.0.6.1", 7013, None),
        ("127.0.0.1", "127.0.5.1", 7001, None),
    ] {
        let (sock, _far) = connect(&mut program, &mut outsider, bind, host, port);
        assert_eq!(idle(&program, sock), expected, "{host} {port}");
    }
}

#[test]
fn the_first_of_a_thousand_rules() {
    let lab = Lab::new();
    // Overlapping networks and ranges of ports, in an order that only "first" explains.
    let port_rules = (0..1000_u64).map(|number| {
        let (low, high) = (8000 + number % 500, 8000 + number % 500 + number / 100);
        (
            format!("remote_port = \"{low}-{high}\", remote = \"127.0.{}.0/24\"", number % 7),
            1000 + number,
            low..=high,
            number % 7,
        )
    });
    let all: Vec<_> = port_rules.collect();
    let text = rules(&all.iter().map(|(matches, idle_s, ..)| (matches.as_str(), *idle_s)).collect::<Vec<_>>());
    let _agent = lab.agent().rules(&text).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    for (net, port) in (0..7).flat_map(|net| [8000_u16, 8003, 8250, 8499, 8505, 8600].map(|port| (net, port))) {
        let expected =
            all.iter().find(|(_, _, ports, of)| ports.contains(&u64::from(port)) && *of == net).map(|rule| rule.1);
        let (sock, _far) = connect(&mut program, &mut outsider, "127.0.0.1", &format!("127.0.{net}.1"), port);
        assert_eq!(idle(&program, sock), expected, "127.0.{net}.1:{port}");
    }
}

#[test]
fn by_local_and_remote_network() {
    let lab = Lab::new();
    for address in ["fd88::1/128", "fd88:0:0:1::1/128", "fd99::1/128"] {
        lab.ns.ip(&["address", "add", address, "dev", "lo", "nodad"]);
    }
    let text = rules(&[
        ("local = \"127.0.5.0/24\"", 301),
        ("remote = \"127.0.6.0/24\"", 302),
        ("remote = \"127.0.7.7\"", 303),
        ("local = \"fd88::/64\"", 304),
        ("remote = \"fd88::/64\"", 305),
        ("remote = \"fd99::1\"", 306),
    ]);
    let _agent = lab.agent().rules(&text).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    for (bind, host, expected) in [
        ("127.0.5.9", "127.0.0.1", Some(301)),
        ("127.0.4.255", "127.0.0.1", None),
        ("127.0.0.1", "127.0.6.255", Some(302)),
        ("127.0.0.1", "127.0.7.7", Some(303)),
        ("127.0.0.1", "127.0.7.8", None),
        ("fd88::1", "::1", Some(304)),
        ("::1", "fd88::1", Some(305)),
        ("::1", "fd88:0:0:1::1", None),
        ("::1", "fd99::1", Some(306)),
        ("fd99::1", "::1", None),
    ] {
        let (sock, _far) = connect(&mut program, &mut outsider, bind, host, 7001);
        assert_eq!(idle(&program, sock), expected, "from {bind} to {host}");
    }
}

#[test]
fn by_ports_and_ranges_of_ports() {
    let lab = Lab::new();
    let text = rules(&[("remote_port = \"7100-7199\"", 401), ("local_port = 7300, direction = \"inbound\"", 402)]);
    let _agent = lab.agent().rules(&text).start();
    let (mut server, mut client) = (lab.program(), lab.program());
    for (port, outbound, inbound) in [
        (7099, None, None),
        (7100, Some(401), None),
        (7199, Some(401), None),
        (7200, None, None),
        (7300, None, Some(402)),
    ] {
        let (sock, far) = connect(&mut client, &mut server, "127.0.0.1", "127.0.0.1", port);
        assert_eq!((idle(&client, sock), idle(&server, far)), (outbound, inbound), "port {port}");
    }
}

#[test]
fn by_uid() {
    let lab = Lab::new();
    let _agent = lab.agent().rules(&rules(&[("uid = 65534", 501), ("uid = 0", 502)])).start();
    let (mut nobody, mut root, mut daemon) = (lab.program_of(65534), lab.program(), lab.program_of(1));
    let (sock, far) = connect(&mut nobody, &mut root, "127.0.0.1", "127.0.0.1", 7001);
    assert_eq!((idle(&nobody, sock), idle(&root, far)), (Some(501), Some(502)));
    let (sock, far) = connect(&mut daemon, &mut nobody, "127.0.0.1", "127.0.0.1", 7002);
    assert_eq!((idle(&daemon, sock), idle(&nobody, far)), (None, Some(501)));
}

#[test]
fn by_cgroup_and_everything_below_it() {
    let lab = Lab::new();
    let inner = lab.cgroup.child("inner");
    let deeper = inner.child("deeper");
    let beside = lab.cgroup.child("beside");
    let text = rules(&[(&format!("cgroup = \"{}\"", inner.name()), 601)]);
    let _agent = lab.agent().rules(&text).start();
    let mut outsider = lab.outsider();
    for (cgroup, expected) in [(&inner, Some(601)), (&deeper, Some(601)), (&beside, None), (&lab.cgroup, None)] {
        let mut program = Peer::start(&lab.ns, Some(cgroup), 0);
        let (sock, _far) = connect(&mut program, &mut outsider, "127.0.0.1", "127.0.0.1", 7001);
        assert_eq!(idle(&program, sock), expected, "{}", cgroup.name());
        // An accepted socket is in the cgroup of the socket that listened.
        let (_far, sock) = connect(&mut outsider, &mut program, "127.0.0.1", "127.0.0.1", 7002);
        assert_eq!(idle(&program, sock), expected, "{}", cgroup.name());
    }
}

#[test]
fn all_that_a_rule_asks_must_hold() {
    let lab = Lab::new();
    let text = rules(&[("remote = \"127.0.6.0/24\", remote_port = 7001, uid = 0, direction = \"outbound\"", 701)]);
    let _agent = lab.agent().rules(&text).start();
    let (mut root, mut nobody, mut outsider) = (lab.program(), lab.program_of(65534), lab.outsider());
    let mut got = |program: &mut Peer, host: &str, port: u16| {
        let (sock, _far) = connect(program, &mut outsider, "127.0.0.1", host, port);
        idle(program, sock)
    };
    assert_eq!(got(&mut root, "127.0.6.1", 7001), Some(701));
    assert_eq!(got(&mut root, "127.0.0.1", 7001), None);
    assert_eq!(got(&mut root, "127.0.6.1", 7002), None);
    assert_eq!(got(&mut nobody, "127.0.6.1", 7001), None);
}

#[test]
fn by_a_cgroup_that_is_made_anew_as_at_the_restart_of_a_service() {
    let lab = Lab::new();
    let outer = lab.cgroup.child("outer");
    let service = outer.child("service");
    let (name, first_id) = (service.name(), service.id());
    let agent = lab.agent().rules(&rules(&[(&format!("cgroup = \"{name}\""), 601)])).start();
    let mut outsider = lab.outsider();
    let listener = outsider.listen("127.0.0.1");
    let mut matches = |cgroup: &Cgroup| {
        let mut program = Peer::start(&lab.ns, Some(cgroup), 0);
        let sock = program.connect(listener.local);
        outsider.accept(listener);
        // The rule follows the directory in a moment, and then reaches what was opened in between.
        wait_until("the rule matches", SOON, || idle(&program, sock) == Some(601));
    };
    matches(&service);
    drop(service);
    let service = outer.child("service");
    assert_ne!(service.id(), first_id);
    matches(&service);
    // And with the directory above it.
    drop(service);
    drop(outer);
    let outer = lab.cgroup.child("outer");
    matches(&outer.child("service"));
    assert_eq!(agent.get("/v1/rules").ok()["rule"][0]["match"]["cgroup"], name);
}
