//! What others take away from the agent: its programs, its cgroup, its pins, its socket.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::time::Duration;

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::cgroup::Cgroup;
use crate::harness::lab::Lab;
use crate::harness::peer::Peer;
use crate::harness::wait::{SOON, wait_until};

/// How long it may take to notice.
const NOTICED: Duration = Duration::from_secs(2);

fn programs(cgroup: &Cgroup) -> Vec<String> {
    let mut names: Vec<_> = bpftool::attached(cgroup.path())
        .into_iter()
        .map(|program| bpftool::program_name(program["id"].as_u64().expect("programs have numbers")))
        .collect();
    names.sort();
    names
}

/// With these both programs are attached.
const RULES: &str = "[[rule]]\nname = \"all\"\nkeepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\n";

/// It sees and serves as it did.
fn assert_whole(lab: &Lab, agent: &Agent) {
    wait_until("it is ready", NOTICED, || agent.get("/readyz").status == 200);
    let mut line = lab.outbound("127.0.0.1");
    assert_eq!(agent.code(&line.sock.id()), 1);
    line.program.close(line.sock);
    line.outsider.close(line.far);
    wait_until("the entry is gone", SOON, || agent.map().is_empty());
}

#[test]
fn programs_that_were_detached_are_attached_again() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let before = programs(&lab.cgroup);
    assert_eq!(before.len(), 2);
    let mut line = lab.outbound("127.0.0.1");
    for pin in ["sockops", "setsockopt"] {
        bpftool::detach_link(&agent.pins().join("v2").join(pin));
        wait_until("it is attached again", NOTICED, || programs(&lab.cgroup) == before);
        agent.wait_to_say("somebody has detached programs");
    }
    line.program.reset(line.sock);
    wait_until("its end is seen", SOON, || agent.map().is_empty());
    assert_whole(&lab, &agent);
    // Whoever follows the events is told, once for each time that the connections were not seen.
    assert!(agent.history("&type=lost").iter().any(|event| event["reason"] == "detached"));
}

#[test]
fn pins_that_were_removed_are_made_again() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(RULES).start();
    let line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    let names = || {
        let found =
            fs::read_dir(agent.pins().join("v2")).map(|entries| entries.map(|entry| entry.unwrap().file_name()));
        let mut names: Vec<_> = found.into_iter().flatten().collect();
        names.sort();
        names
    };
    let before = names();
    fs::remove_file(agent.pins().join("v2/CONNECTIONS")).unwrap();
    wait_until("the pin is there", NOTICED, || names() == before);
    fs::remove_dir_all(agent.pins().join("v2")).unwrap();
    wait_until("the pins are there", NOTICED, || names() == before);
    agent.wait_to_say("somebody has removed pins");
    assert_eq!(agent.map()[&conid].0, line.sock.cookie);
    // They are what the next agent takes over.
    agent.stop(rustix::process::Signal::KILL);
    agent.start_again();
    assert_eq!(agent.conid(&line.sock.id()), conid);
}

#[test]
fn a_socket_that_was_removed_is_bound_again() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let is_there = || fs::metadata(agent.socket()).is_ok_and(|metadata| metadata.file_type().is_socket());
    for _ in 0..2 {
        fs::remove_file(agent.socket()).unwrap();
        wait_until("it is there", NOTICED, is_there);
        assert_whole(&lab, &agent);
    }
    fs::rename(agent.socket(), lab.directory.path().join("moved")).unwrap();
    wait_until("it is there", NOTICED, is_there);
    assert_whole(&lab, &agent);
    agent.stop(rustix::process::Signal::TERM);
    assert!(!agent.socket().exists(), "it goes with the agent");
}

#[test]
fn a_cgroup_that_was_removed_makes_it_not_ready_until_it_is_there_again() {
    // Removed after the lab, which has the one in it.
    let above = Cgroup::new();
    let mut lab = Lab::new();
    lab.cgroup = above.child("service");
    let path = lab.cgroup.path().to_path_buf();
    let agent_lab = &lab;
    let agent = agent_lab.agent().rules(RULES).start();
    let line = agent_lab.outbound("127.0.0.1");
    assert_eq!(agent.map().len(), 1);
    // The program ends, and its cgroup goes, as with a service that is stopped.
    let cookie = line.sock.cookie;
    drop(line);
    fs::remove_dir(&path).unwrap();
    wait_until("it is not ready", NOTICED, || agent.get("/readyz").status == 503);
    let problem = agent.get("/readyz").problem(503, "not_ready");
    assert!(problem["detail"].as_str().unwrap().contains(path.to_str().unwrap()), "{problem}");
    assert!(agent.get("/v1/status").ok()["limitations"].to_string().contains(path.to_str().unwrap()));
    assert_eq!(agent.get("/healthz").status, 200);
    wait_until("no entry is left", SOON, || agent.map().values().all(|(of, _)| *of != cookie));
    // It is made again, as with a service that is started.
    fs::create_dir(&path).unwrap();
    wait_until("it is ready", NOTICED, || agent.get("/readyz").status == 200);
    wait_until("the programs are attached", NOTICED, || programs(&agent_lab.cgroup).len() == 2);
    assert_whole(agent_lab, &agent);
}

#[test]
fn the_next_agent_attaches_to_a_cgroup_that_was_made_anew() {
    let lab = Lab::new();
    let child = lab.cgroup.child("service");
    let path = child.path().to_path_buf();
    drop(child);
    let inner = Lab {
        cgroup: lab.cgroup.child("service"),
        ns: crate::harness::netns::NetNs::new(),
        directory: crate::harness::directory::Directory::new(),
    };
    let mut agent = inner.agent().rules(RULES).start();
    // Its program leaves, but the socket that it made lives on, and holds the cgroup and the link.
    let mut program = inner.program();
    let mut outsider = inner.outsider();
    let listener = outsider.listen("127.0.0.1");
    let sock = program.connect(listener.local);
    leave(&program, &lab.cgroup);
    agent.stop(rustix::process::Signal::KILL);
    fs::remove_dir(&path).unwrap();
    fs::create_dir(&path).unwrap();
    agent.start_again();
    assert_eq!(programs(&inner.cgroup).len(), 2);
    let line = inner.outbound("127.0.0.1");
    assert_eq!(agent.code(&line.sock.id()), 1);
    program.reset(sock);
    wait_until("the entry of the old one goes", SOON, || {
        let _look = agent.code(&sock.id());
        agent.map().values().all(|(cookie, _)| *cookie != sock.cookie)
    });
}

/// Moves the program to another cgroup; its sockets stay where they were made.
fn leave(program: &Peer, to: &Cgroup) {
    fs::write(to.path().join("cgroup.procs"), program.pid().to_string()).unwrap();
}
