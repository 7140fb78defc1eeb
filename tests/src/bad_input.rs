//! Requests that cannot be: each gets an answer that says what was expected, nothing is half done, the agent goes on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::http::with_headers;
use crate::harness::lab::{Lab, Line};
use crate::harness::options::Options;
use crate::harness::wait::patient;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A connection that no request of the test may change.
struct Untouched<'lab> {
    agent: Agent<'lab>,
    line: Line,
}

impl<'lab> Untouched<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        Self { agent: lab.agent().start(), line: lab.outbound("127.0.0.1") }
    }

    fn path(&self, part: &str) -> String {
        format!("/v1/connections/{}{part}", self.line.sock.id())
    }

    fn check(mut self) {
        assert_eq!(self.line.program.options(self.line.sock), Options::DEFAULT);
        assert!(self.line.program.is_quiet(self.line.sock));
        let policy = &self.agent.connection(&self.line.sock.id())["policy"];
        assert_eq!(policy, &json!({}));
        assert_eq!(self.agent.get("/readyz").status, 200);
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    let seconds = "1 to 32767";
    let good = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5, "user_timeout_ms": 0 });
    for (field, values, expected) in [
        ("idle_seconds", vec![json!(0), json!(-1), json!(32_768), json!(u64::MAX), json!(1e300)], seconds),
        ("interval_seconds", vec![json!(0), json!(-1), json!(32_768), json!(1.5)], seconds),
        ("count", vec![json!(0), json!(-1), json!(128), json!(300), json!(5.5)], "1 to 127"),
        ("user_timeout_ms", vec![json!(-1), json!(2_147_483_648_u64), json!(0.5)], "0 to 2147483647"),
    ] {
        for value in values {
            let mut body = good.clone();
            body[field] = value.clone();
            let problem = subject.agent.put(&subject.path("/keepalive"), &body).problem(400, "invalid_request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(expected) && detail.contains(field), "{field} {value}: {detail}");
        }
    }
    for (field, values) in [
        (
            "idle_seconds",
            vec![json!(0), json!(-1), json!(-0.5), json!(0.0001), json!(315_360_001), json!(1e300), json!(u64::MAX)],
        ),
        ("max_age_seconds", vec![json!(0), json!(-5), json!(1e18)]),
    ] {
        for value in values {
            let body = json!({ field: value });
            let problem = subject.agent.put(&subject.path("/lifetime"), &body).problem(400, "invalid_request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("315360000") && detail.contains(field), "{field} {value}: {detail}");
        }
    }
    for jitter in [json!(-1), json!(101), json!(256), json!(1.5), json!("10%")] {
        let body = json!({ "idle_seconds": 60, "jitter_percent": jitter });
        let problem = subject.agent.put(&subject.path("/lifetime"), &body).problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("jitter_percent") && detail.contains("from 0 to 100"), "{jitter}: {detail}");
    }
    for alone in [json!({ "jitter_percent": 10 }), json!({ "jitter_percent": 10, "deadline": "2032-12-24T18:00:00Z" })]
    {
        let problem = subject.agent.put(&subject.path("/lifetime"), &alone).problem(400, "invalid_request");
        assert!(problem["detail"].as_str().unwrap().contains("expected"), "{alone}: {problem}");
    }
    for deadline in ["2001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "tomorrow", ""] {
        let body = json!({ "idle_seconds": 60, "deadline": deadline });
        subject.agent.put(&subject.path("/lifetime"), &body).problem(400, "invalid_request");
    }
    subject.check();
}

#[test]
fn bodies_of_another_form_are_refused() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    let good = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let mut bodies = vec![
        String::new(),
        "{".to_owned(),
        "nonsense".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        r#""idle_seconds""#.to_owned(),
        r#"{"idle_seconds":60,"count":5,"interval_seconds":5"#.to_owned(),
        r#"{"idle_seconds":60,"count":5,"interval_seconds":5}{}"#.to_owned(),
        r#"{"idle_seconds":60,"idle_seconds":61,"count":5,"interval_seconds":5}"#.to_owned(),
        r#"{"idle_seconds":NaN,"count":5,"interval_seconds":5}"#.to_owned(),
        "[".repeat(100_000),
        "\u{0}".to_owned(),
    ];
    for (field, value) in [
        ("idle_seconds", json!("60")),
        ("idle_seconds", json!(null)),
        ("idle_seconds", json!([60])),
        ("count", json!(true)),
        ("interval_seconds", json!({})),
        ("colour", json!("red")),
        ("Idle_seconds", json!(60)),
    ] {
        let mut body = good.clone();
        body[field] = value;
        bodies.push(body.to_string());
    }
    for body in &bodies {
        let answer = subject.agent.raw(&with_headers("PUT", &subject.path("/keepalive"), &JSON, body));
        answer.problem(400, "invalid_request");
    }
    for body in [
        "",
        "{",
        "{}",
        "[]",
        r#"{"idle":1}"#,
        r#"{"idle_seconds":"1"}"#,
        r#"{"idle_seconds":null}"#,
        r#"{"deadline":5}"#,
    ] {
        let answer = subject.agent.raw(&with_headers("PUT", &subject.path("/lifetime"), &JSON, body));
        answer.problem(400, "invalid_request");
    }
    // The unknown field is named, and so are those that there are.
    let answer = subject.agent.put(&subject.path("/keepalive"), &json!({ "colour": "red" }));
    let detail = answer.problem(400, "invalid_request")["detail"].clone();
    assert!(
        detail.as_str().unwrap().contains("colour") && detail.as_str().unwrap().contains("idle_seconds"),
        "{detail}"
    );
    subject.check();
}

