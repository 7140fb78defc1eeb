//! Changes of one connection: keepalive, lifetimes and closes; and questions to its peer.

use std::thread;

use serde_json::json;

use super::connections::wait_for_state;
use super::{Recording, Stage};
use crate::harness::agent::Agent;
use crate::harness::http::{exchange, request_text};
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};

#[test]
fn answers_to_policies() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    stage.outbound("127.0.0.1:7001");
    stage.listen("127.0.0.1:5060");
    let mut recording = Recording::new("policies");
    let (keepalive, lifetime) = ("/v1/connections/1/keepalive", "/v1/connections/1/lifetime");
    let most = json!({
        "idle_seconds": 32_767, "count": 127, "interval_seconds": 32_767, "user_timeout_ms": 2_147_483_647,
    });
    recording.put(&agent, keepalive, &json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 }));
    recording.put(&agent, keepalive, &most);
    recording.get(&agent, "/v1/connections/1");
    recording.delete(&agent, keepalive);
    recording.note("A listener.");
    recording.put(&agent, "/v1/connections/2/keepalive", &most);
    recording.delete(&agent, "/v1/connections/2/keepalive");
    recording.put(&agent, "/v1/connections/2/lifetime", &json!({ "idle_seconds": 60 }));
    recording.delete(&agent, "/v1/connections/2/lifetime");
    recording.note("Lifetimes.");
    let deadline = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    for body in [
        json!({ "idle_seconds": 600 }),
        json!({ "max_age_seconds": 5400.25 }),
        json!({ "deadline": deadline }),
        json!({ "idle_seconds": 315_360_000, "max_age_seconds": 1e6, "deadline": deadline, "jitter_percent": 100 }),
        json!({ "idle_seconds": 600, "jitter_percent": 0 }),
    ] {
        recording.put(&agent, lifetime, &body);
    }
    recording.delete(&agent, lifetime);
    recording.get(&agent, "/v1/connections/1");
    recording.check();
}

#[test]
fn answers_to_closes() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    let mut recording = Recording::new("closes");
    stage.outbound("127.0.0.1:7001");
    recording.delete(&agent, "/v1/connections/1");
    recording.note("It is gone.");
    recording.delete(&agent, "/v1/connections/1");
    recording.get(&agent, "/v1/connections/1");
    recording.get(&agent, "/v1/connections/1/state");
    let listener = stage.listen("127.0.0.1:5060");
    recording.note("A listener.");
    recording.delete(&agent, "/v1/connections/2");
    recording.note("In order: asked once, and once more.");
    stage.outbound("127.0.0.1:7001");
    recording.delete(&agent, "/v1/connections/3?close=fin&grace_seconds=3600");
    wait_for_state(&agent, 3, "fin-wait-2");
    recording.delete(&agent, "/v1/connections/3?close=fin");
    recording.delete(&agent, "/v1/connections/3?close=reset");
    recording.note("What cannot be sent a FIN.");
    let far = stage.outsider.connect(listener.local);
    wait_for_state(&agent, 4, "established");
    recording.delete(&agent, "/v1/connections/4?close=fin");
    assert_eq!(stage.outsider.receive(far).unwrap_err(), "ECONNRESET");
    lab.ns.filter(&["tcp dport 7008 drop"]);
    stage.program.begin_connect(([127, 0, 0, 1], 7008).into());
    recording.delete(&agent, "/v1/connections/5?close=fin&grace_seconds=1.5");
    recording.check();
}

/// Asks whether the peer is there.
fn probe(recording: &mut Recording, agent: &Agent, conid: u64, timeout_s: u64) {
    let path = format!("/v1/connections/{conid}/probe");
    recording.post(agent, &path, &json!({ "timeout_seconds": timeout_s }));
}

#[test]
fn answers_to_probes() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    let mut recording = Recording::new("probes");
    let (sock, _far) = stage.outbound("127.0.0.1:7001");
    recording.post(&agent, "/v1/connections/1/probe", &json!({}));
    probe(&mut recording, &agent, 1, 5);
    stage.listen("127.0.0.1:5060");
    recording.note("A listener, and what is not there.");
    probe(&mut recording, &agent, 2, 1);
    probe(&mut recording, &agent, 4711, 1);

    lab.ns.filter(&["tcp sport 7001 drop"]);
    recording.note("One that answers nothing, asked by two.");
    let request = request_text("POST", "/v1/connections/1/probe", Some(&json!({ "timeout_seconds": 20 })));
    thread::scope(|scope| {
        let asking = scope.spawn(|| exchange(agent.socket(), request.as_bytes()).expect("an answer").ok());
        wait_until("it is asked", SOON, || stage.program.options(sock).count == 127);
        probe(&mut recording, &agent, 1, 1);
        asking.join().expect("it is answered");
    });
    probe(&mut recording, &agent, 1, 1);
    agent.keepalive("1", 2000, 2, 1);
    probe(&mut recording, &agent, 1, 20);
    recording.note("Data that waits.");
    stage.program.send(sock, "is anybody there?");
    probe(&mut recording, &agent, 1, 20);
    recording.check();
}
