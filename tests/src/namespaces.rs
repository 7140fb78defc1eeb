//! Network namespaces that cannot be entered, and those that go away.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::peer::Peer;
use crate::harness::pidns::PidNs;
use crate::harness::wait::{SOON, wait_until};

/// What `status` says of namespaces that cannot be entered.
fn unreachable(agent: &Agent) -> Vec<Value> {
    agent.get("/v1/status").ok()["unreachable"].as_array().expect("it is a list").clone()
}

#[test]
fn what_cannot_be_entered_is_told_until_it_is_gone() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    assert_eq!(unreachable(&agent), [] as [Value; 0]);
    let elsewhere = NetNs::new();
    let (mut program, mut outsider) = (Peer::start(&elsewhere, Some(&lab.cgroup), 0), Peer::start(&elsewhere, None, 0));
    let sock = program.connect(outsider.listen("127.0.0.1").local);
    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let path = format!("/v1/connections/{}/keepalive", sock.id());
    agent.put(&path, &keepalive).problem(502, "namespace_unreachable");

    let expected = json!({ "netns_cookie": sock.netns_cookie, "why": "the agent was started with --netns host" });
    assert_eq!(unreachable(&agent), [expected]);
    let shown = agent.cli_stdout(&["status"]);
    let line = format!("network namespace with cookie {}: the agent was started with --netns host", sock.netns_cookie);
    assert!(shown.contains(&line), "{shown}");
    assert!(shown.contains("1 network namespace cannot be entered"), "{shown}");

    // A namespace in which no connection is left is nobody's concern.
    program.reset(sock);
    wait_until("it drops out", SOON, || unreachable(&agent).is_empty());
    assert!(!agent.cli_stdout(&["status"]).contains("cannot be entered"));
}

#[test]
fn without_the_capability_each_namespace_is_named() {
    let lab = Lab::new();
    let here = lab.outbound("127.0.0.1");
    let elsewhere = NetNs::new();
    let agent = lab.agent().arguments(&["--netns", "all"]).seeing_no_process().without_sys_admin().start();
    // Its own it need not enter.
    assert_eq!(agent.code(&here.sock.id()), 1);
    let named = |place: &Path| {
        let found = unreachable(&agent).into_iter().find(|one| one["place"] == place.to_str().expect("it is text"));
        found.map(|found| found["why"].as_str().expect("it is said").to_owned())
    };
    assert_eq!(named(&lab.ns.file()), None);
    let place = elsewhere.file();
    let why = named(&place).expect("it is told");
    assert!(why.contains("Operation not permitted"), "{why}");
    drop(elsewhere);
    assert_eq!(named(&place), None, "it is gone");
}

/// How many descriptors of the process lead to network namespaces, or to sockets of them.
fn descriptors(pid: u32) -> usize {
    let names = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").filter_map(Result::ok);
    let links = names.filter_map(|name| fs::read_link(name.path()).ok());
    links.filter(|link| ["net:", "socket:", "anon_inode:bpf_iter"].iter().any(|kind| link.starts_with(kind))).count()
}

#[test]
fn namespaces_are_deleted_while_they_are_walked() {
    const ROUNDS: usize = 25;
    let pids = PidNs::new();
    let lab = Lab::new();
    let mut here = lab.outbound("127.0.0.1");
    let mut agent = lab.agent().arguments(&["--netns", "all"]).among(&pids).start();
    let conid = agent.conid(&here.sock.id());
    let pid = agent.running().0.id();
    let before = descriptors(pid);
    let keepalive = json!({ "idle": "60s", "count": 5, "interval": "5s" });
    let stop = AtomicBool::new(false);
    let walks = thread::scope(|scope| {
        // Walks without end over whatever there is: changed rules, overrides, tcp_info, dry runs.
        let walking = scope.spawn(|| {
            let mut walks = 0;
            while !stop.load(Ordering::Relaxed) {
                let rules = if walks % 2 == 0 { json!([{ "name": "all", "keepalive": keepalive }]) } else { json!([]) };
                let document = json!({ "rule": rules });
                agent.put("/v1/rules?dry_run=true", &document).ok();
                agent.put("/v1/rules", &document).ok();
                for entry in agent.list("?direction=outbound") {
                    agent.get(&format!("/v1/connections/{}", entry["conid"]));
                    let change = json!({ "max_age_seconds": 3600 });
                    let overridden = agent.lifetime(&entry["conid"].to_string(), &change);
                    // What ends meanwhile is gone, or in a namespace that is.
                    assert!([200, 404, 502].contains(&overridden.status), "{}", overridden.text());
                }
                walks += 1;
            }
            walks
        });
        for round in 0..ROUNDS {
            let (named, mut unnamed) = (NetNs::new(), Peer::start_unnamed(&pids, &lab.ns, &lab.cgroup));
            let (mut program, mut outsider) = (Peer::start(&named, Some(&lab.cgroup), 0), Peer::start(&named, None, 0));
            let listener = outsider.listen("127.0.0.1");
            let own_listener = unnamed.listen("127.0.0.1");
            for _ in 0..10 {
                program.connect(listener.local);
                unnamed.connect(own_listener.local);
            }
            wait_until("they are tracked", SOON, || agent.list("").len() > 20);
            if round % 2 == 0 {
                // The name goes first, while the sockets are still there.
                drop(named);
                drop((program, unnamed));
            } else {
                drop((program, unnamed));
                drop(named);
            }
        }
        stop.store(true, Ordering::Relaxed);
        walking.join().expect("no answer is amiss")
    });
    assert!(walks > ROUNDS, "only {walks} rounds of walks came by");
    wait_until("what was there is gone", SOON, || agent.list("").len() == 1);
    wait_until("nobody misses it", SOON, || unreachable(&agent).iter().all(|one| one["netns_cookie"].is_null()));
    wait_until("nothing holds a namespace", SOON, || descriptors(pid) <= before);
    assert_eq!(agent.conid(&here.sock.id()), conid);
    assert!(here.program.is_quiet(here.sock));
    for name in ["restore_failed", "remove_failed", "refused"] {
        assert_eq!(agent.counter(name), 0, "{name}");
    }
}
