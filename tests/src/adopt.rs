//! Connections that were open before the agent: they are taken in when it starts.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::command::Running;
use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::options::Options;
use crate::harness::peer::Peer;
use crate::harness::wait::{SOON, wait_until};
use crate::harness::{require, ss};

const RULES: &str = r#"
[[rule]]
name = "all"
keepalive = { idle = "60s", count = 5, interval = "7s" }
user_timeout = "95s"
"#;
const WANTED: Options = Options::on(60, 5, 7, 95_000);

/// Opens and closes connections for two seconds with fifty more held throughout, then says so and keeps what is open.
const CHURN: &str = r#"
import socket, sys, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(512)
held = []
def pair():
    near = socket.create_connection(listener.getsockname())
    return near, listener.accept()[0]
end = time.monotonic() + 2
print("started", flush=True)
while time.monotonic() < end:
    if len(held) < 50:
        held.append(pair())
    for sock in pair():
        sock.close()
print("done", flush=True)
sys.stdin.read()
"#;

fn cookies(list: &[Value]) -> Vec<u64> {
    let mut cookies: Vec<u64> = list.iter().map(|entry| entry["cookie"].as_u64().expect("it has one")).collect();
    cookies.sort_unstable();
    cookies
}

#[test]
fn what_was_open_gets_a_conid_its_true_state_and_reports_its_close() {
    for host in ["127.0.0.1", "::1"] {
        let lab = Lab::new();
        let mut outbound = lab.outbound(host);
        let inbound = lab.inbound(host);
        let agent = lab.agent().start();
        for (line, direction) in [(&outbound, "outbound"), (&inbound, "inbound")] {
            let entry = agent.connection(&line.sock.id());
            assert_eq!((&entry["origin"], &entry["direction"]), (&"adopted".into(), &direction.into()), "{entry}");
            assert_eq!(entry["local"], line.sock.local.to_string());
            assert_eq!(entry["remote"], line.sock.remote().to_string());
            assert_eq!(entry["netns_cookie"], line.sock.netns_cookie);
            assert_eq!((&entry["state"], &entry["code"]), (&"established".into(), &1.into()));
            // With no rules it only watches.
            assert_eq!(line.program.options(line.sock), Options::DEFAULT);
        }
        // Two connections and a listener; what the outsiders have is not in the cgroup.
        assert_eq!(agent.list("").len(), 3);
        let id = outbound.sock.id();
        outbound.program.close(outbound.sock);
        wait_until("the close is reported", SOON, || agent.code(&id) != 1);
        outbound.outsider.close(outbound.far);
        wait_until("the entry is gone", SOON, || agent.code(&id) == -1 && agent.list("").len() == 2);
    }
}

#[test]
fn rules_apply_to_what_is_taken_in_and_detach_gives_it_back() {
    let lab = Lab::new();
    let (outbound, inbound) = (lab.outbound("127.0.0.1"), lab.inbound("::1"));
    let mut agent = lab.agent().rules(RULES).start();
    for line in [&outbound, &inbound] {
        assert_eq!(line.program.options(line.sock), WANTED);
        assert_eq!(line.outsider.options(line.far), Options::DEFAULT);
    }
    agent.cli_stdout(&["detach"]);
    agent.forget();
    for line in [&outbound, &inbound] {
        assert_eq!(line.program.options(line.sock), Options::DEFAULT);
    }
}

#[test]
fn lifetimes_end_what_was_taken_in() {
    let lab = Lab::new();
    let mut line = lab.outbound("127.0.0.1");
    let _agent = lab.agent().rules("[[rule]]\nname = \"short\"\nlifetime = { max_age = \"1s\" }\n").start();
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
}

