//! Clients beyond their limits: they are told so, fill no log, and take nothing that closes on time need.

use serde_json::json;

use crate::harness::agent::Agent;
use crate::harness::http::Response;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};
use crate::permissions::open_to_all;

const NOBODY: u32 = 65534;
/// The clients that a user other than root may have at a time.
const PER_UID: u32 = 32;

fn is_told(answer: &Response) {
    let problem = answer.problem(503, "overloaded");
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("expected one to end")), "{problem}");
}

fn turned_away(agent: &Agent) -> u64 {
    agent.own_counter("clients_refused")
}

#[test]
fn a_client_beyond_the_limit_is_told_so() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (mut holder, mut nobody) = (lab.program_of(NOBODY), lab.program_of(NOBODY));
    holder.hold(agent.socket(), PER_UID);
    for _ in 0..20 {
        is_told(&nobody.http(agent.socket(), "GET", "/v1/status", None));
    }
    // Also one that still has much to send.
    let changes: Vec<_> = (0..10_000).map(|id| json!({ "id": id.to_string(), "action": "close" })).collect();
    let large = json!({ "changes": changes });
    is_told(&nobody.http(agent.socket(), "POST", "/v1/policies:batch", Some(&large)));
    assert_eq!(turned_away(&agent), 21);
    assert_eq!(agent.get("/v1/status").status, 200);
    drop(holder);
    let mut answers = std::iter::repeat_with(|| nobody.http(agent.socket(), "GET", "/v1/status", None).status);
    assert!(answers.by_ref().take(1000).any(|status| status == 200), "places are free again");
}

#[test]
fn who_is_turned_away_does_not_fill_the_log() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (mut holder, mut nobody) = (lab.program_of(NOBODY), lab.program_of(NOBODY));
    holder.hold(agent.socket(), PER_UID);
    let count = nobody.flood(agent.socket(), 2);
    assert!(count > 100, "{count}");
    let lines = agent.log().lines().filter(|line| line.contains("clients") && line.contains("65534")).count();
    assert!((1..=2).contains(&lines), "{lines} lines");
    // Some of them had gone before they were accepted.
    assert!(turned_away(&agent) > 100);
}

/// Limits on open files with which the agent starts.
const FEW: [u32; 2] = [64, 80];

#[test]
fn clients_leave_the_descriptors_that_closes_need() {
    for limit in FEW {
        let lab = Lab::new();
        let agent = lab.agent().after(&format!("ulimit -n {limit}")).start();
        open_to_all(&agent);
        let mut line = lab.outbound("127.0.0.1");
        let (mut root, mut nobody) = (lab.program(), lab.program_of(NOBODY));
        let rule = json!({ "name": "brief", "close": "fin", "lifetime": { "idle": "1s" } });
        agent.put("/v1/rules", &json!({ "rule": [rule] })).ok();
        // Far more than it can have descriptors for.
        nobody.hold(agent.socket(), 100);
        root.hold(agent.socket(), 100);
        assert_eq!(line.outsider.receive(line.far).unwrap(), "", "it is closed by a FIN");
        let mut later = lab.outbound("127.0.0.1");
        assert_eq!(later.outsider.receive(later.far).unwrap(), "", "another too");
        agent.wait_to_say("finds no place");
        drop((root, nobody));
        wait_until("there is room again", SOON, || agent.get("/v1/status").status == 200);
        let (done, failed) = (agent.own_counter("expired_fin"), agent.own_counter("close_failed"));
        assert!(done >= 2 && failed == 0, "{done} done, {failed} failed with {limit}");
        // No more than 12 found a place at a time, and each for no longer than it may be silent.
        assert!(turned_away(&agent) > 100, "{} were turned away", turned_away(&agent));
    }
}
