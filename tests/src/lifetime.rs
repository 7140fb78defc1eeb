//! Lifetimes: `idle`, `max_age` and `deadline` close real connections, no earlier and at most a second later.

use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::harness::agent::Agent;
use crate::harness::lab::{Lab, Line};
use crate::harness::options::Options;
use crate::harness::peer::Sock;
use crate::harness::wait::patient;

const SECOND: Duration = Duration::from_secs(1);
/// Allowed beyond the second that is promised: the test itself has to be told, on a busy machine.
const TOLD: Duration = Duration::from_millis(250);

/// Waits until the connection is closed: the owner is told that it was aborted, the peer gets a reset. The span began
/// after `from.0` and before `from.1`.
fn assert_closes(line: &mut Line, from: (Instant, Instant), after: Duration) {
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    let now = Instant::now();
    assert!(now - from.0 >= after, "closed early: {:?} instead of {after:?}", now - from.0);
    assert!(now - from.1 <= after + SECOND + patient(TOLD), "closed late: {:?} instead of {after:?}", now - from.1);
    assert_eq!(line.outsider.receive(line.far).unwrap_err(), "ECONNRESET");
}

/// A new connection, and two moments with its establishment between them.
fn outbound(lab: &Lab) -> (Line, (Instant, Instant)) {
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let before = Instant::now();
    let sock = program.connect(listener.local);
    let after = Instant::now();
    let far = outsider.accept(listener);
    (Line { program, sock, outsider, far }, (before, after))
}

fn assert_gone(agent: &Agent, sock: Sock) {
    assert_eq!(agent.code(&sock.id()), -1);
    agent.get(&format!("/v1/connections/{}", sock.id())).problem(404, "no_such_connection");
}

fn assert_open(agent: &Agent, line: &mut Line) {
    assert!(line.program.is_quiet(line.sock) && line.outsider.is_quiet(line.far));
    assert_eq!(agent.code(&line.sock.id()), 1);
}

#[test]
fn idle_closes_a_quiet_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, opened) = outbound(&lab);
    let answer = agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 1.5 })).ok();
    assert_eq!(answer, json!({ "conid": answer["conid"], "idle_seconds": 1.5 }));
    assert_closes(&mut line, opened, Duration::from_millis(1500));
    assert_gone(&agent, line.sock);
}

#[test]
fn max_age_closes_a_busy_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, opened) = outbound(&lab);
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 2 })).ok();
    for _ in 0..5 {
        line.program.send(line.sock, "x");
        assert_eq!(line.outsider.receive(line.far).unwrap(), "x");
        sleep(Duration::from_millis(200));
    }
    assert_closes(&mut line, opened, 2 * SECOND);
    assert_gone(&agent, line.sock);
}

#[test]
fn deadline_closes_at_its_time() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, _) = outbound(&lab);
    let (before, deadline) = (Instant::now(), Timestamp::now() + SignedDuration::from_millis(1500));
    let answer = agent.lifetime(&line.sock.id(), &json!({ "deadline": deadline.to_string() })).ok();
    let said: Timestamp = answer["deadline"].as_str().expect("the deadline is told").parse().unwrap();
    assert!(said.duration_since(deadline).abs() < SignedDuration::from_millis(10), "{said} instead of {deadline}");
    // The two clocks are read one after the other.
    assert_closes(&mut line, (before - Duration::from_millis(5), Instant::now()), Duration::from_millis(1500));
}

#[test]
fn a_rule_gives_both_lifetimes() {
    let rules = r#"
        [[rule]]
        name = "idle"
        match = { direction = "outbound" }
        lifetime = { idle = "1s" }
        [[rule]]
        name = "age"
        match = { local = "127.0.0.2", direction = "inbound" }
        lifetime = { max_age = "1500ms" }
    "#;
    let lab = Lab::new();
    let agent = lab.agent().rules(rules).start();
    let (mut line, opened) = outbound(&lab);
    let policy = &agent.connection(&line.sock.id())["policy"];
    assert_eq!((&policy["lifetime"], &policy["lifetime_source"]), (&json!({ "idle_seconds": 1.0 }), &json!("rule")));
    assert_closes(&mut line, opened, SECOND);

    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.2");
    let before = Instant::now();
    let far = outsider.connect(listener.local);
    let sock = program.accept(listener);
    let opened = (before, Instant::now());
    let mut line = Line { program, sock, outsider, far };
    assert_closes(&mut line, opened, Duration::from_millis(1500));
    // The listener stays.
    assert_eq!(agent.code(&listener.id()), 2);
    line.outsider.connect(listener.local);
}

