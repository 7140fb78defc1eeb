//! Closing on request.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::lab::{Lab, Line};
use crate::harness::require;
use crate::harness::wait::{SOON, patient, wait_to_see, wait_until};

const SECOND: Duration = Duration::from_secs(1);
/// How much later than it happened a test may be told, on a machine that is busy with many of them.
const TOLD: Duration = Duration::from_secs(3);

#[test]
fn a_connection_is_closed_once() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for mut line in [lab.outbound("127.0.0.1"), lab.inbound("::1")] {
        let conid = agent.conid(&line.sock.id());
        let path = format!("/v1/connections/{conid}");
        assert_eq!(agent.delete(&path).ok(), json!({ "conid": conid }));
        assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
        assert_eq!(line.outsider.receive(line.far).unwrap_err(), "ECONNRESET");
        assert_eq!(agent.code(&conid.to_string()), -1);
        agent.delete(&path).problem(404, "no_such_connection");
        assert!(!agent.map().contains_key(&conid));
        assert!(!bpftool::conids(agent.pins()).contains_key(&conid));
    }
}

#[test]
fn the_command_closes() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    agent.cli_stdout(&["close", &line.sock.id()]);
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    assert_eq!(agent.cli(&["close", &line.sock.id()]).status.code(), Some(4));
}

#[test]
fn a_listener_is_not_closed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.1");
    let id = listener.id();
    let by_endpoint = format!("local:{}", listener.local);
    for id in [&id, &by_endpoint] {
        agent.delete(&format!("/v1/connections/{id}")).problem(409, "not_closable");
    }
    outsider.connect(listener.local);
    program.accept(listener);
    assert_eq!(agent.code(&id), 2);
}

#[test]
fn a_handshake_under_way_is_closed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    lab.ns.filter(&["tcp dport 7001 drop"]);
    let sock = program.begin_connect(([127, 0, 0, 1], 7001).into());
    agent.delete(&format!("/v1/connections/{}", sock.id())).ok();
    assert_eq!(program.connected(sock).unwrap_err(), "ECONNABORTED");
    assert_eq!(agent.code(&sock.id()), -1);
}

#[test]
fn a_descriptor_that_connects_again_is_another_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let first = agent.conid(&line.sock.id());
    agent.keepalive(&first.to_string(), 60, 5, 5);
    let listener = line.outsider.listen("127.0.0.1");
    let again = line.program.reconnect(line.sock, listener.local);
    assert_eq!(again.cookie, line.sock.cookie);

    let second = agent.conid(&again.id());
    assert!(second > first, "{second} after {first}");
    assert_eq!(agent.code(&first.to_string()), -1);
    assert_eq!(agent.code(&second.to_string()), 1);
    // What names the first does not reach the second.
    agent.delete(&format!("/v1/connections/{first}")).problem(404, "no_such_connection");
    assert!(line.program.is_quiet(again));
    assert!(bpftool::overrides(agent.pins()).is_empty());
    assert_eq!(agent.map().into_keys().collect::<Vec<_>>(), [second]);
    agent.delete(&format!("/v1/connections/{second}")).ok();
    assert_eq!(line.program.receive(again).unwrap_err(), "ECONNABORTED");
}

