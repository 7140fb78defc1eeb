//! Changes by the caller's own descriptor: they reach the socket without a walk, and nobody else has that way.

use serde_json::json;

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::lab::{Lab, Line};
use crate::harness::options::Options;
use crate::harness::require;

/// Level and number of the option that the agent sets.
const APPLY_OVERRIDE: [i32; 2] = [0x7463_706f, 1];

/// Sets keepalive, in the program's name.
fn keepalive(agent: &Agent, line: &mut Line, id: &str, idle_s: u64) {
    let path = format!("/v1/connections/{id}/keepalive");
    let body = json!({ "idle_seconds": idle_s, "count": 5, "interval_seconds": 5 });
    let answer = line.program.http(agent.socket(), "PUT", &path, Some(&body)).ok();
    assert_eq!(answer["idle_seconds"], idle_s, "{answer}");
    assert_eq!(line.program.options(line.sock), Options::on(idle_s, 5, 5, 0));
}

fn by_descriptor(agent: &Agent) -> u64 {
    agent.get("/v1/status").ok()["agent_counters"]["changed_by_descriptor"].as_u64().expect("it is a number")
}

#[test]
fn a_change_by_the_callers_descriptor_takes_no_walk() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let adopted = lab.inbound("::1");
    let agent = lab.agent().start();
    let mut expected = 0;
    for mut line in [adopted, lab.outbound("127.0.0.1"), lab.outbound("::1"), lab.inbound("127.0.0.1")] {
        let fd = format!("fd:{}", line.sock.fd);
        keepalive(&agent, &mut line, &fd, 61);
        keepalive(&agent, &mut line, &fd, 62);
        expected += 2;
        assert_eq!(by_descriptor(&agent), expected);
        let conid = agent.conid(&line.sock.id());
        keepalive(&agent, &mut line, &conid.to_string(), 63);
        assert_eq!(by_descriptor(&agent), expected);
        assert_eq!(agent.connection(&conid.to_string())["policy"]["keepalive_source"], "override");
        let lifetime = json!({ "max_age_seconds": 1000 });
        let path = format!("/v1/connections/{fd}/lifetime");
        line.program.http(agent.socket(), "PUT", &path, Some(&lifetime)).ok();
        expected += 1;
        assert_eq!(by_descriptor(&agent), expected);
        assert_eq!(agent.connection(&conid.to_string())["expires"]["limit"], "max_age");
    }
}

#[test]
fn a_batch_mixes_descriptors_and_other_names() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let (second, _far) = Lab::another(&mut line);
    let change = |id: String| {
        let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
        json!({ "id": id, "action": "keepalive_enable", "keepalive": keepalive })
    };
    let changes = [format!("fd:{}", line.sock.fd), second.id(), "fd:999".to_owned()].map(change);
    let body = json!({ "changes": changes });
    let answer = line.program.http(agent.socket(), "POST", "/v1/policies:batch", Some(&body)).ok();
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(2), &json!(1)), "{answer}");
    for sock in [line.sock, second] {
        assert_eq!(line.program.options(sock), Options::on(60, 5, 5, 0));
    }
    assert_eq!(by_descriptor(&agent), 1);
}

#[test]
fn nobody_but_the_agent_has_the_option() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    agent.keepalive(&line.sock.id(), 60, 5, 5);
    for value in [0, 1] {
        assert_eq!(line.program.try_set(line.sock, APPLY_OVERRIDE, value).unwrap_err(), "ENOPROTOOPT");
    }
    for text in ["", "tcpops", "\u{1}"] {
        assert_eq!(line.program.set_long(line.sock, APPLY_OVERRIDE, text, 8).unwrap_err(), "ENOPROTOOPT");
    }
}

#[test]
fn a_walk_does_it_where_the_program_is_not_attached() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let fd = format!("fd:{}", line.sock.fd);
    keepalive(&agent, &mut line, &fd, 60);
    assert_eq!(by_descriptor(&agent), 1);
    bpftool::detach_link(&agent.pins().join("v2/setsockopt"));
    keepalive(&agent, &mut line, &fd, 61);
    assert_eq!(by_descriptor(&agent), 1);
}
