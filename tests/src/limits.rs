//! The limits that only rules set, jitter, how late and how exact all of them are, and that none hits another connection.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::peer::{Peer, Sock};
use crate::harness::require;
use crate::harness::wait::{SOON, patient, wait_for, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const SECOND_NS: u64 = 1_000_000_000;

fn rule(lifetime: &Value) -> Value {
    json!({ "rule": [{ "name": "limited", "lifetime": lifetime }] })
}

/// The time since boot, as the agent and python have it.
fn boot_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap() * SECOND_NS + u64::try_from(time.tv_nsec).unwrap()
}

#[test]
fn who_accepts_waits_for_a_first_byte() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut greeted = lab.inbound("127.0.0.1");
    // Who connects may wait to be greeted.
    let mut outbound = lab.outbound("127.0.0.1");
    greeted.outsider.send(greeted.far, "x");
    let mut silent = lab.inbound("127.0.0.1");
    agent.put("/v1/rules", &rule(&json!({ "first_byte": "5s" }))).ok();
    // Its own bytes do not count.
    silent.program.send(silent.sock, "welcome");
    let shown = agent.connection(&silent.sock.id());
    assert_eq!((&shown["expires"]["limit"], &shown["expires"]["source"]), (&json!("first_byte"), &json!("rule")));
    assert_eq!(silent.program.receive(silent.sock).unwrap_err(), "ECONNABORTED");
    assert_eq!(silent.outsider.receive(silent.far).unwrap(), "welcome");
    assert_eq!(silent.outsider.receive(silent.far).unwrap_err(), "ECONNRESET");
    assert_eq!(greeted.program.receive(greeted.sock).unwrap(), "x");
    assert!(greeted.program.is_quiet(greeted.sock) && outbound.program.is_quiet(outbound.sock));
    assert_eq!(agent.connection(&greeted.sock.id()).get("expires"), None);
}

#[test]
fn a_connection_that_one_side_has_closed_is_closed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &rule(&json!({ "half_closed": "1s" }))).ok();
    let [mut by_peer, mut by_program, mut whole] = [(); 3].map(|()| lab.outbound("127.0.0.1"));
    // Longer than the limit, but not half closed.
    std::thread::sleep(SECOND + SECOND / 4);
    let before = Instant::now();
    by_peer.outsider.shutdown(by_peer.far);
    by_program.program.shutdown(by_program.sock);
    assert_eq!(by_peer.program.receive(by_peer.sock).unwrap(), "");
    // CLOSE_WAIT: the peer, in FIN_WAIT2, gets the reset.
    assert_eq!(by_peer.outsider.receive(by_peer.far).unwrap_err(), "ECONNRESET");
    assert!(before.elapsed() >= SECOND, "after {:?}", before.elapsed());
    assert_eq!(by_program.program.receive(by_program.sock).unwrap_err(), "ECONNABORTED");
    assert!(before.elapsed() < patient(4 * SECOND), "after {:?}", before.elapsed());
    assert!(whole.program.is_quiet(whole.sock) && whole.outsider.is_quiet(whole.far));
}

#[test]
fn a_handshake_is_given_up() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &rule(&json!({ "connect": "1s" }))).ok();
    let mut program = lab.program();
    lab.ns.filter(&["tcp dport 7001 drop"]);
    let before = Instant::now();
    let sock = program.begin_connect(([127, 0, 0, 1], 7001).into());
    assert_eq!(agent.connection(&sock.id())["expires"]["limit"], "connect");
    assert_eq!(program.connected(sock).unwrap_err(), "ECONNABORTED");
    let took = before.elapsed();
    assert!(took >= SECOND && took < patient(4 * SECOND), "{took:?}");
    // One that succeeds stays.
    let mut line = lab.outbound("127.0.0.1");
    std::thread::sleep(SECOND + SECOND / 2);
    assert!(line.program.is_quiet(line.sock));
}

