//! One change to all connections that match.

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::command::text;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::MPTCP;
use crate::harness::wait::{SOON, wait_until};
use crate::permissions::open_to_all;

fn batch(agent: &Agent, body: &Value) -> Value {
    agent.api("POST", "/v1/policies:batch", Some(body)).ok()
}

fn conids(answer: &Value) -> Vec<u64> {
    let results = answer["results"].as_array().unwrap_or_else(|| panic!("no results in {answer}"));
    results.iter().map(|result| result["conid"].as_u64().expect("each has one")).collect()
}

#[test]
fn exactly_those_that_match_are_changed_by_one_request() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (v4, v6) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    let mut inbound = lab.inbound("127.0.0.1");
    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let enable = |matching: Value| json!({ "match": matching, "action": "keepalive_enable", "keepalive": keepalive });
    let answer = batch(&agent, &enable(json!({ "direction": "outbound", "remote": "127.0.0.0/8" })));
    let conid = agent.conid(&v4.sock.id());
    let wanted = Options::on(60, 5, 5, 0);
    let result = json!({
        "id": conid.to_string(), "conid": conid, "local": v4.sock.local.to_string(),
        "remote": v4.sock.remote().to_string(), "options": wanted.json(),
    });
    assert_eq!(answer, json!({ "done": 1, "failed": 0, "results": [result] }));
    assert_eq!(v4.program.options(v4.sock), wanted);
    for line in [&v6, &inbound] {
        assert_eq!(line.program.options(line.sock), Options::DEFAULT);
    }

    // A listener can have keepalive, but no lifetime.
    let all = json!({ "netns": v4.sock.netns_cookie });
    let answer = batch(&agent, &enable(all.clone()));
    assert_eq!((conids(&answer).len(), &answer["done"], &answer["failed"]), (4, &json!(4), &json!(0)), "{answer}");
    let lifetime = json!({ "match": all, "action": "lifetime_set", "lifetime": { "max_age_seconds": 600 } });
    let answer = batch(&agent, &lifetime);
    assert_eq!((conids(&answer).len(), &answer["listeners"]), (3, &json!(1)), "{answer}");
    assert!(conids(&answer).is_sorted());
    for result in answer["results"].as_array().unwrap() {
        assert_eq!(result["lifetime"], json!({ "max_age_seconds": 600.0 }));
    }
    assert_eq!(agent.list("?family=ipv6").len(), 1);
    assert_eq!(agent.list("?direction=listen").len(), 1);
    assert_eq!(agent.list("?origin=adopted").len(), 0);

    let answer = batch(&agent, &json!({ "match": { "direction": "inbound" }, "action": "close" }));
    assert_eq!(conids(&answer), [conid_of(&answer, &inbound.sock.local.to_string())]);
    assert_eq!(inbound.program.receive(inbound.sock).unwrap_err(), "ECONNABORTED");
    wait_until("its entry is gone", SOON, || agent.list("?direction=inbound").is_empty());
    assert_eq!(agent.list("").len(), 3);
}

fn conid_of(answer: &Value, local: &str) -> u64 {
    let results = answer["results"].as_array().expect("results are a list");
    let found = results.iter().find(|result| result["local"] == local);
    found.and_then(|result| result["conid"].as_u64()).unwrap_or_else(|| panic!("no {local} in {answer}"))
}

#[test]
fn many_share_one_request() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let socks: Vec<_> = (0..500)
        .map(|_| {
            let sock = program.connect(listener.local);
            outsider.accept(listener);
            sock
        })
        .collect();
    let printed = agent.cli_stdout(&[
        "keepalive",
        "enable",
        "--match",
        &format!("remote_port={}", listener.local.port()),
        "--match",
        "state=established",
        "--idle",
        "60s",
        "--count",
        "5",
        "--interval",
        "5s",
    ]);
    assert_eq!(printed.lines().count(), 501, "a header, and a line for each");
    for sock in &socks {
        assert_eq!(program.options(*sock), Options::on(60, 5, 5, 0));
    }
    let answer = batch(&agent, &json!({ "match": { "remote_port": listener.local.port() }, "action": "close" }));
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(500), &json!(0)));
    wait_until("all are gone", SOON, || agent.list("").is_empty());
}

