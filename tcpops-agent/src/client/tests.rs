//! The client, run against an agent whose answers are written down beforehand.

use std::io;
use std::time::Duration;

use super::testing::{Agent, Reply};
use super::*;
use crate::api::connections::ListQuery;
use crate::api::keepalive::KeepaliveRequest;
use crate::api::problem::{CONTENT_TYPE as PROBLEM, Code};
use crate::api::rules::RuleDocument;
use crate::api::values::{KeepaliveCount, KeepaliveSeconds};

const STATE: &str = r#"{"conid":17,"code":1,"name":"ok","tcp_state":"established","alive":true}"#;

async fn client(agent: &Agent) -> Client {
    Client::connect(agent.socket()).await.unwrap()
}

#[tokio::test]
async fn requests_are_as_the_protocol_has_them() {
    let agent = Agent::start([Reply::json(STATE), Reply::json(r#"{"count":0,"generation":7,"applied":true}"#)]);
    let mut client = client(&agent).await;
    let state = client.state("remote:[2001:db8::7]:5060").await.unwrap();
    assert_eq!((state.conid, state.code, state.alive), (Some(17), 1, true));
    let result = client.apply_rules(&RuleDocument::default(), true, Some(6)).await.unwrap();
    assert_eq!(result.generation, 7);

    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        agent.requests().await,
        [
            format!(
                "GET /v1/connections/remote:%5B2001:db8::7%5D:5060/state HTTP/1.1\n\
                 host: localhost\nuser-agent: tcpops/{version}\naccept: application/json\n"
            ),
            format!(
                "PUT /v1/rules?dry_run=true HTTP/1.1\n\
                 host: localhost\nuser-agent: tcpops/{version}\naccept: application/json\n\
                 if-match: \"6\"\ncontent-type: application/json\ncontent-length: 11\n{{\"rule\":[]}}"
            ),
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_a_problem_whatever_the_status() {
    let body = r#"{"type":"about:blank","title":"no such connection","status":404,
        "detail":"expected a conid in use, found 99","code":"no_such_connection"}"#;
    let agent = Agent::start([Reply::new(404, PROBLEM, body)]);
    let idle = KeepaliveSeconds(60);
    let request = KeepaliveRequest {
        idle_seconds: idle,
        count: KeepaliveCount(5),
        interval_seconds: idle,
        user_timeout_ms: None,
    };
    match client(&agent).await.set_keepalive("99", Some(&request)).await.unwrap_err() {
        ClientError::Problem(problem) => {
            assert_eq!((problem.code, problem.status), (Code::NoSuchConnection, 404));
            assert_eq!(ClientError::Problem(problem).to_string(), "expected a conid in use, found 99");
        }
        other => panic!("{other:?}"),
    }
    let requests = agent.requests().await;
    assert!(requests[0].ends_with("\n{\"idle_seconds\":60,\"count\":5,\"interval_seconds\":60}"), "{requests:?}");
}

#[tokio::test]
async fn answers_of_another_kind_are_told_apart() {
    for (reply, message) in [
        (Reply::new(200, "text/html", "hello"), "expected application/json, found 200 OK with text/html"),
        (
            Reply::new(502, "text/plain", "no"),
            "expected application/problem+json, found 502 Bad Gateway with text/plain",
        ),
        (
            Reply::new(404, PROBLEM, "{\"code\":\"new\"}"),
            "expected a problem that this version knows, found 404 Not Found",
        ),
        (Reply::new(200, "application/json; charset=utf-8", "{}"), "expected an answer of this version's form"),
        (Reply::Broken("SSH-2.0-x\r\n".to_owned()), "expected HTTP/1.1"),
    ] {
        let agent = Agent::start([reply]);
        let error = client(&agent).await.state("17").await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_interrupted() {
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    for text in ["", "HTTP/1.1 200", half] {
        let agent = Agent::start([Reply::Broken(text.to_owned())]);
        let error = client(&agent).await.state("17").await.unwrap_err();
        assert!(matches!(error, ClientError::Interrupted(_)), "{text:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_silent_agent_is_not_waited_for_without_end() {
    let agent = Agent::start([Reply::Stalled]);
    let mut client = client(&agent).await;
    client.set_timeout(Duration::from_millis(20));
    let error = client.state("17").await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");

    let agent = Agent::start([Reply::Whole(Reply::lines(&["{}\n"], ""))]);
    let mut client = Client::connect(agent.socket()).await.unwrap();
    client.set_timeout(Duration::from_millis(20));
    let mut lines = client.all_connections(&ListQuery::default()).await.unwrap();
    assert_eq!(lines.next().await.unwrap(), Some(b"{}".as_slice()));
    // The agent's end is kept open by `agent` until the end of this test.
    let error = lines.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. } | ClientError::Interrupted(_)), "{error:?}");
    drop(agent);
}

#[tokio::test]
async fn nobody_at_the_socket() {
    let missing = std::env::temp_dir().join("tcpops-no-such-dir/t.sock");
    match Client::connect(&missing).await.unwrap_err() {
        ClientError::Unreachable { path, source } => {
            assert_eq!((path, source.kind()), (missing, io::ErrorKind::NotFound));
        }
        other => panic!("{other:?}"),
    }
    let file = std::env::temp_dir().join(format!("tcpops-dead-{}.sock", std::process::id()));
    drop(std::os::unix::net::UnixListener::bind(&file).unwrap());
    let error = Client::connect(&file).await.unwrap_err();
    std::fs::remove_file(&file).unwrap();
    assert!(
        matches!(&error, ClientError::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    );
    assert!(error.to_string().ends_with("is the agent running? start it with `tcpops agent`"), "{error}");
}

async fn lines_of(reply: Reply) -> (Vec<String>, Option<ClientError>) {
    let agent = Agent::start([reply]);
    let mut lines = client(&agent).await.all_connections(&ListQuery::default()).await.unwrap();
    let mut texts = Vec::new();
    loop {
        match lines.next().await {
            Ok(Some(line)) => texts.push(String::from_utf8(line.to_vec()).unwrap()),
            Ok(None) => {
                assert!(lines.next().await.unwrap().is_none(), "the end stays the end");
                return (texts, None);
            }
            Err(error) => return (texts, Some(error)),
        }
    }
}

#[tokio::test]
async fn lines_are_put_together_from_chunks() {
    let chunks = ["{\"a\"", ":1}\n\n\r\n{\"b\":", "2}\n{\"c\":3}\n", "{\"d\":4}"];
    let (lines, error) = lines_of(Reply::Whole(Reply::lines(&chunks, "0\r\n\r\n"))).await;
    assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}", "{\"d\":4}"]);
    assert!(error.is_none(), "{error:?}");
    let (lines, error) = lines_of(Reply::Whole(Reply::lines(&[], "0\r\n\r\n"))).await;
    assert!(lines.is_empty() && error.is_none(), "{lines:?} {error:?}");
}

#[tokio::test]
async fn a_list_that_breaks_off_is_not_taken_for_whole() {
    let (lines, error) = lines_of(Reply::Broken(Reply::lines(&["{\"a\":1}\n{\"b\""], ""))).await;
    assert_eq!(lines, ["{\"a\":1}"]);
    assert!(matches!(error, Some(ClientError::Interrupted(_))), "{error:?}");
}

#[tokio::test]
async fn a_line_without_an_end_does_not_fill_the_memory() {
    let chunk = "x".repeat(1 << 19);
    let (lines, error) = lines_of(Reply::Whole(Reply::lines(&[&chunk, &chunk, &chunk], ""))).await;
    assert!(lines.is_empty());
    assert!(error.unwrap().to_string().starts_with("expected lines of at most 1 MiB"));
}