#[test]
fn an_idle_connection_ends_within_a_fifth_of_a_second_of_its_time() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &rule(&json!({ "idle": "1s" }))).ok();
    let mut line = lab.outbound("127.0.0.1");
    let mut last = (0, 0);
    for _ in 0..8 {
        let before = boot_ns();
        line.program.send(line.sock, "x");
        assert_eq!(line.outsider.receive(line.far).unwrap(), "x");
        last = (before, boot_ns());
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    let now = boot_ns();
    assert!(now - last.0 >= SECOND_NS, "{} ns after its last byte", now - last.0);
    let late = Duration::from_nanos(now - last.1).saturating_sub(SECOND);
    assert!(late <= patient(SECOND / 5), "{} ns after its last byte", now - last.1);
}

#[test]
fn jitter_spreads_what_began_together() {
    const COUNT: usize = 60;
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &rule(&json!({ "max_age": "1s", "jitter": "100%" }))).ok();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let crowd = program.crowd(listener.local, COUNT, 0.0);
    let ends = program.ends(&crowd, 10.0);
    let ages: Vec<u64> = ends
        .iter()
        .zip(&crowd.established)
        .map(|(end, (before, _))| end.as_ref().expect("it ended").0 - before)
        .collect();
    assert!(ages.iter().all(|age| *age >= SECOND_NS), "{ages:?}");
    // Three of four fifths of the spread have some each; no fifth of it has more than half of them.
    let fifths = [0, 1, 2, 3, 4].map(|fifth| {
        let from = SECOND_NS + fifth * SECOND_NS / 5;
        ages.iter().filter(|age| (from..from + SECOND_NS / 5).contains(*age)).count()
    });
    assert!(fifths.iter().all(|count| *count < COUNT / 2), "{fifths:?}");
    assert!(fifths.iter().filter(|count| **count > 0).count() >= 4, "{fifths:?}");
}

/// How late each of a crowd ended that was to end at `due`, milliseconds, the least late first.
fn lateness(agent: &Agent, ends: &[Option<(u64, String)>], due: impl Fn(usize) -> (u64, u64)) -> Vec<f64> {
    let mut late: Vec<f64> = ends
        .iter()
        .enumerate()
        .map(|(index, end)| {
            let (at, error) = end.as_ref().unwrap_or_else(|| panic!("{index} did not end"));
            assert_eq!(error, "ECONNABORTED");
            let (earliest, latest) = due(index);
            assert!(*at >= earliest, "{index} ended {} ns early", earliest - at);
            at.saturating_sub(latest) as f64 / 1e6
        })
        .collect();
    late.sort_unstable_by(f64::total_cmp);
    let of = |percent: usize| late[late.len() * percent / 100];
    let closes = agent.get("/v1/status").ok()["agent_counters"].clone();
    eprintln!("late: p50 {} ms, p99 {} ms, last {} ms; {closes}", of(50), of(99), late[late.len() - 1]);
    late
}

#[test]
fn two_thousand_that_end_within_a_second_end_on_time() {
    const COUNT: usize = 2_000;
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--max-connections", "1048576"]).start();
    agent.put("/v1/rules", &rule(&json!({ "max_age": "4s" }))).ok();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "backlog": 4096 }));
    let crowd = program.crowd(listener.local, COUNT, 1.0);
    let ends = program.ends(&crowd, 20.0);
    let due = |index: usize| {
        let (before, after) = crowd.established[index];
        (before + 4 * SECOND_NS, after + 4 * SECOND_NS)
    };
    let late = lateness(&agent, &ends, due);
    // On a machine that is busy with other tests; alone they take a tenth of that.
    let bound = |duration| patient(duration).as_secs_f64() * 1e3;
    assert!(late[COUNT / 2] < bound(SECOND / 4), "{} ms late", late[COUNT / 2]);
    assert!(late[COUNT * 99 / 100] < bound(SECOND), "{} ms late", late[COUNT * 99 / 100]);
}