#[test]
fn states_are_true_whatever_they_are_when_the_agent_comes() {
    let lab = Lab::new();
    let (mut closed_there, mut closed_here) = (lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"));
    closed_there.outsider.shutdown(closed_there.far);
    closed_here.program.shutdown(closed_here.sock);
    let state = |id| ss::socket(&lab.ns, id).map(|socket| socket.state);
    wait_until("both are half closed", SOON, || {
        state(closed_there.sock.cookie).as_deref() == Some("CLOSE-WAIT")
            && state(closed_here.sock.cookie).as_deref() == Some("FIN-WAIT-2")
    });
    let agent = lab.agent().start();
    assert_eq!(agent.state(&closed_there.sock.id())["tcp_state"], "close-wait");
    assert_eq!(agent.state(&closed_here.sock.id())["tcp_state"], "fin-wait-2");
}

#[test]
fn the_next_agent_takes_in_only_what_has_no_conid() {
    let lab = Lab::new();
    let line = lab.outbound("127.0.0.1");
    let mut agent = lab.agent().start();
    let before = (agent.conid(&line.sock.id()), agent.counter("adopted"), agent.list("").len());
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    agent.start_again();
    assert_eq!((agent.conid(&line.sock.id()), agent.counter("adopted"), agent.list("").len()), before);
}

#[test]
fn told_not_to_it_takes_nothing_in() {
    let lab = Lab::new();
    let line = lab.outbound("127.0.0.1");
    let agent = lab.agent().arguments(&["--adopt", "off"]).start();
    assert_eq!(agent.list("").len(), 0);
    assert_eq!(agent.state(&line.sock.id())["code"], -1);
}

#[test]
fn under_churn_the_entries_end_up_equal_to_what_ss_shows() {
    let lab = Lab::new();
    let mut command = lab.cgroup.command(require::tool("python3"));
    command.args(["-c", CHURN]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = Running(lab.ns.spawn(&mut command));
    let mut said = BufReader::new(program.0.stdout.take().expect("it is piped")).lines();
    assert_eq!(said.next().expect("it says").expect("text"), "started");
    std::thread::sleep(Duration::from_millis(300));
    let agent = lab.agent().start();
    assert!(agent.counter("adopted") > 0, "some were open before");
    assert_eq!(said.next().expect("it says").expect("text"), "done");
    let shown = || -> Vec<u64> {
        let sockets = ss::sockets(&lab.ns).into_values();
        sockets.filter(|socket| socket.state != "TIME-WAIT").map(|socket| socket.cookie).collect()
    };
    wait_until("the entries are those of ss", SOON, || cookies(&agent.list("")) == shown());
    assert_eq!(shown().len(), 101, "fifty connections with both ends, and the listener");
}

#[test]
fn other_namespaces_are_walked_too() {
    let lab = Lab::new();
    let here = lab.outbound("127.0.0.1");
    let container = NetNs::new();
    let child = lab.cgroup.child("child");
    let mut program = Peer::start(&container, Some(&child), 0);
    let mut outsider = Peer::start(&container, None, 0);
    let listener = outsider.listen("::1");
    let there = program.connect(listener.local);
    let agent = lab.agent().rules(RULES).arguments(&["--netns", "all"]).seeing_no_process().start();
    assert_eq!(agent.list("").len(), 2);
    assert_eq!(agent.connection(&here.sock.id())["netns_cookie"], here.sock.netns_cookie);
    assert_eq!(agent.connection(&there.id())["netns_cookie"], there.netns_cookie);
    assert_ne!(here.sock.netns_cookie, there.netns_cookie);
    assert_eq!(program.options(there), WANTED);
    program.close(there);
    wait_until("its close is reported", SOON, || agent.state(&there.id())["code"] != 1);
}

#[test]
fn a_restarted_agent_knows_inbound_from_outbound_and_a_full_map_is_said() {
    let lab = Lab::new();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.1");
    let mut agent = lab.agent().arguments(&["--max-connections", "2"]).start();
    let mut accepted = || {
        let far = outsider.connect(listener.local);
        (program.accept(listener), far)
    };
    // The listener was taken in; of two connections the second finds no room.
    let ((first, _), (second, _)) = (accepted(), accepted());
    assert_eq!(agent.code(&first.id()), 1);
    assert_eq!(agent.code(&second.id()), -1);
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    agent.start_again();
    assert!(agent.counter("adopt_failed") > 0);
    let limitations = agent.get("/v1/status").ok()["limitations"].clone();
    assert!(limitations[0].as_str().is_some_and(|text| text.contains("--max-connections")), "{limitations}");
    program.reset(first);
    wait_until("there is room", SOON, || agent.code(&first.id()) == -1);
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    agent.start_again();
    assert_eq!(agent.connection(&second.id())["direction"], "inbound");
}