/// What can come back to the same endpoints under the same cookie is closed under the lock of its socket, and once a program has
/// connected a descriptor again, all of its cgroup; nothing else.
#[test]
fn who_binds_a_port_is_closed_under_the_lock() {
    /// IP_LOCAL_PORT_RANGE of in.h: the lowest port, and the highest in the upper half.
    const ONE_PORT: [i64; 3] = [0, 51, 11001 << 16 | 11001];
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut inbound = lab.inbound("127.0.0.1");
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let has_range = require::kernel_is_at_least(6, 3);
    let can_walk = require::kernel_is_at_least(6, 5);
    let hows = [
        (json!({}), false),
        (json!({ "bind": "127.0.0.1" }), false),
        (json!({ "bind": "127.0.0.1", "bind_port": 11000 }), true),
        (json!({ "options": if has_range { json!([ONE_PORT]) } else { json!([]) } }), has_range),
    ];
    let mut expected = 0;
    for (how, is_bound) in hows {
        let sock = program.connect_with(listener.local, &how).unwrap();
        agent.delete(&format!("/v1/connections/{}", sock.id())).ok();
        assert_eq!(program.receive(sock).unwrap_err(), "ECONNABORTED");
        expected += u64::from(is_bound && can_walk);
        let closes = agent.get("/v1/status").ok()["agent_counters"]["close_under_lock"].clone();
        assert_eq!(closes, expected, "{how}");
    }
    agent.delete(&format!("/v1/connections/{}", inbound.sock.id())).ok();
    assert_eq!(inbound.program.receive(inbound.sock).unwrap_err(), "ECONNABORTED");
    let under_lock = || agent.get("/v1/status").ok()["agent_counters"]["close_under_lock"].clone();
    assert_eq!(under_lock(), expected);
    let sock = program.connect(listener.local);
    program.reconnect(sock, listener.local);
    let (sock, mut beside) = (program.connect(listener.local), lab.outbound("127.0.0.1"));
    for (peer, sock) in [(&mut program, sock), (&mut beside.program, beside.sock)] {
        agent.delete(&format!("/v1/connections/{}", sock.id())).ok();
        assert_eq!(peer.receive(sock).unwrap_err(), "ECONNABORTED");
        expected += u64::from(can_walk);
    }
    assert_eq!(under_lock(), expected);
}

#[test]
fn a_descriptor_that_is_only_disconnected_is_no_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    line.program.disconnect(line.sock);
    assert_eq!(agent.code(&conid.to_string()), -1);
    assert_eq!(agent.code(&line.sock.id()), -1);
    assert!(agent.map().is_empty());
}

fn fin(agent: &Agent, line: &Line, grace_s: f64) -> Value {
    let path = format!("/v1/connections/{}?close=fin&grace_seconds={grace_s}", line.sock.id());
    let answer = agent.delete(&path).ok();
    assert_eq!((&answer["close"], &answer["conid"]), (&json!("fin"), &json!(agent.conid(&line.sock.id()))));
    assert!(answer["reset_at"].is_string(), "{answer}");
    answer
}

#[test]
fn a_fin_is_answered_by_an_orderly_end() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for mut line in [lab.outbound("127.0.0.1"), lab.inbound("::1")] {
        line.program.send(line.sock, "before");
        fin(&agent, &line, 60.0);
        assert_eq!(line.outsider.receive(line.far).unwrap(), "before");
        assert_eq!(line.outsider.receive(line.far).unwrap(), "");
        let conid = agent.conid(&line.sock.id()).to_string();
        wait_to_see("the state", &json!("fin-wait-2"), || agent.state(&conid)["tcp_state"].clone());
        // The other direction is open: the program loses nothing.
        line.outsider.send(line.far, "after");
        assert_eq!(line.program.receive(line.sock).unwrap(), "after");
        assert!(line.program.is_quiet(line.sock));
        line.outsider.close(line.far);
        assert_eq!(line.program.receive(line.sock).unwrap(), "");
        wait_until("it has ended", SOON, || agent.code(&conid) == -1);
    }
}

#[test]
fn who_does_not_answer_a_fin_is_reset_after_the_grace() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let before = Instant::now();
    fin(&agent, &line, 1.5);
    let after = Instant::now();
    let shown = agent.connection(&line.sock.id());
    let seconds = shown["expires"]["seconds"].as_f64().unwrap();
    assert!(seconds > 0.0 && seconds <= 1.5, "{shown}");
    assert_eq!(line.outsider.receive(line.far).unwrap(), "");
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    assert!(before.elapsed() >= SECOND * 3 / 2, "after {:?}", before.elapsed());
    assert!(after.elapsed() < SECOND * 3 / 2 + patient(TOLD), "after {:?}", after.elapsed());
    let closed = agent.closed(line.sock);
    assert_eq!(closed["cause"]["name"], "closed_by_request", "{closed}");
}

