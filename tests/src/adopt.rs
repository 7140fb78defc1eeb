//! Connections that were open before the agent: they are taken in when it starts.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::command::Running;
use crate::harness::lab::Lab;
use crate::harness::netns::{FAST_OPEN, NetNs};
use crate::harness::options::Options;
use crate::harness::peer::{MPTCP, Peer};
use crate::harness::pidns::PidNs;
use crate::harness::wait::{SOON, wait_until};
use crate::harness::{require, ss};

const RULES: &str = r#"
[[rule]]
name = "all"
keepalive = { idle = "60s", count = 5, interval = "7s" }
user_timeout = "95s"
"#;
const WANTED: Options = Options::on(60, 5, 7, 95_000);

/// Opens and closes connections for three seconds with fifty more held throughout, then says so and keeps what is open.
const CHURN: &str = r#"
import socket, sys, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(512)
held = []
def pair():
    near = socket.create_connection(listener.getsockname())
    return near, listener.accept()[0]
end = time.monotonic() + 3
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
    let mut agent = lab.agent().start();
    assert!(agent.counter("adopted") > 0, "some were open before");
    // Killed and started again meanwhile: the walk meets what has an entry, what has none, and what comes and goes.
    for _ in 0..3 {
        agent.stop(Signal::KILL);
        agent.start_again();
    }
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
fn connections_of_three_namespaces_are_taken_in_and_report_their_close() {
    let pids = PidNs::new();
    let lab = Lab::new();
    // One namespace has no name: only a process leads there.
    let mut unnamed = Peer::start_unnamed(&pids, &lab.ns, &lab.cgroup);
    let mut beside_unnamed = unnamed.start_beside();
    // One has a name, and one is the agent's own, where the program is in a cgroup below the agent's.
    let elsewhere = NetNs::new();
    let mut named = Peer::start(&elsewhere, Some(&lab.cgroup), 0);
    let mut beside_named = Peer::start(&elsewhere, None, 0);
    let child = lab.cgroup.child("child");
    let mut nested = Peer::start(&lab.ns, Some(&child), 0);
    let mut beside_nested = lab.outsider();

    let mut open = Vec::new();
    for (program, outsider) in
        [(&mut unnamed, &mut beside_unnamed), (&mut named, &mut beside_named), (&mut nested, &mut beside_nested)]
    {
        let listener = outsider.listen("127.0.0.1");
        let [idle, half, ended] = [(); 3].map(|()| {
            let sock = program.connect(listener.local);
            (sock, outsider.accept(listener))
        });
        outsider.shutdown(half.1);
        open.push((idle, half, ended, program.listen("::1")));
    }
    let agent = lab.agent().rules(RULES).arguments(&["--netns", "all"]).among(&pids).start();
    assert_eq!(agent.list("").len(), 12);
    let mut namespaces = HashSet::new();
    for ((program, outsider), (idle, half, ended, listener)) in
        [(&mut unnamed, &mut beside_unnamed), (&mut named, &mut beside_named), (&mut nested, &mut beside_nested)]
            .into_iter()
            .zip(open)
    {
        let states = [(idle.0, "established"), (half.0, "close-wait"), (ended.0, "established"), (listener, "listen")];
        for (sock, state) in states {
            let entry = agent.connection(&sock.id());
            assert_eq!((&entry["origin"], &entry["state"]), (&"adopted".into(), &state.into()), "{entry}");
            assert_eq!(entry["netns_cookie"], sock.netns_cookie);
            assert!(entry["conid"].as_u64().is_some_and(|conid| conid > 0));
            namespaces.insert(sock.netns_cookie);
        }
        for (sock, far) in [idle, half] {
            assert_eq!(program.options(sock), WANTED);
            assert_eq!(outsider.options(far), Options::DEFAULT);
        }
        assert_eq!(program.options(listener), Options::DEFAULT);
        // An override reaches each, and so does a close.
        agent.keepalive(&idle.0.id(), 30, 3, 3);
        assert_eq!(program.options(idle.0), Options::on(30, 3, 3, 95_000));
        program.send(idle.0, "still there");
        assert_eq!(outsider.receive(idle.1).as_deref(), Ok("still there"));
        program.reset(ended.0);
        program.close(half.0);
        agent.delete(&format!("/v1/connections/{}", idle.0.id())).ok();
        assert_eq!(program.receive(idle.0).unwrap_err(), "ECONNABORTED");
        for sock in [idle.0, half.0, ended.0] {
            wait_until("its close is reported", SOON, || agent.code(&sock.id()) == -1);
        }
        program.close(listener);
        wait_until("the end of the listener is reported", SOON, || agent.code(&listener.id()) == -1);
    }
    assert_eq!(namespaces.len(), 3);
    assert!(agent.list("").is_empty());
    let status = agent.get("/v1/status").ok();
    let unreachable = status["unreachable"].as_array().expect("it is a list");
    // Other tests' namespaces come and go.
    let is_ours = |one: &Value| one["place"] == elsewhere.file().to_str().unwrap() || one["netns_cookie"].is_u64();
    assert!(!unreachable.iter().any(is_ours), "{status}");
}

