//! What one user can make the agent hold, and have others wait: both are bounded.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::http::{request_text, with_headers};
use crate::harness::lab::Lab;
use crate::harness::peer::{Crowd, Peer, Sock};
use crate::harness::wait::patient;
use crate::permissions::open_to_all;

const NOBODY: u32 = 65534;
/// The connections of the user.
const COUNT: usize = 3_000;
/// The most changes in a request.
const CHANGES: usize = 10_000;
/// The most megabytes that the agent may take for this user.
const MOST_MB: u64 = 64;
/// The longest that another may wait meanwhile, for a program that is not optimized.
const LONGEST: Duration = Duration::from_secs(1);

/// A user with many connections to one endpoint.
struct User {
    program: Peer,
    listener: Sock,
    _outsider: Peer,
    _crowd: Crowd,
}

impl User {
    fn of(lab: &Lab) -> Self {
        let (mut program, mut outsider) = (lab.program_of(NOBODY), lab.outsider());
        let how = json!({ "host": "127.0.0.1", "backlog": 4096, "serve": true });
        let listener = outsider.listen_with(&how);
        let crowd = program.crowd(listener.local, COUNT, 0.0);
        Self { program, listener, _outsider: outsider, _crowd: crowd }
    }

    /// The endpoint that all its connections have.
    fn endpoint(&self) -> String {
        format!("remote:{}", self.listener.local)
    }
}

fn batch(id: impl Fn(usize) -> String) -> Value {
    let keepalive = json!({ "idle_seconds": 60, "count": 3, "interval_seconds": 5 });
    let change = |index| json!({ "id": id(index), "action": "keepalive_enable", "keepalive": keepalive });
    json!({ "changes": (0..CHANGES).map(change).collect::<Vec<_>>() })
}

/// The memory of the agent, megabytes.
fn resident_mb(agent: &mut Agent) -> u64 {
    let pid = agent.running().pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") / 1024
}

/// The longest that root waits for an answer while `act` is being done.
fn longest_wait<T>(agent: &Agent, act: impl FnOnce() -> T) -> (T, Duration) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(agent.get("/readyz").status, 200);
                longest = longest.max(start.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        // A panic must not leave it asking.
        let result = catch_unwind(AssertUnwindSafe(act));
        done.store(true, Ordering::Relaxed);
        let longest = asking.join().expect("root is answered");
        (result.unwrap_or_else(|panic| resume_unwind(panic)), longest)
    })
}

/// Has the user leave requests without reading their answers, each text so many times. What the agent takes for that, megabytes,
/// and the status of each answer.
fn leaves(agent: &mut Agent, user: &mut User, requests: &[(String, u32)]) -> (u64, Vec<String>) {
    let before = resident_mb(agent);
    let socket = agent.socket().to_owned();
    let leave = || requests.iter().flat_map(|(text, count)| user.program.leave(&socket, text, *count)).collect();
    let (begun, longest): (Vec<String>, _) = longest_wait(agent, leave);
    let taken = resident_mb(agent).saturating_sub(before);
    eprintln!("{taken} MB more than {before} MB; others waited {longest:?}; {begun:?}");
    assert!(begun.iter().all(|status| ["200", "503"].contains(&status.as_str())), "{begun:?}");
    assert!(begun.iter().any(|status| status == "200"), "{begun:?}");
    assert!(taken <= MOST_MB, "{taken} MB");
    assert!(longest < patient(LONGEST), "{longest:?}");
    (taken, begun)
}

fn started(lab: &Lab) -> (Agent<'_>, User) {
    let agent = lab.agent().arguments(&["--max-connections", "16384"]).start();
    open_to_all(&agent);
    let user = User::of(lab);
    (agent, user)
}

#[test]
fn many_batches_take_little() {
    let lab = Lab::new();
    let (mut agent, mut user) = started(&lab);
    let conids = agent.list("?limit=10000");
    let conid = |index: usize| conids[index % conids.len()]["conid"].to_string();
    let text = request_text("POST", "/v1/policies:batch", Some(&batch(conid)));
    let (_, begun) = leaves(&mut agent, &mut user, &[(text, 24)]);
    assert!(begun.iter().any(|status| status == "503"), "{begun:?}");
}

#[test]
fn endpoints_of_many_connections_take_little() {
    let lab = Lab::new();
    let (mut agent, mut user) = started(&lab);
    let text = request_text("POST", "/v1/policies:batch", Some(&batch(|_| user.endpoint())));
    leaves(&mut agent, &mut user, &[(text, 4)]);
}

#[test]
fn lists_that_nobody_reads_take_little() {
    let lab = Lab::new();
    let (mut agent, mut user) = started(&lab);
    let lines = with_headers("GET", "/v1/connections", &[("accept", "application/x-ndjson")], "");
    let pages = request_text("GET", "/v1/connections?limit=10000", None);
    let (taken, _) = leaves(&mut agent, &mut user, &[(lines, 15), (pages, 15)]);
    // With so few connections.
    assert!(taken < MOST_MB / 2, "{taken} MB");
}

#[test]
fn streams_of_events_that_nobody_reads_take_little() {
    let lab = Lab::new();
    let (mut agent, mut user) = started(&lab);
    let events = request_text("GET", "/v1/events?since=0", None);
    leaves(&mut agent, &mut user, &[(events, 8)]);
    let before = resident_mb(&mut agent);
    user.program.churn("127.0.0.1", 10_000);
    let after = resident_mb(&mut agent);
    assert!(after.saturating_sub(before) < MOST_MB, "{before} MB, then {after} MB");
}

#[test]
fn who_matches_is_listed_in_part_and_counted_whole() {
    let lab = Lab::new();
    let (agent, user) = started(&lab);
    let problem = agent.get(&format!("/v1/connections/{}", user.endpoint())).problem(409, "ambiguous");
    assert_eq!((&problem["total"], problem["matches"].as_array().map(Vec::len)), (&json!(COUNT), Some(100)));
    let body = json!({ "changes": vec![json!({ "id": user.endpoint(), "action": "close" }); 20] });
    let answer = agent.api("POST", "/v1/policies:batch", Some(&body)).ok();
    let results = answer["results"].as_array().expect("it is a list");
    assert!(results.iter().all(|result| result["problem"]["total"] == COUNT), "{answer}");
    let listed: usize = results.iter().filter_map(|result| result["problem"]["matches"].as_array()).map(Vec::len).sum();
    assert_eq!((results.len(), listed), (20, 1000));
}

#[test]
fn a_user_selects_no_more_than_a_batch_has() {
    let lab = Lab::new();
    let (agent, mut user) = started(&lab);
    let body = json!({ "match": { "uid": NOBODY }, "action": "keepalive_disable" });
    let answer = user.program.http(agent.socket(), "POST", "/v1/policies:batch", Some(&body)).ok();
    assert_eq!(answer["done"], COUNT);
}
