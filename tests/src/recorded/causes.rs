//! Why connections end: each cause, as the event of the end names it.

use std::process::Command;

use serde_json::json;

use super::{Recording, Stage};
use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::peer::USER_TIMEOUT;
use crate::harness::require;
use crate::harness::wait::{SOON, wait_until};

/// The end of the connection, once it is told.
fn ended(recording: &mut Recording, agent: &Agent, conid: u64, what: &str) {
    let path = format!("/v1/events?follow=false&type=expiring,closed&conid={conid}");
    wait_until(what, SOON, || agent.get(&path).text().contains(r#""closed""#));
    recording.note(what);
    recording.get(agent, &path);
}

#[test]
fn answers_about_ends() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    let mut all = Recording::new("ends");
    let recording = &mut all;
    let (sock, far) = stage.outbound("127.0.0.1:7001");
    stage.program.close(sock);
    stage.outsider.close(far);
    ended(recording, &agent, 1, "A FIN of this side.");
    let (sock, far) = stage.outbound("127.0.0.1:7001");
    stage.outsider.close(far);
    wait_until("it has come", SOON, || agent.code("2") == -2);
    stage.program.close(sock);
    ended(recording, &agent, 2, "A FIN of the peer.");
    let (sock, _far) = stage.outbound("127.0.0.1:7001");
    stage.program.reset(sock);
    ended(recording, &agent, 3, "A reset of this side.");
    let (_sock, far) = stage.outbound("127.0.0.1:7001");
    stage.outsider.reset(far);
    ended(recording, &agent, 4, "A reset of the peer.");
    stage.outbound("127.0.0.1:7001");
    agent.delete("/v1/connections/5").ok();
    ended(recording, &agent, 5, "A request.");
    let (sock, _far) = stage.outbound("127.0.0.1:7001");
    let (from, to) = (format!(":{}", sock.local.port()), ":7001");
    let mut ss = Command::new(require::tool("ss"));
    ss.args(["-K", "-t", "sport", "=", &from, "and", "dport", "=", to]);
    lab.ns.run(|| ss.output().expect("ss can be run"));
    ended(recording, &agent, 6, "Somebody else.");
    handshakes(recording, &agent, &lab, &mut stage);
    timeouts(recording, &agent, &lab, &mut stage);
    all.check();
}

/// Handshakes that come to nothing: 7 to 10.
fn handshakes(recording: &mut Recording, agent: &Agent, lab: &Lab, stage: &mut Stage) {
    let program = &mut stage.program;
    program.connect_with(([127, 0, 0, 1], 1).into(), &json!({})).expect_err("nobody listens");
    ended(recording, agent, 7, "Refused.");
    lab.ns.filter(&["tcp dport 2 reject with icmp type host-unreachable", "tcp dport { 3, 4 } drop"]);
    program.begin_connect(([127, 0, 0, 1], 2).into());
    ended(recording, agent, 8, "Unreachable.");
    let hasty = json!({ "options": [[USER_TIMEOUT[0], USER_TIMEOUT[1], 1500]] });
    program.connect_with(([127, 0, 0, 1], 3).into(), &hasty).expect_err("nobody answers");
    ended(recording, agent, 9, "No answer.");
    let given_up = program.begin_connect(([127, 0, 0, 1], 4).into());
    program.close(given_up);
    ended(recording, agent, 10, "Given up.");
}

/// Peers that say nothing any more: 11 to 13.
fn timeouts(recording: &mut Recording, agent: &Agent, lab: &Lab, stage: &mut Stage) {
    lab.ns.filter(&[]);
    let (probed, _far) = stage.outbound("127.0.0.1:7001");
    let (hasty, _far) = stage.outbound("127.0.0.1:7001");
    let (patient, _far) = stage.outbound("127.0.0.1:7001");
    lab.ns.sysctl("net.ipv4.tcp_retries2", "2");
    agent.keepalive("11", 1, 2, 1);
    stage.program.set(hasty, USER_TIMEOUT, 1000);
    lab.ns.filter(&["tcp dport 7001 drop"]);
    for sock in [hasty, patient] {
        stage.program.send(sock, "into the void");
    }
    for sock in [probed, hasty, patient] {
        assert_eq!(stage.program.receive(sock).unwrap_err(), "ETIMEDOUT");
    }
    ended(recording, agent, 11, "No answer to keepalive probes.");
    ended(recording, agent, 12, "No acknowledgement within the user timeout.");
    ended(recording, agent, 13, "No acknowledgement of what was sent again.");
}

#[test]
fn answers_about_lifetimes_that_are_over() {
    let lab = Lab::new();
    let rules = r#"
[[rule]]
name = "brief"
match = { remote_port = 7001 }
lifetime = { max_age = "1s" }
[[rule]]
name = "gentle"
match = { remote_port = 7002 }
lifetime = { max_age = "1s" }
close = "fin"
grace = "1s"
[[rule]]
name = "idle"
match = { remote_port = 7003 }
lifetime = { idle = "1s" }
[[rule]]
name = "half"
match = { remote_port = 7004 }
lifetime = { half_closed = "1s" }
[[rule]]
name = "hasty"
match = { remote_port = 7005 }
lifetime = { connect = "1s" }
[[rule]]
name = "greeted"
match = { direction = "inbound" }
lifetime = { first_byte = "1s" }
"#;
    let agent = lab.agent().rules(rules).start();
    let mut stage = Stage::new(&lab);
    for port in 7001..=7003 {
        stage.outbound(&format!("127.0.0.1:{port}"));
    }
    let (_sock, far) = stage.outbound("127.0.0.1:7004");
    stage.outsider.shutdown(far);
    lab.ns.filter(&["tcp dport 7005 drop"]);
    stage.program.begin_connect(([127, 0, 0, 1], 7005).into());
    let listener = stage.listen("127.0.0.1:5060");
    stage.inbound(listener, listener.local);
    for conid in 8..=10 {
        stage.outbound("127.0.0.1:7006");
        let lifetime = match conid {
            8 => json!({ "max_age_seconds": 1 }),
            9 => json!({ "idle_seconds": 1 }),
            _ => json!({ "deadline": (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2)).to_string() }),
        };
        agent.lifetime(&conid.to_string(), &lifetime).ok();
    }
    let (_sock, far) = stage.outbound("127.0.0.1:7006");
    agent.delete("/v1/connections/11?close=fin&grace_seconds=60").ok();
    stage.outsider.close(far);
    let mut recording = Recording::new("expired");
    for (conid, what) in [
        (1, "Its age."),
        (2, "Its age, by a FIN that was not answered."),
        (3, "Idle."),
        (4, "Half closed."),
        (5, "No answer to its SYN."),
        (7, "No first byte."),
        (8, "Its age, by an override."),
        (9, "Idle, by an override."),
        (10, "A deadline, by an override."),
        (11, "A FIN by request, that was answered."),
    ] {
        ended(&mut recording, &agent, conid, what);
    }
    recording.check();
}
