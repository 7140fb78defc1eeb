//! What a dry run says a change of the rules would do, and what the change then does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::command::text;
use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::options::Options;
use crate::harness::peer::{KEEPALIVE, Peer};

/// What the list says of the policy of each connection, by conid.
fn standings(agent: &Agent) -> BTreeMap<u64, Value> {
    let entries = agent.list("").into_iter();
    entries.map(|entry| (entry["conid"].as_u64().expect("it has one"), standing(&entry["policy"]))).collect()
}

/// The part of a policy that a change of the rules may change.
fn standing(policy: &Value) -> Value {
    // A lifetime that is taken off is told by the dry run, and is none in force.
    let lifetime = if policy["lifetime"] == json!({}) { &Value::Null } else { &policy["lifetime"] };
    json!([policy["rule"], policy["wanted"], lifetime])
}

/// Puts `rules` in force after a dry run, which must tell exactly what the change then does; how many changed.
fn change(agent: &Agent, rules: &Value) -> u64 {
    let before = standings(agent);
    let told = agent.put("/v1/rules?dry_run=true", rules).ok();
    assert_eq!(standings(agent), before, "a dry run changes nothing");
    let done = agent.put("/v1/rules", rules).ok();
    let after = standings(agent);
    assert_eq!((&told["applied"], &done["applied"]), (&json!(false), &json!(true)));
    assert_eq!(told["changed"], done["changed"], "{rules}: {told}");
    let listed = told["changes"].as_array().cloned().unwrap_or_default();
    assert_eq!(told["changed"], listed.len(), "{told}");
    let conids: Vec<u64> = listed.iter().map(|change| change["conid"].as_u64().expect("it has one")).collect();
    assert!(conids.is_sorted(), "{conids:?}");
    let differing: Vec<u64> = after.keys().copied().filter(|conid| before[conid] != after[conid]).collect();
    assert_eq!(conids, differing, "{rules}: {told}");
    for entry in &listed {
        let conid = entry["conid"].as_u64().expect("it has one");
        assert_eq!(standing(&entry["before"]), before[&conid], "{entry}");
        assert_eq!(standing(&entry["after"]), after[&conid], "{entry}");
    }
    done["changed"].as_u64().expect("it is a number")
}

/// Numbers that look as if drawn, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn one_of<'a>(&mut self, values: &'a [Value]) -> &'a Value {
        &values[self.below(values.len())]
    }
}

