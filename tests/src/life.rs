//! The life of the agent: without it everything goes on but what only it can do, and the next one takes over.

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::options::Options;
use crate::harness::peer::Peer;
use crate::harness::wait::{SOON, patient, wait_to_see, wait_until};

const RULES: &str = r#"
[[rule]]
name = "all"
keepalive = { idle = "60s", count = 5, interval = "7s" }
"#;
const WANTED: Options = Options::on(60, 5, 7, 0);
/// A second is promised, and the test itself has to be told.
const TOLD: Duration = Duration::from_millis(1250);

#[test]
fn with_the_agent_killed_rules_still_apply_and_states_are_tracked() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(RULES).start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    let opened = agent.counter("opened");
    agent.keepalive(&conid.to_string(), 61, 6, 8);

    agent.stop(Signal::KILL);
    // The connection lives on as it was.
    line.program.send(line.sock, "still here");
    assert_eq!(line.outsider.receive(line.far).unwrap(), "still here");
    assert_eq!(line.program.options(line.sock), Options::on(61, 6, 8, 0));
    // A handshake gets its rule, an entry and the next conid.
    let (sock, far) = Lab::another(&mut line);
    assert_eq!(line.program.options(sock), WANTED);
    let state = |conid: u64| agent.map().get(&conid).map(|(_, entry)| entry["state"].clone());
    assert_eq!(agent.map().get(&(conid + 1)).map(|(cookie, _)| *cookie), Some(sock.cookie));
    assert_eq!(state(conid + 1), Some(json!("Established")));
    line.outsider.close(far);
    wait_to_see("the state", &Some(json!("CloseWait")), || state(conid + 1));
    line.program.close(sock);
    wait_to_see("the state", &None, || state(conid + 1));

    agent.start_again();
    assert_eq!(agent.get("/v1/status").ok()["resumed"], true);
    assert_eq!(agent.conid(&line.sock.id()), conid);
    assert_eq!(agent.code(&conid.to_string()), 1);
    assert_eq!(agent.code(&(conid + 1).to_string()), -1);
    assert_eq!(agent.counter("opened"), opened + 1);
    let policy = &agent.connection(&conid.to_string())["policy"];
    assert_eq!((&policy["rule"], &policy["keepalive_source"]), (&json!("all"), &json!("override")));
    assert_eq!(line.program.options(line.sock), Options::on(61, 6, 8, 0));
    // What is done now reaches it as before.
    agent.keepalive(&conid.to_string(), 62, 6, 8);
    assert_eq!(line.program.options(line.sock), Options::on(62, 6, 8, 0));
    let (sock, _far) = Lab::another(&mut line);
    assert_eq!(agent.conid(&sock.id()), conid + 2);
}

#[test]
fn without_an_agent_nothing_is_closed_and_with_the_next_one_it_is() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let (mut early, mut late) = (lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"));
    agent.lifetime(&early.sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    agent.lifetime(&late.sock.id(), &json!({ "idle_seconds": 10 })).ok();
    let set = Instant::now();
    agent.stop(Signal::KILL);
    sleep(Duration::from_millis(2250));
    assert!(early.program.is_quiet(early.sock), "closed without an agent");

    agent.start_again();
    let started = Instant::now();
    assert_eq!(early.program.receive(early.sock).unwrap_err(), "ECONNABORTED");
    assert!(started.elapsed() < patient(Duration::from_secs(2)));
    let quiet = late.program.is_quiet(late.sock);
    assert!(quiet || set.elapsed() >= Duration::from_secs(10), "closed early");
    assert_eq!(late.program.receive(late.sock).unwrap_err(), "ECONNABORTED");
    // However long the start took.
    let (after, since_start) = (set.elapsed(), started.elapsed());
    assert!(after >= Duration::from_millis(9900), "closed after {after:?} instead of 10 s");
    assert!(after < Duration::from_secs(10) + TOLD || since_start < patient(TOLD), "closed after {after:?}, not 10 s");
}

#[test]
fn it_stops_cleanly_and_leaves_its_programs() {
    let lab = Lab::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = lab.agent().rules(RULES).start();
        let mut line = lab.outbound("127.0.0.1");
        let status = agent.stop(signal);
        assert_eq!(status.code(), Some(0), "{}", agent.log());
        assert!(!agent.socket().exists(), "the socket is left");
        assert!(agent.pins().join("v2/CONNECTIONS").exists());
        assert!(line.program.is_quiet(line.sock));
        let (sock, _far) = Lab::another(&mut line);
        assert_eq!(line.program.options(sock), WANTED);
        // A client says that there is no agent.
        let answer = agent.cli(&["status"]);
        assert_eq!(answer.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&answer.stderr).contains("cannot reach the agent"), "{answer:?}");
    }
}

#[test]
fn it_says_when_it_is_ready_and_how_it_fares() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    wait_until("it says so", SOON, || agent.log().contains("ready"));
    assert_eq!(agent.get("/healthz").status, 200);
    assert_eq!(agent.get("/readyz").status, 200);
    let status = agent.get("/v1/status").ok();
    assert_eq!(status["pid"], agent.running().0.id());
    assert_eq!(status["cgroup"], lab.cgroup.path().to_str().unwrap());
    assert_eq!(status["pins"], agent.pins().join("v2").to_str().unwrap());
    assert_eq!((&status["resumed"], &status["tracked"]), (&json!(false), &json!(0)));
    let _line = lab.outbound("127.0.0.1");
    wait_to_see("the number", &json!(1), || agent.get("/v1/status").ok()["tracked"].clone());
    assert_eq!(agent.cli_json(&["status"])["tracked"], 1);
}