#[test]
fn two_thousand_that_end_at_one_moment_end_within_a_second() {
    const COUNT: usize = 2_000;
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--max-connections", "1048576"]).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "backlog": 4096 }));
    let crowd = program.crowd(listener.local, COUNT, 0.0);
    let deadline = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let due_ns = boot_ns() + 3 * SECOND_NS;
    let body = json!({
        "match": { "remote_port": listener.local.port() },
        "action": "lifetime_set",
        "lifetime": { "deadline": deadline.to_string() },
    });
    let answer = agent.api("POST", "/v1/policies:batch", Some(&body)).ok();
    assert_eq!(answer["done"], COUNT);
    let ends = program.ends(&crowd, 20.0);
    let late = lateness(&agent, &ends, |_| (due_ns - SECOND_NS / 100, due_ns));
    assert!(late[COUNT - 1] < patient(SECOND).as_secs_f64() * 1e3, "{} ms late", late[COUNT - 1]);
}

/// Has the program connect a descriptor again: from then on it is known for that.
fn connect_again(program: &mut Peer, listener: Sock) {
    let sock = program.connect(listener.local);
    let again = program.reconnect(sock, listener.local);
    program.reset(again);
}

/// Gives all connections to the listener one deadline, so far ahead; when that is, by `CLOCK_BOOTTIME`, and the answer.
fn all_end_at_once(agent: &Agent, listener: Sock, ahead: Duration) -> (u64, Value) {
    let deadline = jiff::Timestamp::now() + jiff::SignedDuration::try_from(ahead).unwrap();
    let due_ns = boot_ns() + u64::try_from(ahead.as_nanos()).unwrap();
    let body = json!({
        "match": { "remote_port": listener.local.port(), "state": "established" },
        "action": "lifetime_set",
        "lifetime": { "deadline": deadline.to_string() },
    });
    (due_ns, agent.api("POST", "/v1/policies:batch", Some(&body)).ok())
}

/// A descriptor that connects again keeps its cookie, and one that has bound a port its endpoints too: only the conid is
/// another. None is hit.
#[test]
fn a_hundred_thousand_that_connect_again_around_their_deadlines_are_not_hit() {
    const COUNT: usize = 4_000;
    // Fewer where the processor is emulated.
    let sweeps = if patient(SECOND) == SECOND { 25 } else { 2 };
    let under_lock = require::kernel_is_at_least(6, 5);
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--max-connections", "16384"]).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "backlog": 4096, "serve": true }));
    connect_again(&mut program, listener);
    let crowd = program.crowd_with_ports(listener.local, COUNT, COUNT / 2);
    let (mut swept, mut ahead, mut hit, mut alive) = (Duration::ZERO, 2 * SECOND, 0, COUNT);
    for sweep in 0..sweeps {
        let begin = Instant::now();
        let (due_ns, answer) = all_end_at_once(&agent, listener, ahead);
        assert_eq!(answer["done"].as_u64().unwrap() + answer["ended"].as_u64().unwrap_or(0), alive as u64, "{sweep}");
        // Twice the time that it took now, for the next.
        ahead = begin.elapsed() * 2 + SECOND;
        // The agent goes through them in the same order: sometimes it is ahead, sometimes behind, sometimes they meet.
        let lead_ns = SECOND_NS / 1000 * (sweep % 10) * 5;
        let dodged = program.dodge(&crowd, listener.local, due_ns - lead_ns, 0.1);
        assert!(dodged.same >= COUNT / 2, "in sweep {sweep}: {dodged:?}");
        // By requests, and before Linux 6.5 all are closed so, there is a moment between the last look and the lock.
        let most = if under_lock { 0 } else { COUNT / 100 };
        assert!(dodged.hit.len() <= most, "in sweep {sweep}: {dodged:?}");
        hit += dodged.hit.len();
        alive = COUNT - dodged.hit.len();
        swept += dodged.took;
    }
    let closes = wait_for("each close is counted", SOON, || {
        let closes = agent.get("/v1/status").ok()["agent_counters"].clone();
        let count = |name: &str| closes[name].as_u64().expect("it is a number");
        let by_request: u64 = ["under_10us", "under_100us", "under_1ms", "over_1ms"]
            .map(|size| count(&format!("close_window_{size}")))
            .into_iter()
            .sum();
        assert!(!under_lock || count("close_under_lock") > 0, "{closes}");
        (count("close_under_lock") + by_request == count("expired_reset")).then_some(closes)
    });
    let rounds = COUNT as u64 * sweeps;
    eprintln!("{rounds} rounds in {swept:?}, {hit} were hit: {closes}");
    // Some were closed before they connected again, and some had connected again before.
    let closed = closes["expired_reset"].as_u64().unwrap();
    assert!(closed >= rounds / 100 && closed < rounds, "{closed} of {rounds} were closed");
}

