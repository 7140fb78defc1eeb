//! Rules with `track = false`: what they match costs next to nothing, since nothing is known of it.

use serde_json::{Value, json};

use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::wait::{SOON, wait_until};

fn untracked(matching: &Value) -> Value {
    named("left alone", matching)
}

fn named(name: &str, matching: &Value) -> Value {
    json!({ "name": name, "match": matching, "track": false })
}

fn all() -> Value {
    json!({ "name": "all", "keepalive": { "idle": "60s", "count": 5, "interval": "7s" } })
}

const WANTED: Options = Options::on(60, 5, 7, 0);

#[test]
fn what_a_rule_leaves_untracked_has_no_entry_no_record_and_its_own_options() {
    for host in ["127.0.0.1", "::1"] {
        let lab = Lab::new();
        let agent = lab.agent().start();
        agent.put("/v1/rules", &json!({ "rule": [untracked(&json!({})), all()] })).ok();
        let (mut outbound, mut inbound) = (lab.outbound(host), lab.inbound(host));
        // The listener is no connection, which the rule is for.
        let listed = agent.list("");
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0]["direction"], "listen");
        for line in [&mut outbound, &mut inbound] {
            assert_eq!(line.program.options(line.sock), Options::DEFAULT);
            assert_eq!(agent.code(&line.sock.id()), -1);
            line.program.reset(line.sock);
        }
        wait_until("the counter has both", SOON, || agent.counter("left_untracked") == 2);
        assert!(agent.history("").is_empty(), "{:?}", agent.history(""));
        assert_eq!(bpftool::conids(agent.pins()).len(), 1);
        // Nothing was taken for a fault, though accepted sockets have the callbacks of their listener.
        for counter in ["unknown_socket", "untracked", "no_socket", "remove_failed", "rules_broken"] {
            assert_eq!(agent.counter(counter), 0, "{counter}");
        }
    }
}

#[test]
fn the_first_match_decides_also_about_tracking() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let of_family = |family| named(family, &json!({ "family": family }));
    agent.put("/v1/rules", &json!({ "rule": [of_family("ipv6"), all(), of_family("ipv4")] })).ok();
    let (v4, v6) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    assert_eq!(v4.program.options(v4.sock), WANTED);
    assert_eq!(agent.connection(&v4.sock.id())["policy"]["rule"], "all");
    assert_eq!(v6.program.options(v6.sock), Options::DEFAULT);
    assert_eq!(agent.code(&v6.sock.id()), -1);
    // The port of this end is chosen by the time that rules are looked up.
    agent.put("/v1/rules", &json!({ "rule": [untracked(&json!({ "local_port": "1024-65535" }))] })).ok();
    let by_port = lab.outbound("127.0.0.1");
    assert_eq!(agent.code(&by_port.sock.id()), -1);
}

#[test]
fn what_was_open_is_left_alone_until_the_rule_goes() {
    let lab = Lab::new();
    let line = lab.outbound("127.0.0.1");
    let rules = "[[rule]]\nname = \"left alone\"\ntrack = false\n";
    let agent = lab.agent().rules(rules).start();
    assert_eq!(agent.code(&line.sock.id()), -1);
    assert_eq!(agent.counter("left_untracked"), 1);

    // Another rule in its place: what is open is taken in.
    agent.put("/v1/rules", &json!({ "rule": [all()] })).ok();
    wait_until("it is taken in", SOON, || agent.code(&line.sock.id()) == 1);
    let entry = agent.connection(&line.sock.id());
    assert_eq!((&entry["origin"], &entry["policy"]["rule"]), (&json!("adopted"), &json!("all")));
    assert_eq!(line.program.options(line.sock), WANTED);

    // What is tracked stays so until its end; the rule wants nothing of it.
    agent.put("/v1/rules", &json!({ "rule": [untracked(&json!({}))] })).ok();
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
    assert_eq!(agent.connection(&line.sock.id())["policy"]["rule"], "left alone");
    let mut line = line;
    line.program.reset(line.sock);
    wait_until("its end is recorded", SOON, || agent.history("").len() == 1);
    assert_eq!(agent.history("")[0]["type"], "closed");
}

#[test]
fn a_descriptor_that_connects_again_is_judged_anew() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let (far, cookie) = (line.sock.remote(), line.sock.cookie);
    assert_eq!(agent.code(&line.sock.id()), 1);
    agent.put("/v1/rules", &json!({ "rule": [untracked(&json!({}))] })).ok();
    line.sock = line.program.reconnect(line.sock, far);
    assert_eq!(line.sock.cookie, cookie);
    assert_eq!(agent.code(&line.sock.id()), -1);
    assert!(bpftool::conids(agent.pins()).is_empty());
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    line.sock = line.program.reconnect(line.sock, far);
    assert_eq!(agent.code(&line.sock.id()), 1);
}

#[test]
fn nothing_else_can_be_wanted_of_it() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut rule = untracked(&json!({}));
    rule["protect"] = json!(true);
    let refused = agent.put("/v1/rules", &json!({ "rule": [rule] })).problem(400, "invalid_rules");
    let detail = refused["detail"].as_str().expect("it says why");
    assert!(detail.contains("expected no protect beside track = false"), "{detail}");
    let output = agent.cli_stdout(&["rule", "test", "--local", "10.0.0.1:1", "--remote", "10.0.0.2:2"]);
    assert!(output.contains("none matches"), "{output}");
    agent.put("/v1/rules", &json!({ "rule": [untracked(&json!({}))] })).ok();
    let output = agent.cli_stdout(&["rule", "test", "--local", "10.0.0.1:1", "--remote", "10.0.0.2:2"]);
    assert!(output.ends_with("close         not tracked\n"), "{output}");
}
