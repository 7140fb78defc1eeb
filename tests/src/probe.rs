//! Whether a peer is still there, asked on demand: the living, the dead and the slow.

use std::thread::{self, sleep};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::http::{exchange, request_text};
use crate::harness::lab::{Lab, Line};
use crate::harness::options::Options;
use crate::harness::wait::{SOON, wait_until};

/// Asks through the API.
fn probe(agent: &Agent, id: &str, timeout_s: u64) -> Value {
    let body = json!({ "timeout_seconds": timeout_s });
    agent.api("POST", &format!("/v1/connections/{id}/probe"), Some(&body)).ok()
}

/// Nothing that the peer sends arrives any more, and what did is some jiffies ago.
fn cut_off(lab: &Lab, line: &Line) {
    lab.ns.filter(&[&format!("tcp sport {} drop", line.far.local.port())]);
    sleep(Duration::from_millis(50));
}

#[test]
fn a_living_peer_answers_and_the_options_are_as_before() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (plain, kept) = (lab.outbound("127.0.0.1"), lab.inbound("::1"));
    agent.keepalive(&kept.sock.id(), 300, 4, 30);
    for line in [&plain, &kept] {
        let before = line.program.options(line.sock);
        let conid = agent.conid(&line.sock.id());
        let said = probe(&agent, &line.sock.id(), 5);
        assert_eq!(
            (&said["conid"], &said["verdict"], &said["method"]),
            (&json!(conid), &json!("alive"), &json!("probes"))
        );
        assert!(said["waited_seconds"].as_f64().unwrap() < 3.0, "{said}");
        assert_eq!(line.program.options(line.sock), before);
        assert_eq!(line.outsider.options(line.far), Options::DEFAULT);
        let answer = agent.cli(&["alive", &conid.to_string(), "--probe", "--timeout", "5s"]);
        assert_eq!(answer.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&answer.stdout).starts_with("alive: the peer answered"), "{answer:?}");
    }
    assert_eq!(agent.counter("probed"), 4);
    assert_eq!(agent.counter("probe_failed"), 0);
}

#[test]
fn a_dead_peer_is_found_and_the_connection_lives_on() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let id = line.sock.id();
    // One that ends connections sooner than the question takes.
    let wanted = Options::on(2, 2, 1, 1_000);
    let keepalive = json!({ "idle_seconds": 2000, "count": 2, "interval_seconds": 1, "user_timeout_ms": 1000 });
    agent.put(&format!("/v1/connections/{id}/keepalive"), &keepalive).ok();
    cut_off(&lab, &line);
    let said = probe(&agent, &id, 8);
    assert_eq!(said["verdict"], "dead", "{said}");
    assert!(said["probes"].as_u64().unwrap() >= 1, "{said}");
    assert_eq!(line.program.options(line.sock), Options { idle_s: 2000, ..wanted });
    assert_eq!(agent.code(&id), 1, "the question ended it");
    let answer = agent.cli(&["alive", &id, "--probe", "--timeout", "6s"]);
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
    // The peer comes back.
    lab.ns.filter(&[]);
    assert_eq!(probe(&agent, &id, 5)["verdict"], "alive");
    line.outsider.send(line.far, "still here");
    assert_eq!(line.program.receive(line.sock).unwrap(), "still here");
}

#[test]
fn a_slow_peer_is_unknown_until_it_answers() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    let id = line.sock.id();
    cut_off(&lab, &line);
    let said = probe(&agent, &id, 1);
    assert_eq!(said["verdict"], "unknown", "{said}");
    let waited = said["waited_seconds"].as_f64().unwrap();
    assert!((1.0..2.0).contains(&waited), "{said}");
    // Its answer takes a second and a half.
    let said = thread::scope(|scope| {
        let asking = scope.spawn(|| probe(&agent, &id, 10));
        wait_until("it is asked", SOON, || line.program.options(line.sock).count == 127);
        sleep(Duration::from_millis(1500));
        lab.ns.filter(&[]);
        asking.join().expect("an answer")
    });
    assert_eq!(said["verdict"], "alive", "{said}");
    assert!(said["waited_seconds"].as_f64().unwrap() >= 1.5, "{said}");
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
}

#[test]
fn data_that_waits_is_judged_by_its_retransmissions() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let id = line.sock.id();
    cut_off(&lab, &line);
    line.program.send(line.sock, "is anybody there?");
    let said = probe(&agent, &id, 10);
    assert_eq!((&said["verdict"], &said["method"]), (&json!("dead"), &json!("retransmissions")), "{said}");
    assert!(said["retransmits"].as_u64().unwrap() >= 3, "{said}");
    assert_eq!(agent.counter("probed"), 0);
    lab.ns.filter(&[]);
    let said = probe(&agent, &id, 20);
    assert_eq!(said["verdict"], "alive", "{said}");
    assert_eq!(line.outsider.receive(line.far).unwrap(), "is anybody there?");
}

#[test]
fn an_agent_that_dies_meanwhile_leaves_it_to_the_next_to_give_the_options_back() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    let id = line.sock.id();
    cut_off(&lab, &line);
    let socket = agent.socket().to_path_buf();
    let asking = {
        let text =
            request_text("POST", &format!("/v1/connections/{id}/probe"), Some(&json!({ "timeout_seconds": 20 })));
        thread::spawn(move || drop(exchange(&socket, text.as_bytes())))
    };
    wait_until("the socket has the options of a probe", SOON, || line.program.options(line.sock).count == 127);
    // Only one may ask at a time.
    let again = agent.api("POST", &format!("/v1/connections/{id}/probe"), Some(&json!({})));
    again.problem(409, "busy");
    agent.stop(Signal::KILL);
    drop(asking.join());
    assert_eq!(line.program.options(line.sock).count, 127);
    agent.start_again();
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
    lab.ns.filter(&[]);
    assert_eq!(probe(&agent, &id, 5)["verdict"], "alive");
}

#[test]
fn what_has_no_peer_is_not_asked() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    let listener = program.listen("127.0.0.1");
    let ask = |id: &str, body: &Value| agent.api("POST", &format!("/v1/connections/{id}/probe"), Some(body));
    let detail = ask(&listener.id(), &json!({})).problem(400, "invalid_request");
    assert!(detail["detail"].as_str().unwrap().contains("listen"), "{detail}");
    ask("4711", &json!({})).problem(404, "no_such_connection");
    for timeout in [json!(0), json!(21), json!("5s"), json!(1.5)] {
        ask("4711", &json!({ "timeout_seconds": timeout })).problem(400, "invalid_request");
    }
    assert_eq!(agent.cli(&["alive", "1", "--probe", "--timeout", "21s"]).status.code(), Some(2));
    assert_eq!(agent.cli(&["alive", "1", "--timeout", "5s"]).status.code(), Some(2));
}
