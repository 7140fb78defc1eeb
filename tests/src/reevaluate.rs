//! Changed rules reach the connections that are open.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::{KEEPALIVE, Sock, USER_TIMEOUT};
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
fn what_was_pushed_for_one_connection_wins() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (pushed, other) = (lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"));
    agent.keepalive(&pushed.sock.id(), 60, 5, 5);
    agent.put("/v1/rules", &rules(&[rule("all", &json!({}), 100)])).ok();
    assert_eq!(pushed.program.options(pushed.sock), Options::on(60, 5, 5, 0));
    assert_eq!(other.program.options(other.sock), Options::on(100, 3, 2, 0));
    agent.put("/v1/rules", &rules(&[])).ok();
    assert_eq!(pushed.program.options(pushed.sock), Options::on(60, 5, 5, 0));
    assert_eq!(other.program.options(other.sock), Options::DEFAULT);
    assert_eq!(agent.connection(&pushed.sock.id())["policy"]["options_source"], "override");
}

#[test]
fn what_a_rule_wants_as_before_is_left_as_the_program_set_it_since() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let all = rule("all", &json!({}), 100);
    agent.put("/v1/rules", &rules(std::slice::from_ref(&all))).ok();
    line.program.set(line.sock, USER_TIMEOUT, 5_000);
    line.program.set(line.sock, KEEPALIVE, 0);
    let renamed = json!({ "name": "other", "keepalive": all["keepalive"] });
    assert_eq!(agent.put("/v1/rules", &rules(&[renamed])).ok()["changed"], 1);
    assert!(!line.program.options(line.sock).keepalive, "the values are the same, so the program has the last word");
    assert_eq!(agent.connection(&line.sock.id())["policy"]["rule"], "other");
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
    agent.put("/v1/rules", &with_lifetime("1h")).ok();
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
