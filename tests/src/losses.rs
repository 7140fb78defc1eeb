//! An agent that slept while connections came and went: what is missing is told once, with its cause and its count, and what
//! is there is what there is.

use std::collections::BTreeSet;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::stream::Stream;
use crate::harness::wait::{SOON, wait_until};

/// More connections than the ring has records for.
const MANY: u32 = 6_000;
/// Fewer: each has up to nine records of its two ends.
const FEW: u32 = 1_500;

/// The connections come and go while the agent sleeps, before a reader that reads whatever comes.
fn slept(lab: &Lab, agent: &mut Agent, connections: u32, after: u32) -> Vec<Value> {
    let mut program = lab.program();
    let mut stream = agent.events("");
    // The last thing to come is known.
    let reader = thread::spawn(move || read(&mut stream));
    program.churn("127.0.0.1", 10);
    agent.running().signal(Signal::STOP);
    program.churn("127.0.0.1", connections);
    agent.running().signal(Signal::CONT);
    // It goes on while the agent reads what there is.
    program.churn("127.0.0.1", after);
    wait_until("all is read", SOON, || agent.get("/v1/status").ok()["tracked"] == 0);
    let mut last = lab.outbound("127.0.0.1");
    last.program.send(last.sock, "x");
    last.program.reset(last.sock);
    reader.join().expect("reading does not panic")
}

/// All that is told up to the end of the connection that ends by a reset.
fn read(stream: &mut Stream) -> Vec<Value> {
    stream.until(|event| event["type"] == "closed" && event["cause"]["name"] == "reset")
}

fn lost(events: &[Value], reason: &str) -> u64 {
    let losses = events.iter().filter(|event| event["type"] == "lost" && event["reason"] == reason);
    losses.map(|event| event["count"].as_u64().unwrap_or_else(|| panic!("no count in {event}"))).sum()
}

#[test]
fn what_the_ring_lost_is_told_with_its_own_count_to_slow_readers_too() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let events = slept(&lab, &mut agent, MANY, MANY);
    let counted = agent.counter("events_lost");
    assert!(counted > 0, "nothing was lost");
    assert_eq!(lost(&events, "ring_overflow"), counted);
    // Every number is told, or is among those of which it is said that they are missing.
    let number = |event: &Value| event["seq"].as_u64().expect("every event has a number");
    for pair in events.windows(2) {
        let missing = if pair[1]["reason"] == "slow_reader" { pair[1]["count"].as_u64().expect("a count") } else { 1 };
        assert_eq!(number(&pair[0]) + missing, number(&pair[1]), "{} then {}", pair[0], pair[1]);
    }
    assert!(events.iter().any(|event| event["type"] == "resynchronised"));
    assert!(agent.map().is_empty(), "{:?}", agent.map());
}

#[test]
fn a_reader_that_reads_at_once_misses_nothing_that_the_ring_held() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let events = slept(&lab, &mut agent, FEW, 10);
    assert_eq!(agent.counter("events_lost"), 0, "the ring holds them");
    assert!(events.iter().all(|event| event["type"] != "lost"));
    let of = |kind: &str| -> BTreeSet<u64> {
        events.iter().filter(|event| event["type"] == kind).filter_map(|event| event["conid"].as_u64()).collect()
    };
    assert_eq!(of("opened"), of("closed"), "what was opened was closed");
}