#[test]
fn close_shows_what_it_would_close_until_it_is_told_to() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let _listener = line.program.listen("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    let shown = agent.cli(&["close", "--match", "local=127.0.0.1"]);
    assert_eq!(shown.status.code(), Some(2));
    let (out, err) = (text(&shown.stdout), text(&shown.stderr));
    assert_eq!(out.lines().count(), 2, "a header and the connection: {out}");
    assert!(out.contains(&line.sock.remote().to_string()), "{out}");
    assert!(err.contains("nothing was closed") && err.contains("1 connection;") && err.contains("--yes"), "{err}");
    assert!(line.program.is_quiet(line.sock));

    let closed = agent.cli(&["close", "--match", "local=127.0.0.1", "--yes", "-o", "ndjson"]);
    assert_eq!(closed.status.code(), Some(0));
    let result: Value = serde_json::from_slice(&closed.stdout).expect("one line of JSON");
    assert_eq!((&result["conid"], &result["problem"]), (&json!(conid), &Value::Null));
    let err = text(&closed.stderr);
    assert_eq!(err, "1 connection: 1 done, 0 failed; 1 listener left out\n");
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    wait_until("only the listener is left", SOON, || agent.list("").len() == 1);

    let nothing = agent.cli(&["close", "--match", "remote=192.0.2.1", "--yes"]);
    assert_eq!(
        (nothing.status.code(), text(&nothing.stderr)),
        (Some(0), "0 connections: 0 done, 0 failed\n".to_owned())
    );
}

#[test]
fn what_was_done_in_part_says_so() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    // A subflow of an MPTCP connection, which would live on.
    let listener = line.outsider.listen_with(&json!({ "host": "127.0.0.1", "protocol": MPTCP }));
    line.program.connect_with(listener.local, &json!({ "protocol": MPTCP })).expect("it connects");
    let answer = agent.cli(&["close", "--match", "remote=127.0.0.1", "--yes", "-o", "json"]);
    assert_eq!(answer.status.code(), Some(5));
    let answer: Value = serde_json::from_slice(&answer.stdout).expect("it is JSON");
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(1), &json!(1)), "{answer}");
    let failed = answer["results"].as_array().unwrap().iter().find(|result| result["problem"].is_object());
    assert_eq!(failed.expect("one failed")["problem"]["code"], "not_closable");
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
}

#[test]
fn other_users_select_only_their_own() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut roots = lab.outbound("127.0.0.1");
    let (mut theirs, listener) = (lab.program_of(65_534), roots.outsider.listen("127.0.0.1"));
    let sock = theirs.connect(listener.local);
    open_to_all(&agent);
    let body = json!({ "match": { "state": "established" }, "action": "close" });
    let answer = theirs.http(agent.socket(), "POST", "/v1/policies:batch", Some(&body)).ok();
    assert_eq!((&answer["done"], &answer["failed"], conids(&answer).len()), (&json!(1), &json!(0), 1), "{answer}");
    assert_eq!(theirs.receive(sock).unwrap_err(), "ECONNABORTED");
    assert!(roots.program.is_quiet(roots.sock));
}

#[test]
fn a_request_is_of_one_form_and_says_what_it_wants() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let some = json!({ "state": "established" });
    for (bad, detail) in [
        (json!({ "match": some }), "expected an action"),
        (json!({ "action": "close" }), "expected either changes alone, or match with its action"),
        (json!({ "match": some, "action": "close", "changes": [] }), "either changes alone"),
        (json!({ "changes": [], "keepalive": null, "action": "close" }), "either changes alone"),
        (json!({ "match": {}, "action": "close" }), "at least one filter"),
        (json!({ "match": { "limit": 1, "uid": 0 }, "action": "close" }), "expected no limit and no cursor"),
        (json!({ "match": { "colour": "red" }, "action": "close" }), "unknown field `colour`"),
        (json!({ "match": { "local": "10.0.0.1/8" }, "action": "close" }), "match.local: 10.0.0.1/8 has bits set"),
        (json!({ "match": { "rule": "other" }, "action": "close" }), "expected a rule in force"),
        (json!({ "match": some, "action": "keepalive_enable" }), "keepalive_enable: expected keepalive"),
        (json!({ "match": some, "action": "lifetime_set", "lifetime": {} }), "at least one of"),
        (json!({ "match": some, "action": "close", "lifetime": { "idle_seconds": 1 } }), "expected neither"),
    ] {
        let problem = agent.api("POST", "/v1/policies:batch", Some(&bad)).problem(400, "invalid_request");
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains(detail), "{bad}: {said}");
    }
    let both = agent.cli(&["close", "17", "--match", "uid=0"]);
    assert_eq!((both.status.code(), both.stdout.is_empty()), (Some(2), true));
    assert!(line.program.is_quiet(line.sock));
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
}
