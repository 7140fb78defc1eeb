//! Changed rules reach the connections that are open.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::{KEEPALIVE, KEEPIDLE, Peer, Sock, USER_TIMEOUT};
use crate::harness::wait::{SOON, wait_until};

fn rule(name: &str, matching: &Value, idle_s: u64) -> Value {
    let keepalive = json!({ "idle": format!("{idle_s}s"), "count": 3, "interval": "2s" });
    json!({ "name": name, "match": matching, "keepalive": keepalive })
}

fn rules(rules: &[Value]) -> Value {
    json!({ "rule": rules })
}

#[test]
fn exactly_those_that_match_change_and_get_back_what_they_had() {
    let lab = Lab::new();
    let (mut v4, v6) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    v4.program.set(v4.sock, KEEPALIVE, 1);
    v4.program.set(v4.sock, USER_TIMEOUT, 12_000);
    let before = v4.program.options(v4.sock);
    let agent = lab.agent().start();
    let only_v4 = rule("v4", &json!({ "family": "ipv4" }), 100);
    assert_eq!(agent.put("/v1/rules", &rules(&[only_v4])).ok()["changed"], 1);
    assert_eq!(v4.program.options(v4.sock), Options::on(100, 3, 2, 12_000));
    assert_eq!(v6.program.options(v6.sock), Options::DEFAULT);

    let (other_v4, also_v6) =
        (rule("v4", &json!({ "family": "ipv4" }), 200), rule("v6", &json!({ "family": "ipv6" }), 300));
    assert_eq!(agent.put("/v1/rules", &rules(&[other_v4.clone(), also_v6.clone()])).ok()["changed"], 2);
    assert_eq!(v4.program.options(v4.sock), Options::on(200, 3, 2, 12_000));
    assert_eq!(v6.program.options(v6.sock), Options::on(300, 3, 2, 0));
    assert_eq!(agent.put("/v1/rules", &rules(&[other_v4, also_v6.clone()])).ok()["changed"], 0);

    assert_eq!(agent.put("/v1/rules", &rules(&[also_v6])).ok()["changed"], 1);
    assert_eq!(v4.program.options(v4.sock), before);
    let policy = agent.connection(&v4.sock.id())["policy"].clone();
    assert_eq!((&policy["rule"], &policy["wanted"], &policy["result"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!(agent.put("/v1/rules", &rules(&[])).ok()["changed"], 1);
    assert_eq!(v6.program.options(v6.sock), Options::DEFAULT);
}

#[test]
fn an_override_for_one_connection_wins() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (overridden, other) = (lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"));
    agent.keepalive(&overridden.sock.id(), 60, 5, 5);
    agent.put("/v1/rules", &rules(&[rule("all", &json!({}), 100)])).ok();
    assert_eq!(overridden.program.options(overridden.sock), Options::on(60, 5, 5, 0));
    assert_eq!(other.program.options(other.sock), Options::on(100, 3, 2, 0));
    agent.put("/v1/rules", &rules(&[])).ok();
    assert_eq!(overridden.program.options(overridden.sock), Options::on(60, 5, 5, 0));
    assert_eq!(other.program.options(other.sock), Options::DEFAULT);
    assert_eq!(agent.connection(&overridden.sock.id())["policy"]["keepalive_source"], "override");
}

#[test]
fn a_rule_that_wants_the_same_under_another_name_changes_the_name() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    let all = rule("all", &json!({}), 100);
    agent.put("/v1/rules", &rules(std::slice::from_ref(&all))).ok();
    let before = agent.connection(&line.sock.id())["policy"]["result"].clone();
    let renamed = json!({ "name": "other", "keepalive": all["keepalive"] });
    assert_eq!(agent.put("/v1/rules", &rules(&[renamed])).ok()["changed"], 1);
    let policy = agent.connection(&line.sock.id())["policy"].clone();
    assert_eq!((&policy["rule"], &policy["result"]), (&json!("other"), &before), "nothing was set again");
}

#[test]
fn lifetimes_of_rules_come_and_go() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut ended, mut kept) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    let with_lifetime = |max_age: &str| {
        rules(&[
            json!({ "name": "v4", "match": { "family": "ipv4" }, "lifetime": { "max_age": "1s" } }),
            json!({ "name": "v6", "match": { "family": "ipv6" }, "lifetime": { "max_age": max_age } }),
        ])
    };
    agent.put("/v1/rules", &with_lifetime("90s")).ok();
    assert_eq!(ended.program.receive(ended.sock).unwrap_err(), "ECONNABORTED");
    wait_until("the other is watched", SOON, || agent.get("/v1/status").ok()["lifetimes"] == 1);
    agent.put("/v1/rules", &rules(&[])).ok();
    wait_until("it is not any more", SOON, || agent.get("/v1/status").ok()["lifetimes"] == 0);
    assert!(kept.program.is_quiet(kept.sock));
}

#[test]
fn a_signal_and_the_next_agent_judge_anew_too() {
    let lab = Lab::new();
    let file = |idle: &str| {
        let keepalive = format!("{{ idle = \"{idle}\", count = 3, interval = \"2s\" }}");
        format!("[[rule]]\nname = \"all\"\nkeepalive = {keepalive}\n")
    };
    let mut agent = lab.agent().rules(&file("100s")).start();
    let line = lab.outbound("127.0.0.1");
    assert_eq!(line.program.options(line.sock), Options::on(100, 3, 2, 0));
    let path = lab.directory.path().join("rules.toml");
    fs::write(&path, file("200s")).unwrap();
    agent.running().signal(Signal::HUP);
    wait_until("the new value is in force", SOON, || line.program.options(line.sock) == Options::on(200, 3, 2, 0));
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    fs::write(&path, file("300s")).unwrap();
    agent.start_again();
    assert_eq!(line.program.options(line.sock), Options::on(300, 3, 2, 0));
}

