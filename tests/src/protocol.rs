//! The protocol as such: its description, and several requests on one connection.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::harness::http::with_headers;
use crate::harness::lab::Lab;

#[test]
fn the_protocol_describes_itself() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let document = agent.get("/v1/openapi.json").ok();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")), "{}", document["openapi"]);
    for (path, methods) in [
        ("/v1/connections", &["get"][..]),
        ("/v1/connections/{id}", &["get", "delete"]),
        ("/v1/connections/{id}/state", &["get"]),
        ("/v1/connections/{id}/keepalive", &["put", "delete"]),
        ("/v1/connections/{id}/lifetime", &["put", "delete"]),
        ("/v1/policies:batch", &["post"]),
        ("/v1/rules", &["get", "put"]),
        ("/v1/status", &["get"]),
    ] {
        for method in methods {
            assert!(document["paths"][path].get(method).is_some(), "{method} {path} is not described");
        }
    }
}

#[test]
fn many_requests_on_one_connection_are_answered_in_order() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let good = "GET /v1/connections/999/state HTTP/1.1\r\nhost: x\r\n\r\n";
    let bad = "GET /v1/connections/999 HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all([good, bad, good, last].concat().as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "404", "200", "200"], "{answer}");
}

#[test]
fn the_list_comes_line_by_line_where_that_is_asked_for() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let lines = [lab.outbound("127.0.0.1"), lab.outbound("::1")];
    let ndjson = [("accept", "application/x-ndjson")];
    let answer = agent.raw(&with_headers("GET", "/v1/connections", &ndjson, ""));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let mut cookies: Vec<_> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a document in each line")["cookie"].as_u64())
        .collect();
    cookies.sort_unstable();
    let mut expected = lines.map(|line| Some(line.sock.cookie));
    expected.sort_unstable();
    assert_eq!(cookies, expected);
    let answer = agent.raw(&with_headers("GET", "/v1/connections?limit=1", &ndjson, ""));
    answer.problem(400, "invalid_request");
}
