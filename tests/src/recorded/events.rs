//! Events, as lines and as server-sent events.

use rustix::process::Signal;
use serde_json::json;

use super::{Recording, Stage};
use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::peer::KEEPALIVE;
use crate::harness::stream::Stream;
use crate::harness::wait::{SOON, wait_until};

const LOST: &str = r#""type":"lost""#;
const RESYNCHRONISED: &str = r#""type":"resynchronised""#;

/// Waits for the end of a connection, and for all that is told before it.
fn wait_for_end(agent: &Agent, conid: u64) {
    let path = format!("/v1/events?follow=false&type=closed&conid={conid}");
    wait_until("its end", SOON, || !agent.get(&path).text().is_empty());
}

#[test]
fn answers_with_events() {
    let lab = Lab::new();
    let mut stage = Stage::new(&lab);
    stage.outbound("127.0.0.1:7001");
    let agent = lab.agent().arguments(&["--record", "all"]).start();
    let keepalive = json!({ "idle": "60s", "count": 5, "interval": "10s" });
    let rules = json!({ "rule": [
        { "name": "force", "match": { "remote_port": 7002 }, "keepalive": keepalive, "lifetime": { "idle": "10m" } },
        { "name": "default", "match": { "remote_port": 7003 }, "mode": "default", "keepalive": keepalive },
        { "name": "all", "match": { "remote_port": [7001, 7004] }, "lifetime": { "max_age": "1h", "jitter": "10%" } },
    ] });
    agent.put("/v1/rules", &rules).ok();
    let mut stream = agent.events("?heartbeat_seconds=3600");
    let heartbeat = stream.line(SOON).expect("it comes first");
    let listener = stage.listen("127.0.0.1:5060");
    let (_sock, far) = stage.inbound(listener, listener.local);
    stage.outsider.send(far, "hello");
    stage.outsider.close(far);
    wait_until("it is closed by the peer", SOON, || agent.code("3") == -2);
    agent.delete("/v1/connections/3").ok();
    wait_for_end(&agent, 3);
    stage.program.close(listener);
    wait_for_end(&agent, 2);
    let (sock, far) = stage.outbound("127.0.0.1:7002");
    // An override is told of by the agent, which may not have read the events of the kernel yet.
    wait_until("its rule is told of", SOON, || !agent.history("&conid=4&type=applied").is_empty());
    agent.keepalive("4", 61, 6, 8);
    agent.lifetime("4", &json!({ "max_age_seconds": 3600 })).ok();
    agent.delete("/v1/connections/4/lifetime").ok();
    agent.delete("/v1/connections/4/keepalive").ok();
    stage.program.close(sock);
    stage.outsider.close(far);
    wait_for_end(&agent, 4);
    let own = json!([[KEEPALIVE[0], KEEPALIVE[1], 1]]);
    stage.outbound_with("127.0.0.1:7003", &own);
    agent.delete("/v1/connections/5").ok();
    wait_for_end(&agent, 5);
    stage.outbound("[::1]:7004");
    agent.delete("/v1/connections/6").ok();
    wait_for_end(&agent, 6);
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    wait_until("the rules are gone", SOON, || agent.history("&conid=1&type=applied").len() == 2);

    let mut recording = Recording::new("events");
    recording.note("All that is held.");
    recording.get(&agent, "/v1/events?follow=false");
    recording.note("The same as it happened, after a first heartbeat.");
    recording.printed(&heartbeat);
    let mut line = || stream.line(SOON).expect("an event comes");
    while !{
        let line = line();
        recording.printed(&line);
        line.contains(r#""conid":4"#)
    } {}
    recording.note("Filtered.");
    for query in ["type=opened,adopted&uid=0", "conid=4&type=applied", "direction=listen", "remote=::1", "type=refused"]
    {
        recording.get(&agent, &format!("/v1/events?follow=false&{query}"));
    }
    recording.note("For browsers.");
    let sse = ("accept", "text/event-stream");
    recording.ask(&agent, "GET", "/v1/events?follow=false&conid=3", &[sse], "");
    recording.ask(&agent, "GET", "/v1/events?follow=false&conid=3", &[sse, ("last-event-id", "1")], "");
    recording.ask(&agent, "GET", "/v1/events?follow=false", &[sse, ("last-event-id", "x")], "");
    let mut stream = Stream::open(agent.socket(), "/v1/events?type=refused", &[sse]);
    for _ in 0..3 {
        let line = stream.line(SOON).expect("a heartbeat comes");
        recording.printed(&line);
    }
    recording.note("What cannot be.");
    for query in ["type=open", "since=-1", "heartbeat_seconds=0", "heartbeat_seconds=3601", "follow=yes", "more=1"] {
        recording.get(&agent, &format!("/v1/events?{query}"));
    }
    recording.check();
}

#[test]
fn answers_about_what_is_missing() {
    let lab = Lab::new();
    let mut recording = Recording::new("losses");
    let mut agent = lab.agent().arguments(&["--events-bytes", "4096", "--record", "all"]).start();
    let mut program = lab.program();
    recording.note("The first loss, and the first that is complete again.");
    let told = || agent.get("/v1/events?follow=false&type=refused").text();
    wait_until("events are lost", SOON, || {
        program.churn("127.0.0.1", 100);
        told().contains(LOST)
    });
    wait_until("all is read anew", SOON, || told().contains(RESYNCHRONISED));
    let told = told();
    for kind in [LOST, RESYNCHRONISED] {
        recording.printed(told.lines().find(|line| line.contains(kind)).expect("it is told"));
    }
    recording.note("Another agent.");
    agent.stop(Signal::TERM);
    agent.start_again();
    recording.get(&agent, "/v1/events?follow=false&since=1");
    recording.note("Somebody else has taken the program off, and a connection ended unseen.");
    drop((agent, program));
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    let (sock, _far) = stage.outbound("127.0.0.1:7001");
    bpftool::detach_link(&agent.pins().join("v2/sockops"));
    stage.program.reset(sock);
    recording.get(&agent, "/v1/connections/1/state");
    let read_anew = || agent.get("/v1/events?follow=false").text().contains(RESYNCHRONISED);
    wait_until("all is read anew", SOON, read_anew);
    recording.get(&agent, "/v1/events?follow=false");
    recording.check();
}
