//! Many changes in one request.

use serde_json::{Value, json};

use crate::harness::lab::Lab;
use crate::harness::options::Options;

#[test]
fn each_change_has_its_result() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let (second, _far) = Lab::another(&mut line);
    let (third, _far) = Lab::another(&mut line);
    let listener = line.program.listen("127.0.0.1");
    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5, "user_timeout_ms": 85_000 });
    let changes = json!({ "changes": [
        { "id": line.sock.id(), "action": "keepalive_enable", "keepalive": keepalive },
        { "id": "999", "action": "keepalive_disable" },
        { "id": second.id(), "action": "lifetime_set", "lifetime": { "max_age_seconds": 600 } },
        { "id": listener.id(), "action": "close" },
        { "id": third.id(), "action": "close" },
        { "id": "nonsense", "action": "close" },
        { "id": second.id(), "action": "keepalive_enable" },
        { "id": line.sock.id(), "action": "lifetime_clear" },
    ] });
    let answer = agent.api("POST", "/v1/policies:batch", Some(&changes)).ok();
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(4), &json!(4)), "{answer}");
    let results = answer["results"].as_array().expect("results are a list");
    let codes: Vec<_> = results.iter().map(|result| result["problem"]["code"].as_str()).collect();
    let expected = [
        None,
        Some("no_such_connection"),
        None,
        Some("not_closable"),
        None,
        Some("invalid_request"),
        Some("invalid_request"),
        None,
    ];
    assert_eq!(codes, expected, "{answer}");
    for (result, change) in results.iter().zip(changes["changes"].as_array().unwrap()) {
        assert_eq!(result["id"], change["id"]);
    }
    let wanted = Options::on(60, 5, 5, 85_000);
    assert_eq!(results[0]["options"], wanted.json());
    assert_eq!(results[2]["lifetime"], json!({ "max_age_seconds": 600.0 }));
    assert_eq!(line.program.options(line.sock), wanted);
    assert_eq!(line.program.options(second), Options::DEFAULT);
    assert_eq!(line.program.receive(third).unwrap_err(), "ECONNABORTED");
    assert!(line.program.is_quiet(line.sock) && line.program.is_quiet(second));
    assert_eq!(agent.code(&listener.id()), 2);
}

#[test]
fn a_batch_reaches_many_connections() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let socks: Vec<_> = (0..60).map(|_| program.connect(listener.local)).collect();
    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let change = |id: String| json!({ "id": id, "action": "keepalive_enable", "keepalive": keepalive });
    let changes: Vec<_> = socks.iter().map(|sock| change(sock.id())).collect();
    let answer = agent.api("POST", "/v1/policies:batch", Some(&json!({ "changes": changes }))).ok();
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(60), &json!(0)));
    for sock in socks {
        assert_eq!(program.options(sock), Options::on(60, 5, 5, 0));
    }
}

#[test]
fn a_batch_that_cannot_be_understood_changes_nothing() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let close = json!({ "id": line.sock.id(), "action": "close" });
    for bad in [
        json!({}),
        json!([close]),
        json!({ "changes": [close], "more": 1 }),
        json!({ "changes": [close, { "id": "1", "action": "explode" }] }),
        json!({ "changes": [close, { "id": "1" }] }),
        json!({ "changes": [close, { "id": 1, "action": "close" }] }),
        json!({ "changes": [close, { "id": "1", "action": "close", "more": 1 }] }),
        json!({ "changes": vec![close.clone(); 10_001] }),
    ] {
        let problem = agent.api("POST", "/v1/policies:batch", Some(&bad)).problem(400, "invalid_request");
        assert_ne!(problem["detail"], Value::Null);
    }
    assert!(line.program.is_quiet(line.sock));
    let empty = agent.api("POST", "/v1/policies:batch", Some(&json!({ "changes": [] }))).ok();
    assert_eq!(empty, json!({ "done": 0, "failed": 0, "results": [] }));
}
