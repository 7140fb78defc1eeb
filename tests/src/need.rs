//! What nobody needs is not done, and nothing is missed for that.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::bpftool;
use crate::harness::lab::Lab;
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
