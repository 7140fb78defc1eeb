//! The agent about itself: its health, its status, its numbers, its API, its end.

use serde_json::json;

use super::{Recording, Stage, mask};
use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::peer::Peer;
use crate::harness::wait::{SOON, wait_until};

#[test]
fn answers_about_the_agent() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut recording = Recording::new("agent");
    recording.get(&agent, "/healthz");
    recording.get(&agent, "/readyz");
    recording.get(&agent, "/v1/status");
    recording.note("With rules, a guard, connections that it holds back, and a namespace that cannot be entered.");
    let guard = json!({ "closes_per_second": 100, "percent_per_minute": 20, "protect_ports": [22, "5060-5061"] });
    let aged = json!({ "name": "aged", "match": { "remote_port": 7001 }, "lifetime": { "max_age": "1s" } });
    agent.put("/v1/rules", &json!({ "guard": guard, "rule": [aged] })).ok();
    let mut stage = Stage::new(&lab);
    for _ in 0..2 {
        stage.outbound("127.0.0.1:7001");
    }
    let elsewhere = NetNs::new();
    let (mut program, mut outsider) = (Peer::start(&elsewhere, Some(&lab.cgroup), 0), Peer::start(&elsewhere, None, 0));
    program.connect(outsider.listen("127.0.0.1").local);
    agent.delete("/v1/connections/3/keepalive").problem(502, "namespace_unreachable");
    wait_until("one has ended and one waits", SOON, || {
        let status = agent.get("/v1/status").ok();
        status["tracked"] == 2 && status["guard"]["waiting"] == 1
    });
    recording.get(&agent, "/v1/status");
    recording.note("The one that waits.");
    recording.get(&agent, "/v1/connections?remote_port=7001");
    recording.note("Without the numbers, in the order of letters: they come in no order.");
    let metrics = agent.get("/metrics");
    let sample = mask::pattern(r#"(?m)^(tcpops_[a-z0-9_]+(?:\{[a-z]+="[a-z_]+"\})?).*$"#);
    let text = sample.replace_all(&metrics.text(), "$1").into_owned();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    recording.head("GET /metrics", "", &metrics);
    recording.printed(&lines.join("\n"));
    recording.note("The end.");
    recording.ask(&agent, "POST", "/v1/detach", &[], "");
    recording.check();
}

#[test]
fn the_description_of_the_api() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut recording = Recording::new("openapi");
    recording.get(&agent, "/v1/openapi.json");
    recording.check();
}

#[test]
fn answers_of_an_agent_with_a_file() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules("[[rule]]\nname = \"all\"\nlifetime = { idle = \"1h\" }\n").start();
    agent.stop(rustix::process::Signal::TERM);
    agent.start_again();
    let mut recording = Recording::new("file");
    recording.get(&agent, "/v1/status");
    recording.get(&agent, "/v1/rules");
    recording.check();
}