#[test]
fn a_rule_closes_by_fin_too() {
    let rules = r#"
        [[rule]]
        name = "gentle"
        lifetime = { max_age = "1s" }
        close = "fin"
        grace = "1500ms"
    "#;
    let lab = Lab::new();
    let agent = lab.agent().rules(rules).start();
    let mut polite = lab.inbound("127.0.0.1");
    let (began, mut deaf) = (Instant::now(), lab.outbound("127.0.0.1"));
    for line in [&mut deaf, &mut polite] {
        assert_eq!(line.outsider.receive(line.far).unwrap(), "");
    }
    let fin_at = Instant::now();
    polite.outsider.close(polite.far);
    assert_eq!(polite.program.receive(polite.sock).unwrap(), "");
    polite.program.close(polite.sock);
    // What comes in the grace puts nothing off.
    deaf.outsider.send(deaf.far, "x");
    assert_eq!(deaf.program.receive(deaf.sock).unwrap(), "x");
    assert_eq!(deaf.program.receive(deaf.sock).unwrap_err(), "ECONNABORTED");
    assert!(began.elapsed() >= SECOND * 5 / 2, "after {:?}", began.elapsed());
    assert!(fin_at.elapsed() < SECOND * 3 / 2 + patient(TOLD), "after {:?}", fin_at.elapsed());
    wait_to_see("the counts", &(json!(2), json!(1)), || {
        let counts = agent.get("/v1/status").ok()["agent_counters"].clone();
        (counts["expired_fin"].clone(), counts["expired_reset"].clone())
    });
    let of_rule = |line: &&str| line.contains("rule=\"gentle\"");
    let lines = |result: &str| agent.log().lines().filter(of_rule).filter(|line| line.contains(result)).count();
    let said = "why=\"max_age\" result=";
    wait_to_see("the audit", &(2, 1), || (lines(&format!("{said}\"fin\"")), lines(&format!("{said}\"reset\""))));
}

#[test]
fn a_grace_outlives_the_agent() {
    let rules = "[[rule]]\nname = \"gentle\"\nlifetime = { max_age = \"1s\" }\nclose = \"fin\"\ngrace = \"3s\"\n\
                 match = { remote = \"::1\" }\n";
    let lab = Lab::new();
    let mut agent = lab.agent().rules(rules).start();
    let mut by_request = lab.outbound("127.0.0.1");
    let (began, mut by_rule) = (Instant::now(), lab.outbound("::1"));
    fin(&agent, &by_request, 4.0);
    let asked = Instant::now();
    assert_eq!(by_rule.outsider.receive(by_rule.far).unwrap(), "");
    let fin_at = Instant::now();
    agent.stop(Signal::KILL);
    agent.start_again();
    let serves = Instant::now();
    assert_eq!(by_rule.program.receive(by_rule.sock).unwrap_err(), "ECONNABORTED");
    let latest = |from: Instant, grace: Duration| serves.max(from + grace) + patient(TOLD);
    assert!(began.elapsed() >= 4 * SECOND && Instant::now() < latest(fin_at, 3 * SECOND), "{:?}", began.elapsed());
    assert_eq!(by_request.program.receive(by_request.sock).unwrap_err(), "ECONNABORTED");
    assert!(began.elapsed() >= 4 * SECOND && Instant::now() < latest(asked, 4 * SECOND), "{:?}", began.elapsed());
}

#[test]
fn what_no_process_has_open_gets_a_reset() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.1");
    let far = outsider.connect(listener.local);
    // It has not been accepted yet.
    let id = format!("local:{}+remote:{}", listener.local, far.local);
    wait_until("it is tracked", SOON, || agent.code(&id) == 1);
    let answer = agent.delete(&format!("/v1/connections/{id}?close=fin")).ok();
    assert_eq!(answer["close"], "reset", "{answer}");
    assert_eq!(outsider.receive(far).unwrap_err(), "ECONNRESET");
}

