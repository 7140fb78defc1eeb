//! Requests that are refused, by the agent or by the libraries that it is made of.

use serde_json::{Value, json};

use super::{JSON, Recording, Stage};
use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::peer::Peer;
use crate::harness::wait::{SOON, wait_until};
use crate::permissions::open_to_all;

const NOBODY: u32 = 65_534;

#[test]
fn answers_to_requests_that_cannot_be() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    Stage::new(&lab).outbound("127.0.0.1:7001");
    let mut recording = Recording::new("requests");
    for path in ["/", "/v1", "/v2/connections", "/v1/connections/", "/v1/connections/1/colour"] {
        recording.get(&agent, path);
    }
    for (method, path) in [
        ("POST", "/v1/connections"),
        ("PUT", "/v1/connections/1"),
        ("POST", "/v1/connections/1/state"),
        ("GET", "/v1/connections/1/probe"),
        ("GET", "/v1/connections/1/keepalive"),
        ("GET", "/v1/connections/1/lifetime"),
        ("GET", "/v1/policies:batch"),
        ("DELETE", "/v1/rules"),
        ("POST", "/v1/events"),
        ("BREW", "/v1/status"),
        ("PUT", "/metrics"),
        ("GET", "/v1/detach"),
        ("DELETE", "/v1/openapi.json"),
        ("POST", "/healthz"),
        ("POST", "/readyz"),
    ] {
        recording.ask(&agent, method, path, &[], "");
    }
    names(&mut recording, &agent);
    queries(&mut recording, &agent);
    bodies(&mut recording, &agent);
    recording.note("What is not HTTP, as the agent's own parser sees it.");
    let answer = agent.raw("GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n");
    recording.answered("GET /v1/status", "> (a header without a colon)\n", &answer);
    recording.check();
}

fn names(recording: &mut Recording, agent: &Agent) {
    recording.note("Names of connections.");
    for id in [
        "abc",
        "-1",
        "1.5",
        "cookie:",
        "cookie:x",
        "fd:x",
        "remote:host:80",
        "remote:1.2.3.4",
        "remote:1.2.3.4:99999",
        "local:1.2.3.4:1+local:1.2.3.4:2",
        "local:1.2.3.4:1+",
        "18446744073709551616",
        "%00",
        "%FF",
        "999",
        "remote:192.0.2.7:5060",
    ] {
        recording.get(agent, &format!("/v1/connections/{id}"));
    }
    for id in ["999", "remote:192.0.2.7:5060"] {
        recording.get(agent, &format!("/v1/connections/{id}/state"));
        recording.delete(agent, &format!("/v1/connections/{id}/lifetime"));
        recording.delete(agent, &format!("/v1/connections/{id}/keepalive"));
    }
}