/// A program with many connections to one listener, and the other side of them.
struct Crowd {
    program: Peer,
    socks: Vec<Sock>,
    port: u16,
    _outsider: Peer,
}

impl Crowd {
    /// Every other connection is from 127.0.0.2, and every third has options that its program set itself.
    fn gather(lab: &Lab, count: usize) -> Self {
        let (mut program, mut outsider) = (lab.program(), lab.outsider());
        let listener = outsider.listen("127.0.0.1");
        let own = json!([[KEEPALIVE[0], KEEPALIVE[1], 1], [KEEPIDLE[0], KEEPIDLE[1], 500]]);
        let socks = (0..count)
            .map(|number| {
                let mut how = json!({ "bind": if number % 2 == 0 { "127.0.0.1" } else { "127.0.0.2" } });
                if number % 3 == 0 {
                    how["options"] = own.clone();
                }
                let sock = program.connect_with(listener.local, &how).expect("it connects");
                outsider.accept(listener);
                sock
            })
            .collect();
        Self { program, socks, port: listener.local.port(), _outsider: outsider }
    }

    fn options(&self) -> Vec<Options> {
        self.socks.iter().map(|sock| self.program.options(*sock)).collect()
    }
}

#[test]
fn rules_are_swapped_under_five_thousand_live_connections() {
    let lab = Lab::new();
    // Several programs: the limit of open files is for each.
    let mut crowds: Vec<Crowd> = (0..10).map(|_| Crowd::gather(&lab, 500)).collect();
    let agent = lab.agent().arguments(&["--max-connections", "16384"]).start();
    assert_eq!(agent.list("?limit=10000").len(), 5000);
    let before: Vec<Vec<Options>> = crowds.iter().map(Crowd::options).collect();
    let (first, second) = (before[0][0], before[0][1]);
    assert_ne!(first, second, "some have options of their own");

    let ports = |crowds: &[Crowd]| crowds.iter().map(|crowd| crowd.port).collect::<Vec<_>>();
    let local = |address: &str| json!({ "local": address });
    let to = |ports: &[u16]| json!({ "remote_port": ports });
    let both = |ports: &[u16], address: &str| json!({ "remote_port": ports, "local": address });
    let all = ports(&crowds);
    // Rules, and what is wanted of a connection by the number of its crowd and its own address.
    type Wanted = fn(usize, bool) -> Option<u64>;
    let swaps: [(Value, Wanted); 5] = [
        (rules(&[rule("some", &to(&all[..3]), 100)]), |crowd, _| (crowd < 3).then_some(100)),
        (rules(&[rule("some", &to(&all[..3]), 100), rule("two", &local("127.0.0.2"), 200)]), |crowd, is_two| {
            if crowd < 3 { Some(100) } else { is_two.then_some(200) }
        }),
        (
            rules(&[rule("two", &both(&all[5..], "127.0.0.2"), 200), rule("rest", &to(&all[4..8]), 300)]),
            |crowd, is_two| match (crowd, is_two) {
                (5.., true) => Some(200),
                (4..8, _) => Some(300),
                _ => None,
            },
        ),
        (rules(&[rule("all", &json!({}), 400)]), |_, _| Some(400)),
        (rules(&[]), |_, _| None),
    ];
    let mut wanted_before: Wanted = |_, _| None;
    for (document, wanted) in swaps {
        let told = agent.put("/v1/rules?dry_run=true", &document).ok();
        let answer = agent.put("/v1/rules", &document).ok();
        let mut changed = 0;
        for (number, crowd) in crowds.iter().enumerate() {
            let found = crowd.options();
            for ((sock, found), before) in crowd.socks.iter().zip(found).zip(&before[number]) {
                let is_two = sock.local.ip().to_string() == "127.0.0.2";
                let expected = wanted(number, is_two).map_or(*before, |idle_s| Options::on(idle_s, 3, 2, 0));
                assert_eq!(found, expected, "{document}: {number}, {sock:?}");
                changed += usize::from(wanted(number, is_two) != wanted_before(number, is_two));
            }
        }
        assert_eq!((&answer["changed"], &told["changed"]), (&json!(changed), &json!(changed)), "{document}");
        wanted_before = wanted;
    }
    for crowd in &mut crowds {
        let sock = crowd.socks[0];
        assert!(crowd.program.is_quiet(sock));
    }
}

#[test]
fn a_thousand_open_connections_are_judged_by_one_change() {
    let lab = Lab::new();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let socks: Vec<_> = (0..1000)
        .map(|_| {
            let sock = program.connect(listener.local);
            outsider.accept(listener);
            sock
        })
        .collect();
    let agent = lab.agent().start();
    // Every other one: connect(2) gives ports of one parity as long as it can.
    let wanted = |sock: &Sock| (sock.local.port() / 2) % 2 == 1;
    let ports: Vec<_> = socks.iter().filter(|sock| wanted(sock)).map(|sock| sock.local.port()).collect();
    let changed = agent.put("/v1/rules", &rules(&[rule("half", &json!({ "local_port": ports }), 100)])).ok();
    assert_eq!(changed["changed"], ports.len());
    for sock in &socks {
        let expected = if wanted(sock) { Options::on(100, 3, 2, 0) } else { Options::DEFAULT };
        assert_eq!(program.options(*sock), expected);
    }
    assert_eq!(agent.put("/v1/rules", &rules(&[])).ok()["changed"], ports.len());
    for sock in &socks {
        assert_eq!(program.options(*sock), Options::DEFAULT);
    }
}