#[test]
fn the_command_and_a_batch_close_by_fin() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let said = agent.cli_stdout(&["close", &line.sock.id(), "--fin", "--grace", "1s"]);
    assert!(said.contains("sent a FIN; reset at "), "{said}");
    assert_eq!(line.outsider.receive(line.far).unwrap(), "");
    let mut other = lab.outbound("127.0.0.1");
    let close = json!({ "close": "fin", "grace_seconds": 1 });
    let change = json!({ "id": other.sock.id(), "action": "close", "close": close });
    let listener = json!({ "id": "1", "action": "keepalive_disable", "close": close });
    let body = json!({ "changes": [change, listener] });
    let answer = agent.api("POST", "/v1/policies:batch", Some(&body)).ok();
    assert_eq!(answer["results"][0]["close"], "fin", "{answer}");
    assert_eq!(answer["results"][1]["problem"]["code"], "invalid_request", "{answer}");
    assert_eq!(other.outsider.receive(other.far).unwrap(), "");
    for line in [&mut line, &mut other] {
        assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    }
}

/// How many pairs of closes are asked for at once: with answers exchanged, one pair in a hundred came out right.
const PAIRS: usize = 40;

#[test]
fn closes_that_are_asked_for_at_once_get_each_its_own_answer() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    for _ in 0..PAIRS {
        let sock = program.connect(listener.local);
        outsider.accept(listener);
        let conid = agent.conid(&sock.id());
        // Seconds until the reset that an answer names.
        let grace = |grace_s: u64| {
            let answer = agent.delete(&format!("/v1/connections/{conid}?close=fin&grace_seconds={grace_s}")).ok();
            let reset_at: Timestamp = answer["reset_at"].as_str().unwrap_or_default().parse().expect("a reset follows");
            (reset_at - Timestamp::now()).total(Unit::Second).unwrap()
        };
        let together = Barrier::new(2);
        let (short, long) = thread::scope(|scope| {
            let ask = |grace_s| {
                together.wait();
                grace(grace_s)
            };
            let long = scope.spawn(move || ask(1000));
            (ask(100), long.join().unwrap())
        });
        // Dates are rounded to the nearest millisecond.
        assert!(short > 0.0 && short <= 100.001, "100 s: {short}");
        assert!(long > 100.001 && long <= 1000.001, "1000 s: {long}");
        // A FIN and a reset: only the reset ends it at once, whichever comes first.
        let reset = thread::scope(|scope| {
            let fin = scope.spawn(|| {
                together.wait();
                agent.delete(&format!("/v1/connections/{conid}?close=fin&grace_seconds=100"))
            });
            together.wait();
            let reset = agent.delete(&format!("/v1/connections/{conid}"));
            let fin = fin.join().unwrap();
            if fin.status == 200 {
                assert_eq!(fin.json()["close"], "fin", "{}", fin.text());
            } else {
                fin.problem(404, "no_such_connection");
            }
            reset
        });
        assert_eq!(reset.ok(), json!({ "conid": conid }));
        assert_eq!(program.receive(sock).unwrap_err(), "ECONNABORTED");
    }
}

#[test]
fn a_grace_needs_a_fin() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let path = format!("/v1/connections/{}", line.sock.id());
    for query in ["?grace_seconds=5", "?close=reset&grace_seconds=5", "?close=abort", "?close=fin&grace_seconds=0"] {
        agent.delete(&format!("{path}{query}")).problem(400, "invalid_request");
    }
    assert!(line.program.is_quiet(line.sock));
    assert_eq!(agent.cli(&["close", &line.sock.id(), "--grace", "5s"]).status.code(), Some(2));
}

#[test]
fn an_orphan_is_closed_where_the_kernel_frees_it() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    // Its program has closed it, and the other side does not hear of it.
    lab.ns.filter(&[&format!("tcp sport {} drop", line.far.local.port())]);
    line.program.close(line.sock);
    let state = || agent.state(&conid.to_string())["tcp_state"].clone();
    wait_to_see("it waits for the other side", &json!("fin-wait-1"), state);
    let answer = agent.delete(&format!("/v1/connections/{conid}"));
    if require::kernel_is_at_least(6, 11) {
        assert_eq!(answer.ok(), json!({ "conid": conid }));
        wait_until("it is gone", SOON, || agent.code(&conid.to_string()) == -1);
    } else {
        answer.problem(409, "not_closable");
        assert_eq!(agent.code(&conid.to_string()), -2);
    }
}
