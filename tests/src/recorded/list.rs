//! The list: whole, in pages, filtered, and as lines.

use serde_json::json;

use super::connections::rules;
use super::{Recording, Stage};
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};

#[test]
fn answers_with_a_list() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &rules()).ok();
    let mut recording = Recording::new("list");
    recording.get(&agent, "/v1/connections");
    let mut stage = Stage::new(&lab);
    let listener = stage.listen("127.0.0.1:5060");
    stage.inbound(listener, listener.local);
    stage.outbound("[::1]:7004");
    stage.outbound("127.0.0.1:7007");
    stage.outbound("127.0.0.1:7001");
    agent.lifetime("5", &json!({ "idle_seconds": 3600 })).ok();
    wait_until("the override and the deadline are watched", SOON, || agent.get("/v1/status").ok()["lifetimes"] == 2);
    recording.get(&agent, "/v1/connections");
    recording.note("Pages.");
    recording.get(&agent, "/v1/connections?limit=2");
    recording.get(&agent, "/v1/connections?limit=2&cursor=2");
    recording.get(&agent, "/v1/connections?cursor=4");
    recording.note("Filters.");
    let cgroup = format!("cgroup={}", lab.cgroup.name());
    for query in [
        "state=listen",
        "direction=inbound",
        "family=ipv6",
        "origin=adopted",
        "local=127.0.0.1&local_port=5060",
        "remote=::1&remote_port=7000-7005",
        &cgroup,
        "uid=65534",
        "netns=1",
        "rule=kept",
    ] {
        recording.get(&agent, &format!("/v1/connections?limit=2&{query}"));
    }
    recording.note("One a line; they come in no order.");
    let lines = ("accept", "application/x-ndjson");
    recording.ask(&agent, "GET", "/v1/connections?rule=kept", &[lines], "");
    recording.ask(&agent, "GET", "/v1/connections?uid=65534", &[lines], "");
    recording.ask(&agent, "GET", "/v1/connections?limit=2", &[lines], "");
    recording.check();
}