#[test]
fn mptcp_and_fast_open_come_to_no_harm() {
    let lab = Lab::new();
    lab.ns.sysctl("net.ipv4.tcp_fastopen", FAST_OPEN);
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    // MPTCP in both directions: the subflows are TCP sockets.
    let mptcp = |host: &str| json!({ "host": host, "protocol": MPTCP });
    let far_listener = outsider.listen_with(&mptcp("127.0.0.1"));
    let out = program.connect_with(far_listener.local, &json!({ "protocol": MPTCP })).unwrap();
    let out_far = outsider.accept(far_listener);
    let own_listener = program.listen_with(&mptcp("127.0.0.1"));
    let in_far = outsider.connect_with(own_listener.local, &json!({ "protocol": MPTCP })).unwrap();
    let inbound = program.accept(own_listener);
    // Fast Open in both directions: data came with the SYN.
    let fast_listener = outsider.listen("127.0.0.1");
    let fast_out = program.connect_with(fast_listener.local, &json!({ "data": "hello" })).unwrap();
    let fast_out_far = outsider.accept(fast_listener);
    let fast_own = program.listen("127.0.0.1");
    let fast_in_far = outsider.connect_with(fast_own.local, &json!({ "data": "hello" })).unwrap();
    let fast_in = program.accept(fast_own);
    let mut check = |program: &mut Peer, round: &str| {
        for (sock, far) in [(out, out_far), (inbound, in_far), (fast_out, fast_out_far), (fast_in, fast_in_far)] {
            program.send(sock, round);
            assert!(outsider.receive(far).unwrap().ends_with(round), "{round}");
            outsider.send(far, round);
            assert!(program.receive(sock).unwrap().ends_with(round), "{round}");
        }
    };
    check(&mut program, "before");

    let mut agent = lab.agent().rules(RULES).start();
    let entries = agent.list("?state=established");
    assert_eq!(entries.len(), 4, "two subflows, and two with Fast Open: {entries:?}");
    assert!(entries.iter().all(|entry| entry["policy"]["result"]["outcome"] == "applied"), "{entries:?}");
    assert_eq!(program.options(fast_out), WANTED);
    check(&mut program, "adopted");
    for entry in &entries {
        agent.keepalive(&entry["conid"].to_string(), 30, 3, 3);
        agent.lifetime(&entry["conid"].to_string(), &json!({ "max_age_seconds": 600 })).ok();
    }
    assert_eq!(program.options(fast_in), Options::on(30, 3, 3, 95_000));
    check(&mut program, "overridden");
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    check(&mut program, "judged anew");
    // The main socket would live on without its subflow: that is no close.
    let subflow = entries.iter().find(|entry| entry["local"] == out.local.to_string()).expect("it is listed");
    agent.delete(&format!("/v1/connections/{}", subflow["conid"])).problem(409, "not_closable");
    check(&mut program, "not closed");
    agent.cli_stdout(&["detach"]);
    agent.forget();
    for sock in [fast_out, fast_in] {
        assert_eq!(program.options(sock), Options::DEFAULT);
    }
    check(&mut program, "detached");
    // And they end as they should.
    for (sock, far) in [(out, out_far), (fast_out, fast_out_far)] {
        program.close(sock);
        assert_eq!(outsider.receive(far).as_deref(), Ok(""));
    }
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
    assert!(limitations.to_string().contains("--max-connections"), "{limitations}");
    program.reset(first);
    wait_until("there is room", SOON, || agent.code(&first.id()) == -1);
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    agent.start_again();
    assert_eq!(agent.connection(&second.id())["direction"], "inbound");
}
