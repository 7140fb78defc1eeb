//! What nobody needs is not done, and nothing is missed for that.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::KEEPALIVE;
use crate::harness::wait::{SOON, patient, wait_until};

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("every event has a type")).collect()
}

#[test]
fn openings_and_transitions_are_recorded_only_while_somebody_reads() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut first = lab.outbound("127.0.0.1");
    first.program.reset(first.sock);
    let closed = agent.closed(first.sock);
    assert_eq!(types(&agent.history("")), ["closed"]);
    // Its end says all that the transitions would have said.
    let states = closed["summary"]["states"].as_object().expect("it has states");
    assert_eq!(states.keys().collect::<Vec<_>>(), ["established", "syn-sent"]);

    // A reader of ends alone has nothing else told.
    let mut of_ends = agent.events("?type=closed&heartbeat_seconds=3600");
    drop(of_ends.line(SOON).expect("it has begun"));
    let mut second = lab.outbound("127.0.0.1");
    second.program.reset(second.sock);
    assert_eq!(of_ends.event()["cookie"], second.sock.cookie);
    assert_eq!(types(&agent.history("")), ["closed", "closed"]);

    let mut of_all = agent.events("?heartbeat_seconds=3600");
    drop(of_all.line(SOON).expect("it has begun"));
    let mut third = lab.outbound("127.0.0.1");
    third.program.reset(third.sock);
    let told = of_all.until(|event| event["type"] == "closed");
    assert_eq!(types(&told), ["opened", "transition", "closed"]);
    // One who asks for what was before is told that it is not all there.
    let history = agent.history("&since=0");
    assert_eq!(types(&history), ["closed", "closed", "lost", "opened", "transition", "closed"]);
    assert_eq!(history[2]["reason"], "unread");
}

#[test]
fn what_happens_after_a_stream_has_begun_is_told_without_a_hole() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for _ in 0..20 {
        let mut stream = agent.events("?type=opened&heartbeat_seconds=3600");
        drop(stream.line(SOON).expect("it has begun"));
        let line = lab.outbound("127.0.0.1");
        assert_eq!(stream.event()["cookie"], line.sock.cookie);
    }
}

#[test]
fn a_long_limit_is_kept_although_nothing_is_told_of_it() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &json!({ "rule": [{ "name": "long", "lifetime": { "max_age": "61s" } }] })).ok();
    let began = Instant::now();
    let mut lines: Vec<_> = (0..3).map(|_| lab.outbound("127.0.0.1")).collect();
    let opened = began.elapsed();
    assert_eq!(agent.get("/v1/status").ok()["lifetimes"], 0, "nothing was told of them");
    for line in &mut lines {
        wait_until("its time is over", patient(Duration::from_secs(70)), || {
            line.program.receive(line.sock).is_err_and(|error| error == "ECONNABORTED")
        });
        let age = began.elapsed();
        assert!(age.as_secs() >= 61, "early: {age:?}");
        assert!(age < opened + patient(Duration::from_secs(63)), "late: {age:?}");
        assert_eq!(agent.closed(line.sock)["cause"]["lifetime"], "max_age");
    }
}

/// There are 256 times four places for cookies, and their sockets' cookies come as they come.
#[test]
fn connections_are_found_by_their_cookie_and_conid_however_full_the_maps_are() {
    const COUNT: usize = 1000;
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--max-connections", "1024"]).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "backlog": 4096 }));
    let crowd = program.crowd(listener.local, COUNT, 0.0);
    let listed = agent.list("");
    assert_eq!(listed.len(), COUNT);
    for one in listed.iter().step_by(7) {
        let (conid, cookie) = (one["conid"].as_u64().unwrap(), one["cookie"].as_u64().unwrap());
        assert_eq!(agent.connection(&format!("cookie:{cookie}"))["conid"], conid);
        assert_eq!(agent.connection(&conid.to_string())["cookie"], cookie);
    }
    // Some had to be passed over while the maps were full, and all places are free again.
    drop((program, crowd));
    // An orphan may wait in FIN_WAIT2 for a peer that does not close.
    drop(outsider);
    wait_until("all have ended", SOON, || agent.get("/v1/status").ok()["tracked"] == 0);
    assert!(bpftool::conids(agent.pins()).is_empty());
    assert!(bpftool::cookies_of_conids(agent.pins()).is_empty());
    assert_eq!(agent.counter("remove_failed"), 0);
    assert_eq!(agent.counter("opened"), agent.counter("closed"));
}

/// The names of the programs at setsockopt(2) of the lab's cgroup.
fn at_setsockopt(lab: &Lab) -> Vec<String> {
    let attached = bpftool::attached(lab.cgroup.path());
    let at_hook = attached.iter().filter(|program| program["attach_type"] == "cgroup_setsockopt");
    at_hook.map(|program| program["name"].as_str().expect("it has a name").to_owned()).collect()
}

#[test]
fn setsockopt_is_looked_at_only_while_a_rule_wants_options() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let pin = agent.pins().join("v2/setsockopt");
    let mut line = lab.outbound("127.0.0.1");
    assert!(at_setsockopt(&lab).is_empty());
    agent.put("/v1/rules", &json!({ "rule": [{ "name": "age", "lifetime": { "max_age": "1h" } }] })).ok();
    assert!(at_setsockopt(&lab).is_empty() && !pin.exists());

    let keepalive = json!({ "idle": "60s", "count": 5, "interval": "7s" });
    let rules = json!({ "rule": [{ "name": "alive", "keepalive": keepalive }] });
    agent.put("/v1/rules", &rules).ok();
    assert_eq!(at_setsockopt(&lab), ["tcpops_setsockopt"]);
    line.program.set(line.sock, KEEPALIVE, 0);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 7, 0), "the rule is upheld");

    // It outlives the agent, and the next one takes it over.
    agent.stop(Signal::KILL);
    assert_eq!(at_setsockopt(&lab), ["tcpops_setsockopt"]);
    line.program.set(line.sock, KEEPALIVE, 0);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 7, 0));
    agent.start_again();
    line.program.set(line.sock, KEEPALIVE, 0);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 7, 0));

    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    wait_until("it is detached", patient(Duration::from_secs(20)), || at_setsockopt(&lab).is_empty());
    assert!(!pin.exists());
    assert_eq!(line.program.options(line.sock), Options::DEFAULT, "the program has what it asked for last");

    // Once more, and gone with the rest.
    agent.put("/v1/rules", &rules).ok();
    assert_eq!(at_setsockopt(&lab), ["tcpops_setsockopt"]);
    agent.cli_stdout(&["detach"]);
    agent.forget();
    assert!(bpftool::attached(lab.cgroup.path()).is_empty());
}

#[test]
fn setsockopt_is_looked_at_only_while_an_override_is_there() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let path = format!("/v1/connections/{}/lifetime", line.sock.id());
    agent.put(&path, &json!({ "max_age_seconds": 1000 })).ok();
    assert!(at_setsockopt(&lab).is_empty(), "a lifetime is no option");
    agent.keepalive(&line.sock.id(), 60, 5, 5);
    assert_eq!(at_setsockopt(&lab), ["tcpops_setsockopt"]);
    line.program.set(line.sock, KEEPALIVE, 0);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0), "the override is upheld");
    // Longer than it lingers after the last override.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        assert_eq!(at_setsockopt(&lab), ["tcpops_setsockopt"]);
        std::thread::sleep(Duration::from_millis(500));
    }
    line.program.reset(line.sock);
    wait_until("it is detached", patient(Duration::from_secs(20)), || at_setsockopt(&lab).is_empty());
    assert!(bpftool::overrides(agent.pins()).is_empty());
}