/// A descriptor that takes the port that it had, and connects again to the same place, has the same cookie and endpoints, whether
/// its port was bound before or not. Each does it for the first time, and none is hit: the program has done so before.
#[test]
fn who_takes_its_port_again_around_its_deadline_is_not_hit() {
    const COUNT: usize = 4_000;
    // Fewer where the processor is emulated; more by hand.
    let sweeps = std::env::var("TCPOPS_TEST_SWEEPS").ok().and_then(|text| text.parse().ok());
    let sweeps: u64 = sweeps.unwrap_or(if patient(SECOND) == SECOND { 5 } else { 1 });
    let under_lock = require::kernel_is_at_least(6, 5);
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--max-connections", "16384"]).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "backlog": 4096, "serve": true }));
    connect_again(&mut program, listener);
    let (mut hit, mut ahead) = (0, SECOND);
    for sweep in 0..sweeps {
        let crowd = program.crowd(listener.local, COUNT, 0.0);
        let begin = Instant::now();
        let (due_ns, answer) = all_end_at_once(&agent, listener, ahead);
        assert_eq!(answer["done"], COUNT, "in sweep {sweep}");
        ahead = begin.elapsed() * 2 + SECOND;
        let lead_ns = SECOND_NS / 1000 * (sweep % 10) * 5;
        let dodged = program.dodge_from_same_port(&crowd, listener.local, due_ns - lead_ns);
        assert_eq!(dodged.same, COUNT, "in sweep {sweep}: {dodged:?}");
        assert!(dodged.hit.is_empty() || !under_lock, "in sweep {sweep}: {dodged:?}");
        hit += dodged.hit.len();
        program.disperse(&crowd);
        wait_until("all have ended", SOON, || agent.list("?state=established&limit=1").is_empty());
    }
    let closes = agent.get("/v1/status").ok()["agent_counters"].clone();
    eprintln!("{} rounds, {hit} hit: {closes}", COUNT as u64 * sweeps);
    assert!(!under_lock || closes["close_under_lock"].as_u64().unwrap() > 0, "{closes}");
}

#[test]
fn deadlines_of_every_kind_outlive_the_agent() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let limits = json!({ "first_byte": "3s", "half_closed": "3s", "connect": "3s" });
    agent.put("/v1/rules", &rule(&limits)).ok();
    let (mut silent, mut half, mut program) = (lab.inbound("127.0.0.1"), lab.outbound("127.0.0.1"), lab.program());
    half.program.shutdown(half.sock);
    lab.ns.filter(&["tcp dport 7001 drop"]);
    let began = Instant::now();
    let opening = program.begin_connect(([127, 0, 0, 1], 7001).into());
    wait_until("all are watched", SOON, || agent.get("/v1/status").ok()["lifetimes"] == 3);
    agent.stop(rustix::process::Signal::KILL);
    agent.start_again();
    let serves = Instant::now();
    assert_eq!(silent.program.receive(silent.sock).unwrap_err(), "ECONNABORTED");
    assert_eq!(half.program.receive(half.sock).unwrap_err(), "ECONNABORTED");
    assert_eq!(program.connected(opening).unwrap_err(), "ECONNABORTED");
    // No later than two seconds after the agent serves again, or their time.
    let latest = serves.max(began + 3 * SECOND) + patient(2 * SECOND);
    assert!(began.elapsed() >= 3 * SECOND && Instant::now() < latest, "{:?}", began.elapsed());
}
