//! Why a connection has the policy that it has.

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::peer::{KEEPALIVE, Peer, Sock};
use crate::permissions::open_to_all;

const RULES: &str = r#"
[[rule]]
name = "sip"
match = { family = "ipv4" }
keepalive = { idle = "60s", count = 5, interval = "5s" }
lifetime = { idle = "10m" }
"#;

fn why(agent: &Agent, sock: Sock) -> Value {
    agent.connection(&sock.id())["why"].clone()
}

/// What `conn show` has after the name of a field.
fn shown(agent: &Agent, sock: Sock, field: &str) -> Option<String> {
    let text = agent.cli_stdout(&["conn", "show", &sock.id()]);
    let line = text.lines().find_map(|line| line.strip_prefix(field).filter(|rest| rest.starts_with("  ")));
    line.map(|rest| rest.trim().to_owned())
}

#[test]
fn a_rule_or_none() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let (mut v4, v6) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    assert_eq!(why(&agent, v6.sock), json!({}));
    assert_eq!(shown(&agent, v6.sock, "rule").as_deref(), Some("-, none matches"));

    let rule = agent.get("/v1/rules").ok()["rule"][0].clone();
    assert_eq!(why(&agent, v4.sock), json!({ "rule": rule }));
    assert_eq!(shown(&agent, v4.sock, "rule").as_deref(), Some("sip, which matches family=ipv4"));
    assert_eq!(shown(&agent, v4.sock, "keepalive").as_deref(), Some("60s/5x5s, from the rule"));
    assert_eq!(shown(&agent, v4.sock, "lifetime").as_deref(), Some("idle 10m, from the rule"));
    let result = shown(&agent, v4.sock, "result").expect("there is one");
    assert!(result.starts_with("applied at 20"), "{result}");

    // What the program set before is its own, and so is what it sets later.
    assert_eq!(shown(&agent, v4.sock, "own"), None);
    v4.program.set(v4.sock, KEEPALIVE, 1);
    assert_eq!(why(&agent, v4.sock)["set_by_program"], json!(["keepalive"]));
    let listener = v4.outsider.listen("127.0.0.1");
    let set_before = json!({ "options": [[KEEPALIVE[0], KEEPALIVE[1], 1]] });
    let own = v4.program.connect_with(listener.local, &set_before).expect("it connects");
    assert_eq!(why(&agent, own)["set_by_program"], json!(["keepalive"]));
    assert_eq!(shown(&agent, own, "own").as_deref(), Some("keepalive: the program has set it itself"));
}

#[test]
fn an_override_and_what_it_hides() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    open_to_all(&agent);
    let mut line = lab.outbound("127.0.0.1");
    agent.keepalive(&line.sock.id(), 30, 4, 10);
    agent.delete(&format!("/v1/connections/{}/lifetime", line.sock.id())).ok();
    let found = why(&agent, line.sock);
    assert_eq!(found["rule"]["name"], "sip");
    let wanted = json!({ "keepalive": true, "idle_seconds": 30, "count": 4, "interval_seconds": 10 });
    assert_eq!(found["override"], json!({ "by_uid": 0, "applied": true, "wanted": wanted, "lifetime": {} }));
    let overridden = shown(&agent, line.sock, "override");
    assert_eq!(overridden.as_deref(), Some("by uid 0: keepalive 30s/4x10s, lifetime none"));
    let keepalive = shown(&agent, line.sock, "keepalive");
    assert_eq!(keepalive.as_deref(), Some("30s/4x10s, override; the rule wants 60s/5x5s"));
    let lifetime = shown(&agent, line.sock, "lifetime");
    assert_eq!(lifetime.as_deref(), Some("none, override; the rule wants idle 10m"));

    let mut nobody = lab.program_of(65_534);
    let theirs = nobody.connect(line.outsider.listen("127.0.0.1").local);
    let (path, body) = (format!("/v1/connections/{}/lifetime", theirs.id()), json!({ "max_age_seconds": 600 }));
    nobody.http(agent.socket(), "PUT", &path, Some(&body)).ok();
    let expected = json!({ "by_uid": 65_534, "applied": true, "lifetime": { "max_age_seconds": 600.0 } });
    assert_eq!(why(&agent, theirs)["override"], expected);
}

#[test]
fn a_rule_that_is_gone_where_no_walk_comes_by() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    // The agent keeps to its own namespace; the program is in its cgroup all the same.
    let elsewhere = NetNs::new();
    let mut program = Peer::start(&elsewhere, Some(&lab.cgroup), 0);
    let mut outsider = Peer::start(&elsewhere, None, 0);
    let sock = program.connect(outsider.listen("127.0.0.1").local);
    assert_eq!(why(&agent, sock)["rule"]["name"], "sip");
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    assert_eq!(why(&agent, sock), json!({ "rule_is_gone": true }));
    let rule = shown(&agent, sock, "rule").expect("it is shown");
    assert!(rule.starts_with("-, one that is not in force any more"), "{rule}");
}
