//! Many changes in one request.

use serde_json::json;

use super::{JSON, Recording, Stage};
use crate::harness::lab::Lab;

const PATH: &str = "/v1/policies:batch";

#[test]
fn answers_to_batches() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    for _ in 0..5 {
        stage.outbound("127.0.0.1:7001");
    }
    stage.listen("127.0.0.1:5060");
    let mut recording = Recording::new("batches");
    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5, "user_timeout_ms": 85_000 });
    let fin = json!({ "close": "fin", "grace_seconds": 3600 });
    recording.note("Each change has its result.");
    recording.post(
        &agent,
        PATH,
        &json!({ "changes": [
        { "id": "1", "action": "keepalive_enable", "keepalive": keepalive },
        { "id": "1", "action": "lifetime_set", "lifetime": { "max_age_seconds": 600, "idle_seconds": 60.5 } },
        { "id": "2", "action": "keepalive_disable" },
        { "id": "2", "action": "lifetime_clear" },
        { "id": "3", "action": "close" },
        { "id": "4", "action": "close", "close": fin },
        { "id": "6", "action": "close" },
        { "id": "6", "action": "lifetime_set", "lifetime": { "idle_seconds": 60 } },
        { "id": "999", "action": "keepalive_disable" },
        { "id": "nonsense", "action": "close" },
        { "id": "remote:127.0.0.1:7001", "action": "keepalive_disable" },
        { "id": "1", "action": "keepalive_enable" },
        { "id": "1", "action": "lifetime_set", "keepalive": keepalive },
        { "id": "1", "action": "close", "keepalive": keepalive },
        { "id": "1", "action": "keepalive_disable", "close": fin },
        { "id": "1", "action": "close", "close": { "grace_seconds": 1 } },
    ] }),
    );
    recording.post(&agent, PATH, &json!({ "changes": [] }));
    recording.note("All that match.");
    let all = json!({ "remote_port": 7001, "state": "established" });
    recording.post(&agent, PATH, &json!({ "match": all, "action": "keepalive_enable", "keepalive": keepalive }));
    recording.post(&agent, PATH, &json!({ "match": all, "action": "keepalive_disable" }));
    let lifetime = json!({ "idle_seconds": 600, "jitter_percent": 10 });
    recording.post(&agent, PATH, &json!({ "match": { "uid": 0 }, "action": "lifetime_set", "lifetime": lifetime }));
    recording.post(&agent, PATH, &json!({ "match": all, "action": "lifetime_clear" }));
    recording.post(&agent, PATH, &json!({ "match": { "direction": "listen" }, "action": "keepalive_disable" }));
    recording.post(&agent, PATH, &json!({ "match": { "uid": 65534 }, "action": "close" }));
    recording.post(&agent, PATH, &json!({ "match": all, "action": "close", "close": fin }));
    recording.post(&agent, PATH, &json!({ "match": { "remote": "127.0.0.1" }, "action": "close" }));
    recording.note("What cannot be.");
    let close = json!({ "id": "1", "action": "close" });
    for body in [
        json!({}),
        json!([close]),
        json!({ "changes": [close], "more": 1 }),
        json!({ "changes": [close], "action": "close" }),
        json!({ "changes": [{ "id": "1", "action": "explode" }] }),
        json!({ "changes": [{ "id": 1, "action": "close" }] }),
        json!({ "changes": [{ "id": "1" }] }),
        json!({ "match": all }),
        json!({ "match": {}, "action": "close" }),
        json!({ "match": { "limit": 1 }, "action": "close" }),
        json!({ "match": { "rule": "none" }, "action": "close" }),
        json!({ "match": { "state": "open" }, "action": "close" }),
        json!({ "match": { "remote": "10.0.0.1/8" }, "action": "close" }),
        json!({ "match": all, "action": "lifetime_set" }),
    ] {
        recording.post(&agent, PATH, &body);
    }
    recording.ask(&agent, "POST", PATH, &[JSON], "{");
    let many = json!({ "changes": vec![close; 10_001] });
    let answer = agent.api("POST", PATH, Some(&many));
    recording.answered(&format!("POST {PATH}"), "> (10001 changes)\n", &answer);
    recording.check();
}