#[test]
fn traffic_in_either_direction_keeps_an_idle_lifetime_from_ending() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut lines = [outbound(&lab).0, outbound(&lab).0];
    for line in &lines {
        agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 1 })).ok();
    }
    let mut last = [(Instant::now(), Instant::now()); 2];
    for _ in 0..10 {
        let [one, other] = &mut lines;
        let before = Instant::now();
        one.program.send(one.sock, "x");
        assert_eq!(one.outsider.receive(one.far).unwrap(), "x");
        let between = Instant::now();
        other.outsider.send(other.far, "x");
        assert_eq!(other.program.receive(other.sock).unwrap(), "x");
        last = [(before, between), (between, Instant::now())];
        sleep(Duration::from_millis(300));
    }
    for line in &mut lines {
        assert_open(&agent, line);
    }
    for (line, last) in lines.iter_mut().zip(last) {
        // The kernel counts the time since the last data in ticks, of at most ten milliseconds.
        let last = (last.0 - Duration::from_millis(10), last.1);
        assert_closes(line, last, SECOND);
    }
}

#[test]
fn the_first_limit_to_come_closes() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, opened) = outbound(&lab);
    agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 60, "max_age_seconds": 1 })).ok();
    assert_closes(&mut line, opened, SECOND);
    let (mut line, opened) = outbound(&lab);
    agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 1, "max_age_seconds": 60 })).ok();
    assert_closes(&mut line, opened, SECOND);
}

#[test]
fn a_cleared_lifetime_does_not_close() {
    let rules = "[[rule]]\nname = \"all\"\nlifetime = { idle = \"1s\" }\n";
    let lab = Lab::new();
    let agent = lab.agent().rules(rules).start();
    let (mut line, _) = outbound(&lab);
    let id = line.sock.id();
    let answer = agent.delete(&format!("/v1/connections/{id}/lifetime")).ok();
    assert_eq!(answer, json!({ "conid": agent.conid(&id) }));
    sleep(2 * SECOND + TOLD);
    assert_open(&agent, &mut line);
    assert_eq!(agent.connection(&id)["policy"].get("lifetime"), None);
}

#[test]
fn raising_takes_effect_at_once() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, _) = outbound(&lab);
    agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 1.5 })).ok();
    agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 3600 })).ok();
    sleep(Duration::from_millis(2750));
    assert_open(&agent, &mut line);
}

#[test]
fn lowering_takes_effect_at_once() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, opened) = outbound(&lab);
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 3600, "idle_seconds": 3600 })).ok();
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    assert_closes(&mut line, opened, SECOND);

    // Below the age that it has: now.
    let (mut line, _) = outbound(&lab);
    sleep(SECOND + TOLD);
    let before = Instant::now();
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    assert_closes(&mut line, (before, Instant::now()), Duration::ZERO);
}

#[test]
fn the_commands_set_and_clear() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, opened) = outbound(&lab);
    let id = line.sock.id();
    let set = agent.cli_json(&["lifetime", "set", &id, "--idle", "5m", "--max-age", "1h"]);
    let expected = json!({ "conid": agent.conid(&id), "idle_seconds": 300.0, "max_age_seconds": 3600.0 });
    assert_eq!(set, expected);
    agent.cli_stdout(&["lifetime", "clear", &id]);
    assert_eq!(agent.connection(&id)["policy"].get("lifetime"), None);
    agent.cli_stdout(&["lifetime", "set", &id, "--max-age", "1500ms"]);
    assert_closes(&mut line, opened, Duration::from_millis(1500));
}