#[test]
fn bodies_that_are_not_declared_as_json_are_refused() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    let body = r#"{"idle_seconds":60,"count":5,"interval_seconds":5}"#;
    for headers in
        [&[][..], &[("content-type", "text/plain")][..], &[("content-type", "application/x-www-form-urlencoded")][..]]
    {
        let answer = subject.agent.raw(&with_headers("PUT", &subject.path("/keepalive"), headers, body));
        answer.problem(415, "unsupported_media_type");
    }
    subject.check();
}

#[test]
fn bodies_that_are_too_large_are_refused() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    let huge = format!(r#"{{"idle_seconds":60,"count":5,"interval_seconds":5{}}}"#, " ".repeat(8 << 20));
    for path in [subject.path("/keepalive"), "/v1/rules".to_owned(), "/v1/policies:batch".to_owned()] {
        let method = if path.ends_with("batch") { "POST" } else { "PUT" };
        subject.agent.raw(&with_headers(method, &path, &JSON, &huge)).problem(413, "too_large");
    }
    // A length that is announced and not sent: it is not waited for.
    let announced = format!(
        "PUT {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: 1000000000000\r\n\r\n{}",
        subject.path("/keepalive"),
        " ".repeat(5 << 20)
    );
    subject.agent.raw(&announced).problem(413, "too_large");
    subject.check();
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    for path in [
        "/",
        "/v1",
        "/v2/connections",
        "/v1/connections/1/colour",
        "/v1/connection",
        "/v1/connections/",
        "/v1/connections/1/state/2",
    ] {
        subject.agent.get(path).problem(404, "not_found");
    }
    for (method, path) in [
        ("POST", "/v1/connections"),
        ("DELETE", "/v1/connections"),
        ("PUT", "/v1/connections/1"),
        ("POST", "/v1/connections/1/state"),
        ("DELETE", "/v1/rules"),
        ("GET", "/v1/policies:batch"),
        ("GET", "/v1/detach"),
        ("PATCH", "/v1/rules"),
        ("BREW", "/v1/status"),
    ] {
        let answer = subject.agent.api(method, path, None);
        answer.problem(405, "method_not_allowed");
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
    subject.check();
}

#[test]
fn what_is_not_http_is_refused() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    for text in [
        &b"\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[0xff; 64],
        b"GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let mut stream = UnixStream::connect(subject.agent.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let long = format!("/v1/connections/{}", "x".repeat(100_000));
    let request = with_headers("GET", &long, &[], "");
    let mut stream = UnixStream::connect(subject.agent.socket()).unwrap();
    let _may_break = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _may_break = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    subject.check();
}

#[test]
fn clients_that_stall_do_not_hold_up_others() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    let stalled = [
        "",
        "GET /v1/sta",
        "GET /v1/status HTTP/1.1\r\nhost: x\r\n",
        &format!(
            "PUT {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
            subject.path("/keepalive")
        ),
    ]
    .repeat(30)
    .into_iter()
    .map(|text| {
        let mut stream = UnixStream::connect(subject.agent.socket()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    })
    .collect::<Vec<_>>();
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(subject.agent.get("/v1/status").status, 200);
    }
    assert!(start.elapsed() < patient(Duration::from_secs(5)), "{:?}", start.elapsed());
    // Nor are they waited for without end.
    for mut stream in stalled {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the agent gives up");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    }
    subject.check();
}

#[test]
fn a_client_that_goes_away_does_no_harm() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    for _ in 0..50 {
        let mut stream = UnixStream::connect(subject.agent.socket()).unwrap();
        stream.write_all(with_headers("GET", "/v1/connections", &[], "").as_bytes()).unwrap();
    }
    subject.check();
}

#[test]
fn commands_that_cannot_be_are_refused_before_anything_is_done() {
    let lab = Lab::new();
    let subject = Untouched::new(&lab);
    let id = subject.line.sock.id();
    let enable = ["keepalive", "enable", &id, "--idle", "60s", "--count", "5", "--interval", "5s"];
    for arguments in [
        vec!["keepalive", "enable", &id],
        [&enable[..], &["--user-timeout", "sometimes"]].concat(),
        vec!["keepalive", "enable", &id, "--idle", "0s", "--count", "5", "--interval", "5s"],
        vec!["keepalive", "enable", &id, "--idle", "60s", "--count", "300", "--interval", "5s"],
        vec!["lifetime", "set", &id],
        vec!["lifetime", "set", &id, "--idle=-5s"],
        vec!["lifetime", "set", &id, "--max-age", "100000d"],
        vec!["lifetime", "set", &id, "--idle", "5m", "--jitter", "101%"],
        vec!["lifetime", "set", &id, "--deadline", "2032-12-24T18:00:00Z", "--jitter", "10%"],
        vec!["lifetime", "set", &id, "--jitter", "10%"],
        vec!["state"],
        vec!["conn", "explode"],
        vec!["state", "nonsense"],
        vec!["close", "--all"],
    ] {
        let output = subject.agent.cli(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    subject.check();
}

#[test]
fn every_problem_has_the_same_form() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for (method, path, status, code) in [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/status", 405, "method_not_allowed"),
        ("GET", "/v1/connections/x", 400, "invalid_request"),
        ("GET", "/v1/connections?limit=x", 400, "invalid_request"),
        ("GET", "/v1/connections/1", 404, "no_such_connection"),
        ("PUT", "/v1/connections/1/keepalive", 415, "unsupported_media_type"),
    ] {
        let problem = agent.api(method, path, None).problem(status, code);
        let fields: Vec<_> = problem.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["code", "detail", "status", "title", "type"], "{problem}");
        assert_ne!(problem["detail"], Value::Null);
    }
}
