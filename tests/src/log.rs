//! The log can neither stop the agent nor end it, whatever becomes of what it writes to.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};

/// More connections than fit in a pipe as lines of the audit.
const COUNT: usize = 500;
/// Enough changes of all of them to fill the agent's own queue after that.
const ROUNDS: usize = 20;

/// Has the agent say more than it can, and checks that it works meanwhile. Returns how many lines it has dropped.
fn talk(lab: &Lab, agent: &Agent) -> u64 {
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "backlog": 1024 }));
    let mut line = lab.outbound("127.0.0.1");
    let _crowd = program.crowd(listener.local, COUNT, 0.0);
    let body = json!({
        "match": { "remote_port": listener.local.port() },
        "action": "keepalive_enable",
        "keepalive": { "idle_seconds": 60, "count": 3, "interval_seconds": 20 },
    });
    for _ in 0..ROUNDS {
        let answer = agent.api("POST", "/v1/policies:batch", Some(&body)).ok();
        assert_eq!(answer["done"], COUNT);
    }
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED", "its limit is over");
    let dropped = agent.own_counter("log_lines_dropped");
    let metrics = agent.get("/metrics").text();
    assert!(metrics.contains("\ntcpops_log_lines_dropped_total "), "{metrics}");
    dropped
}

fn ends_in_order(agent: &mut Agent) {
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let lab = Lab::new();
    let mut agent = lab.agent().unread().start();
    assert!(talk(&lab, &agent) > 0);
    ends_in_order(&mut agent);
}

#[test]
fn what_was_dropped_is_said_once_somebody_reads() {
    let lab = Lab::new();
    let mut agent = lab.agent().unread().start();
    let dropped = talk(&lab, &agent);
    agent.read_log();
    agent.wait_to_say("lines are missing");
    let log = agent.log();
    let missing = log.split("lines=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    // The last line about the connection that ended may have been dropped after they were counted.
    let missing = missing.unwrap_or_else(|| panic!("no number of lines"));
    assert!((dropped..dropped + 3).contains(&missing), "{missing} lines, {dropped} counted");
    assert!(log.contains("ready"), "the first lines are there");
    // What was said and not dropped is whole.
    let said =
        log.lines().filter(|line| line.contains("keepalive on idle=60s") && line.ends_with("\"applied\"")).count();
    assert!(said as u64 + missing >= (COUNT * ROUNDS) as u64, "{said} lines and {missing}");
    ends_in_order(&mut agent);
    wait_until("it says why it ends", SOON, || agent.log().contains("SIGTERM"));
}

#[test]
fn a_reader_that_goes_away_ends_nothing() {
    let lab = Lab::new();
    let mut agent = lab.agent().unread().start();
    drop(agent.take_stderr());
    assert!(talk(&lab, &agent) > 0);
    ends_in_order(&mut agent);
}

#[test]
fn a_full_disk_ends_nothing() {
    let lab = Lab::new();
    let mut agent = lab.agent().after("exec 2>/dev/full").start();
    assert!(talk(&lab, &agent) > 0);
    ends_in_order(&mut agent);
}

#[test]
fn a_limit_on_the_size_of_files_ends_nothing() {
    let lab = Lab::new();
    let file = lab.directory.path().join("log");
    let mut agent = lab.agent().after(&format!("ulimit -f 16; exec 2>{}", file.display())).start();
    assert!(talk(&lab, &agent) > 0);
    ends_in_order(&mut agent);
    assert_eq!(fs::metadata(file).unwrap().len(), 16 * 512, "it is as long as it may be");
}

#[test]
fn why_it_does_not_start_is_said_before_it_ends() {
    let lab = Lab::new();
    let said = lab.agent().arguments(&["--rules", "/nonexistent"]).fails();
    assert!(said.contains("the agent failed") && said.contains("/nonexistent"), "{said}");
    // Also where nobody takes it.
    let agent = lab.agent().arguments(&["--rules", "/nonexistent"]).after("exec 2>/dev/full");
    assert_eq!(agent.runs_to_its_end().code(), Some(1));
}