#[test]
fn a_dry_run_tells_exactly_what_the_change_then_does() {
    let lab = Lab::new();
    let child = lab.cgroup.child("child");
    let agent = lab.agent().start();
    // Connections of every kind: both families and directions, another user, another cgroup, a listener, two with
    // an override, one that has set keepalive itself, one whose handshake never ends.
    let (v4, v6) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    let (in4, _in6) = (lab.inbound("127.0.0.1"), lab.inbound("::1"));
    let (mut own, mut overridden, limited) =
        (lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"));
    own.program.set(own.sock, KEEPALIVE, 1);
    agent.keepalive(&overridden.sock.id(), 33, 3, 3);
    agent.lifetime(&limited.sock.id(), &json!({ "max_age_seconds": 900 })).ok();
    agent.delete(&format!("/v1/connections/{}/lifetime", v6.sock.id())).ok();
    let mut nobody = lab.program_of(65_534);
    nobody.connect(overridden.outsider.listen("127.0.0.1").local);
    let mut nested = Peer::start(&lab.ns, Some(&child), 0);
    let below = nested.connect(overridden.outsider.listen("127.0.0.1").local);
    lab.ns.filter(&["tcp dport 7001 drop"]);
    let _never = overridden.program.begin_connect(([127, 0, 0, 1], 7001).into());
    assert_eq!(agent.list("").len(), 12);

    let matchers = [
        json!({}),
        json!({ "family": "ipv6" }),
        json!({ "direction": "inbound" }),
        json!({ "direction": ["listen", "outbound"], "local": "127.0.0.0/8" }),
        json!({ "uid": 65_534 }),
        json!({ "cgroup": child.name() }),
        json!({ "cgroup": lab.cgroup.name(), "family": "ipv4" }),
        json!({ "local_port": in4.sock.local.port() }),
        json!({ "remote_port": [v4.sock.remote().port(), below.remote().port()] }),
        json!({ "remote": ["::1", "192.0.2.0/24"] }),
        json!({ "origin": "adopted" }),
    ];
    let wishes = [
        json!({}),
        json!({ "keepalive": { "idle": "60s", "count": 5, "interval": "5s" } }),
        json!({ "keepalive": { "idle": "60s", "count": 5, "interval": "5s" }, "user_timeout": "auto" }),
        json!({ "keepalive": "off" }),
        json!({ "mode": "default", "keepalive": { "idle": "70s", "count": 5, "interval": "5s" } }),
        json!({ "mode": "floor", "keepalive": { "idle": "60s", "count": 5, "interval": "5s" } }),
        json!({ "lifetime": { "max_age": "1h", "jitter": "10%", "first_byte": "10m", "half_closed": "1h" } }),
        json!({ "user_timeout": "30s", "lifetime": { "max_age": "1h" } }),
        json!({ "lifetime": { "idle": "1h" } }),
        json!({ "lifetime": "none" }),
    ];
    let mut numbers = Numbers(1);
    let mut changed = 0;
    for _ in 0..40 {
        let rules: Vec<Value> = (0..numbers.below(5))
            .map(|position| {
                let mut rule = numbers.one_of(&wishes).clone();
                rule["match"] = numbers.one_of(&matchers).clone();
                // Names go and come back, and with them the ids.
                rule["name"] = json!(format!("rule {}", position * 2 + numbers.below(2)));
                rule
            })
            .collect();
        changed += change(&agent, &json!({ "rule": rules }));
        assert_eq!(change(&agent, &json!({ "rule": rules })), 0, "the same rules again change nothing");
    }
    assert!(changed > 100, "{changed} changes are too few to be a test");
    change(&agent, &json!({ "rule": [] }));
    assert_eq!(v4.program.options(v4.sock), Options::DEFAULT);
}

#[test]
fn the_command_line_shows_each_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    let rules = "[[rule]]\nname = \"a\"\nkeepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\n";
    let file = lab.directory.write("new.toml", rules);
    let shown = agent.cli_stdout(&["rule", "apply", file.to_str().unwrap(), "--dry-run"]);
    let conid = agent.conid(&line.sock.id());
    let row: Vec<&str> = shown.lines().nth(1).expect("a row after the header").split_whitespace().collect();
    let (local, remote) = (line.sock.local.to_string(), line.sock.remote().to_string());
    let expected = [&conid.to_string(), &local, &remote, "-", "->", "a", "-", "->", "60s/5x5s", "-", "-"];
    assert_eq!(row, expected, "{shown}");
    assert!(shown.ends_with("; 1 open connection would change\n"), "{shown}");
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
    let mismatch = agent.cli(&["rule", "apply", file.to_str().unwrap(), "--dry-run", "--if-match", "99"]);
    assert_eq!(mismatch.status.code(), Some(1));
    assert!(text(&mismatch.stderr).contains("If-Match expected 99"), "{}", text(&mismatch.stderr));
}

#[test]
fn what_no_walk_reaches_and_what_nobody_knows_is_told_apart() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let here = lab.outbound("127.0.0.1");
    // The agent keeps to its own namespace; the program is in its cgroup all the same.
    let elsewhere = NetNs::new();
    let mut program = Peer::start(&elsewhere, Some(&lab.cgroup), 0);
    let mut outsider = Peer::start(&elsewhere, None, 0);
    program.connect(outsider.listen("127.0.0.1").local);
    assert_eq!(agent.list("").len(), 2);
    let rules = |matching: Value| {
        let keepalive = json!({ "idle": "60s", "count": 5, "interval": "5s" });
        json!({ "rule": [{ "name": "a", "match": matching, "keepalive": keepalive }] })
    };
    let told = agent.put("/v1/rules?dry_run=true", &rules(json!({}))).ok();
    assert_eq!((&told["changed"], &told["unreachable"]), (&json!(1), &json!(1)), "{told}");
    assert_eq!(told["changes"][0]["conid"], agent.conid(&here.sock.id()));
    assert_eq!(agent.put("/v1/rules", &rules(json!({}))).ok()["changed"], 1);
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();

    // A socket outlives the directory of its cgroup where another process has it.
    let (child, mut outsider) = (lab.cgroup.child("gone"), lab.outsider());
    let mut short = Peer::start(&lab.ns, Some(&child), 0);
    let orphan = short.connect(outsider.listen("127.0.0.1").local);
    let kept = short.copy_of(orphan);
    drop((short, child));
    let told = agent.put("/v1/rules?dry_run=true", &rules(json!({ "cgroup": lab.cgroup.name() }))).ok();
    assert_eq!((&told["changed"], &told["unsure"]), (&json!(1), &json!(1)), "{told}");
    drop(kept);
}