#[test]
fn two_agents_do_not_share_pins() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let said = lab.agent().pins(agent.pins().to_owned()).socket(lab.directory.path().join("other.sock")).fails();
    assert!(said.contains(agent.pins().to_str().unwrap()), "{said}");
    assert_eq!(agent.get("/readyz").status, 200);
    assert!(agent.pins().join("v2/CONNECTIONS").exists());
}

#[test]
fn two_agents_do_not_share_a_socket() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    // The same socket, other pins.
    let said = lab.agent().fails();
    assert!(said.contains(agent.socket().to_str().unwrap()), "{said}");
    assert_eq!(agent.get("/readyz").status, 200);
}

#[test]
fn a_stale_socket_is_replaced_and_anything_else_is_not() {
    let lab = Lab::new();
    let path = lab.directory.path().join("tcpops.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let agent = lab.agent().start();
    assert_eq!(agent.get("/readyz").status, 200);
    drop(agent);

    let file = lab.directory.write("precious", "data");
    let said = lab.agent().socket(file.clone()).fails();
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn when_the_table_is_full_rules_still_apply_and_it_is_counted() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).arguments(&["--max-connections", "4"]).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let socks: Vec<_> = (0..6).map(|_| program.connect(listener.local)).collect();
    for sock in &socks {
        assert_eq!(program.options(*sock), WANTED);
    }
    assert_eq!(agent.map().len(), 4);
    assert_eq!(agent.get("/v1/status").ok()["max_connections"], 4);
    assert!(agent.counter("untracked") >= 2, "{}", agent.counter("untracked"));
    assert_eq!(agent.code(&socks[3].id()), 1);
    assert_eq!(agent.code(&socks[5].id()), -1);
    // There is room again.
    program.reset(socks[0]);
    wait_until("there is room", SOON, || agent.map().len() == 3);
    let sock = program.connect(listener.local);
    assert_eq!(agent.code(&sock.id()), 1);
}

#[test]
fn another_size_of_the_table_does_not_break_the_pins_of_before() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(RULES).arguments(&["--max-connections", "64"]).start();
    let line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    let (status, said) = lab.agent().pins(agent.pins().to_owned()).arguments(&["--max-connections", "128"]).ends();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("64") && said.contains("128"), "{said}");
    agent.start_again();
    assert_eq!(agent.conid(&line.sock.id()), conid);
}

#[test]
fn connections_in_other_namespaces_are_reached() {
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--netns", "all", "--adopt", "off"]).start();
    let container = NetNs::new();
    let mut program = Peer::start(&container, Some(&lab.cgroup), 0);
    let mut outsider = Peer::start(&container, None, 0);
    let listener = outsider.listen("127.0.0.1");
    let sock = program.connect(listener.local);
    assert_eq!(agent.connection(&sock.id())["netns_cookie"], sock.netns_cookie);
    agent.keepalive(&sock.id(), 60, 5, 5);
    assert_eq!(program.options(sock), Options::on(60, 5, 5, 0));
    assert_eq!(agent.list(&format!("?netns={}", sock.netns_cookie)).len(), 1);
    assert_eq!(agent.list(&format!("?netns={}", sock.netns_cookie + 1)).len(), 0);
    agent.lifetime(&sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    assert_eq!(program.receive(sock).unwrap_err(), "ECONNABORTED");
}

#[test]
fn with_one_namespace_only_the_others_are_named_as_out_of_reach() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let container = NetNs::new();
    let mut program = Peer::start(&container, Some(&lab.cgroup), 0);
    let mut outsider = Peer::start(&container, None, 0);
    let listener = outsider.listen("127.0.0.1");
    let sock = program.connect(listener.local);
    let body = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let path = format!("/v1/connections/{}/keepalive", sock.id());
    agent.put(&path, &body).problem(502, "namespace_unreachable");
    assert_eq!(program.options(sock), Options::DEFAULT);
}

#[test]
fn the_kernel_programs_log_when_they_are_told_to() {
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--ebpf-log", "trace"]).start();
    let line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    wait_until("it is logged", SOON, || agent.log().contains(&format!("conid {conid} opened")));
}

#[test]
fn lifetimes_of_before_are_enforced_by_the_next_agent_without_any_event() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let mut lines = [lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1")];
    for (line, body) in lines.iter().zip([
        json!({ "max_age_seconds": 1 }),
        json!({ "idle_seconds": 4 }),
        json!({ "deadline": (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4)).to_string() }),
    ]) {
        agent.lifetime(&line.sock.id(), &body).ok();
    }
    agent.stop(Signal::TERM);
    sleep(Duration::from_millis(1500));
    agent.start_again();
    let start = Instant::now();
    for (line, seconds) in lines.iter_mut().zip([0, 3, 3]) {
        assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
        let within = Duration::from_secs(seconds) + patient(TOLD);
        assert!(start.elapsed() < within, "closed {:?} after the start", start.elapsed());
    }
}

#[test]
fn a_lifetime_that_a_rule_gave_while_no_agent_ran_is_enforced() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules("[[rule]]\nname = \"all\"\nlifetime = { max_age = \"2s\" }\n").start();
    agent.stop(Signal::TERM);
    let mut line = lab.outbound("127.0.0.1");
    let opened = Instant::now();
    agent.start_again();
    let started = Instant::now();
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    // However long the start took.
    let (after, since_start) = (opened.elapsed(), started.elapsed());
    assert!(after >= Duration::from_millis(1750), "closed after {after:?} instead of 2 s");
    assert!(after < Duration::from_secs(2) + TOLD || since_start < patient(TOLD), "closed after {after:?}, not 2 s");
}

#[test]
fn a_signal_to_read_a_file_that_was_never_given_does_no_harm() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    agent.running().signal(Signal::HUP);
    wait_until("it says so", SOON, || agent.log().contains("--rules"));
    assert_eq!(agent.get("/readyz").status, 200);
}