#[test]
fn a_listener_has_no_lifetime() {
    let rules = "[[rule]]\nname = \"all\"\nlifetime = { max_age = \"1s\" }\n";
    let lab = Lab::new();
    let agent = lab.agent().rules(rules).start();
    let mut program = lab.program();
    let listener = program.listen("127.0.0.1");
    agent.lifetime(&listener.id(), &json!({ "idle_seconds": 1 })).problem(409, "not_closable");
    sleep(2 * SECOND);
    assert_eq!(agent.code(&listener.id()), 2);
    lab.outsider().connect(listener.local);
}

#[test]
fn a_connection_that_ended_by_itself_is_forgotten_and_no_other_is_hit() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, _) = outbound(&lab);
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    let first = agent.conid(&line.sock.id());
    // The same descriptor, with the same cookie, is another connection now.
    let listener = line.outsider.listen("127.0.0.1");
    let again = line.program.reconnect(line.sock, listener.local);
    line.far = line.outsider.accept(listener);
    line.sock = again;
    assert_ne!(agent.conid(&again.id()), first);
    sleep(2 * SECOND + TOLD);
    assert_open(&agent, &mut line);
}

#[test]
fn a_half_closed_connection_is_closed_too() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    // CLOSE_WAIT: the peer has closed, and the program never will.
    let (mut line, _) = outbound(&lab);
    line.outsider.shutdown(line.far);
    assert_eq!(line.program.receive(line.sock).unwrap(), "");
    agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 1 })).ok();
    assert_eq!(line.outsider.receive(line.far).unwrap_err(), "ECONNRESET");
    assert_gone(&agent, line.sock);
    // FIN_WAIT_2, with its program.
    let (mut line, _) = outbound(&lab);
    line.program.shutdown(line.sock);
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    assert_gone(&agent, line.sock);
}

#[test]
fn probes_are_no_traffic() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut line, opened) = outbound(&lab);
    agent.keepalive(&line.sock.id(), 1, 9, 1);
    agent.lifetime(&line.sock.id(), &json!({ "idle_seconds": 3.5 })).ok();
    assert_closes(&mut line, opened, Duration::from_millis(3500));
}

#[test]
fn jitter_is_told_and_outlives_the_agent() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let (line, _) = outbound(&lab);
    let id = line.sock.id();
    let answer = agent.lifetime(&id, &json!({ "max_age_seconds": 600, "jitter_percent": 25 })).ok();
    assert_eq!(answer, json!({ "conid": answer["conid"], "max_age_seconds": 600.0, "jitter_percent": 25 }));
    let change =
        json!({ "id": id, "action": "lifetime_set", "lifetime": { "idle_seconds": 300, "jitter_percent": 50 } });
    let answer = agent.api("POST", "/v1/policies:batch", Some(&json!({ "changes": [change] }))).ok();
    let expected = json!({ "idle_seconds": 300.0, "jitter_percent": 50 });
    assert_eq!(answer["results"][0]["lifetime"], expected);
    let shown = agent.cli_stdout(&["lifetime", "set", &id, "--idle", "5m", "--jitter", "50%"]);
    assert!(shown.ends_with("idle 5m, jitter 50%\n"), "{shown}");
    agent.stop(rustix::process::Signal::KILL);
    agent.start_again();
    assert_eq!(agent.connection(&id)["policy"]["lifetime"], expected);
    // It goes with the lifetime, and with the next one that has none.
    agent.lifetime(&id, &json!({ "idle_seconds": 300 })).ok();
    assert_eq!(agent.connection(&id)["policy"]["lifetime"], json!({ "idle_seconds": 300.0 }));
}

#[test]
fn keepalive_and_lifetime_do_not_touch_each_other() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (line, _) = outbound(&lab);
    let id = line.sock.id();
    let lifetime = || agent.connection(&id)["policy"]["lifetime"].clone();
    agent.lifetime(&id, &json!({ "idle_seconds": 600 })).ok();
    agent.keepalive(&id, 60, 5, 5);
    assert_eq!(lifetime(), json!({ "idle_seconds": 600.0 }));
    agent.lifetime(&id, &json!({ "max_age_seconds": 700 })).ok();
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0));
    agent.delete(&format!("/v1/connections/{id}/keepalive")).ok();
    assert_eq!(lifetime(), json!({ "max_age_seconds": 700.0 }));
    agent.delete(&format!("/v1/connections/{id}/lifetime")).ok();
    assert!(!line.program.options(line.sock).keepalive);
}