fn queries(recording: &mut Recording, agent: &Agent) {
    recording.note("Queries.");
    for query in [
        "limit=0",
        "limit=10001",
        "limit=x",
        "cursor=-1",
        "state=open",
        "direction=up",
        "family=unix",
        "origin=heaven",
        "local=10.0.0.0/33",
        "remote=10.0.0.1/8",
        "local_port=9-1",
        "remote_port=65536",
        "cgroup=relative",
        "cgroup=/no/such/cgroup",
        "uid=root",
        "netns=x",
        "rule=other",
        "colour=red",
        "uid=1&uid=2",
    ] {
        recording.get(agent, &format!("/v1/connections?{query}"));
    }
    for query in ["grace_seconds=5", "close=abort", "close=fin&grace_seconds=0", "close=fin&grace_seconds=x", "more=1"]
    {
        recording.delete(agent, &format!("/v1/connections/1?{query}"));
    }
    recording.ask(agent, "PUT", "/v1/rules?dry_run=maybe", &[JSON], r#"{"rule":[]}"#);
    recording.ask(agent, "PUT", "/v1/rules?more=1", &[JSON], r#"{"rule":[]}"#);
}

fn bodies(recording: &mut Recording, agent: &Agent) {
    recording.note("Bodies.");
    let (keepalive, lifetime) = ("/v1/connections/1/keepalive", "/v1/connections/1/lifetime");
    let probe = "/v1/connections/1/probe";
    for (method, path, body) in [
        ("PUT", keepalive, ""),
        ("PUT", keepalive, "{"),
        ("PUT", keepalive, "[]"),
        ("PUT", keepalive, "null"),
        ("PUT", keepalive, "{}"),
        ("PUT", keepalive, r#"{"idle_seconds":0,"count":5,"interval_seconds":5}"#),
        ("PUT", keepalive, r#"{"idle_seconds":-1,"count":5,"interval_seconds":5}"#),
        ("PUT", keepalive, r#"{"idle_seconds":1.5,"count":5,"interval_seconds":5}"#),
        ("PUT", keepalive, r#"{"idle_seconds":"60","count":5,"interval_seconds":5}"#),
        ("PUT", keepalive, r#"{"idle_seconds":60,"count":128,"interval_seconds":5}"#),
        ("PUT", keepalive, r#"{"idle_seconds":60,"count":5,"interval_seconds":32768}"#),
        ("PUT", keepalive, r#"{"idle_seconds":60,"count":5,"interval_seconds":5,"user_timeout_ms":2147483648}"#),
        ("PUT", keepalive, r#"{"idle_seconds":60,"count":5,"interval_seconds":5,"more":1}"#),
        ("PUT", keepalive, r#"{"idle_seconds":60,"idle_seconds":60,"count":5,"interval_seconds":5}"#),
        ("PUT", keepalive, r#"{"idle_seconds":60,"count":5,"interval_seconds":5}{}"#),
        ("PUT", lifetime, "{}"),
        ("PUT", lifetime, "[]"),
        ("PUT", lifetime, r#"{"idle_seconds":0}"#),
        ("PUT", lifetime, r#"{"idle_seconds":0.5}"#),
        ("PUT", lifetime, r#"{"max_age_seconds":315360001}"#),
        ("PUT", lifetime, r#"{"max_age_seconds":-1}"#),
        ("PUT", lifetime, r#"{"max_age_seconds":"1"}"#),
        ("PUT", lifetime, r#"{"idle_seconds":60,"jitter_percent":101}"#),
        ("PUT", lifetime, r#"{"jitter_percent":10}"#),
        ("PUT", lifetime, r#"{"jitter_percent":10,"deadline":"2032-12-24T18:00:00Z"}"#),
        ("PUT", lifetime, r#"{"deadline":"2001-01-01T00:00:00Z"}"#),
        ("PUT", lifetime, r#"{"deadline":"9999-01-01T00:00:00Z"}"#),
        ("PUT", lifetime, r#"{"deadline":"tomorrow"}"#),
        ("PUT", lifetime, r#"{"deadline":5}"#),
        ("PUT", lifetime, r#"{"idle_seconds":null}"#),
        ("POST", probe, ""),
        ("POST", probe, r#"{"timeout_seconds":0}"#),
        ("POST", probe, r#"{"timeout_seconds":21}"#),
        ("POST", probe, r#"{"timeout_seconds":"5s"}"#),
        ("POST", probe, r#"{"more":1}"#),
    ] {
        recording.ask(agent, method, path, &[JSON], body);
    }
    recording.note("Bodies that are not declared as JSON.");
    for (method, path) in [("PUT", keepalive), ("PUT", "/v1/rules"), ("POST", "/v1/policies:batch"), ("POST", probe)] {
        recording.ask(agent, method, path, &[], "{}");
        recording.ask(agent, method, path, &[("content-type", "text/plain")], "{}");
    }
    recording.note("Bodies that are too large.");
    for (method, path) in [("PUT", keepalive), ("PUT", "/v1/rules"), ("POST", "/v1/policies:batch")] {
        let answer = agent.api(method, path, Some(&json!(" ".repeat(5 << 20))));
        recording.answered(&format!("{method} {path}"), "> (5 MiB)\n", &answer);
    }
}

#[test]
fn answers_to_what_may_not_be() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let mut stage = Stage::new(&lab);
    let mut recording = Recording::new("forbidden");
    let (sock, _far) = stage.outbound("127.0.0.1:7001");
    let mut nobody = lab.program_of(NOBODY);
    stage.outbound_of(&mut nobody, "127.0.0.1:7001");
    recording.note("More than one.");
    recording.get(&agent, "/v1/connections/remote:127.0.0.1:7001");
    recording.get(&agent, "/v1/connections/remote:127.0.0.1:7001/state");
    recording.delete(&agent, "/v1/connections/remote:127.0.0.1:7001");
    let mut ask = |method: &str, path: &str, body: Option<&Value>| {
        recording.ask_as(&mut nobody, &agent, method, path, body);
    };
    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    ask("GET", "/v1/connections/1", None);
    ask("GET", &format!("/v1/connections/{}/state", sock.id()), None);
    ask("PUT", "/v1/connections/1/keepalive", Some(&keepalive));
    ask("PUT", "/v1/connections/1/lifetime", Some(&json!({ "idle_seconds": 60 })));
    ask("POST", "/v1/connections/1/probe", Some(&json!({})));
    ask("DELETE", "/v1/connections/1", None);
    ask("PUT", "/v1/rules", Some(&json!({ "rule": [] })));
    ask("POST", "/v1/detach", None);
    ask("POST", "/v1/policies:batch", Some(&json!({ "changes": [{ "id": "1", "action": "close" }] })));
    ask("GET", "/v1/connections", None);
    ask("GET", "/v1/connections/remote:127.0.0.1:7001/state", None);
    recording.note("As many streams as there may be.");
    nobody.hold_streams(agent.socket(), 8);
    recording.ask_as(&mut nobody, &agent, "GET", "/v1/events?follow=false", None);
    nobody.drop_streams();

    recording.note("What a walk does not reach.");
    let elsewhere = NetNs::new();
    let (mut program, mut outsider) = (Peer::start(&elsewhere, Some(&lab.cgroup), 0), Peer::start(&elsewhere, None, 0));
    program.connect(outsider.listen_with(&json!({ "host": "127.0.0.1", "port": 7001 })).local);
    recording.put(&agent, "/v1/connections/3/keepalive", &keepalive);
    recording.post(&agent, "/v1/connections/3/probe", &json!({}));
    recording.delete(&agent, "/v1/connections/3");
    wait_until("it is told", SOON, || agent.history("&type=refused").len() == 1);
    recording.get(&agent, "/v1/events?follow=false&type=refused");
    recording.check();
}
