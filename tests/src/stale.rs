//! Connections that end, or come, while nobody sees it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::ss;
use crate::harness::wait::{SOON, wait_until};

/// Longer than the least time between two walks for what found no room.
const LATER: Duration = Duration::from_secs(30);

/// Entries are what sockets are so long after a disturbance.
const ROOM_WITHIN: Duration = Duration::from_secs(10);

/// Takes the program off its cgroup, as somebody else would.
fn detach(agent: &Agent) {
    bpftool::detach_link(&agent.pins().join("v2/sockops"));
}

#[test]
fn what_ended_unseen_is_not_said_to_live() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let mut ended = lab.outbound("127.0.0.1");
    let (mut half, listening) = (lab.outbound("::1"), lab.inbound("127.0.0.1"));
    let listener = ended.program.listen("127.0.0.1");
    let (conid, stale_listener) = (agent.conid(&ended.sock.id()), agent.conid(&listener.id()));
    // It attaches the program again as soon as it can.
    agent.running().signal(Signal::STOP);
    detach(&agent);
    ended.program.reset(ended.sock);
    ended.program.close(listener);
    half.outsider.shutdown(half.far);
    let state = || ss::socket(&lab.ns, half.sock.cookie).map(|socket| socket.state);
    wait_until("it is half closed", SOON, || state().as_deref() == Some("CLOSE-WAIT"));
    agent.running().signal(Signal::CONT);
    // The entries say otherwise; the kernel has the last word.
    for conid in [conid, stale_listener] {
        assert_eq!(agent.state(&conid.to_string())["code"], -1);
        agent.get(&format!("/v1/connections/{conid}")).problem(404, "no_such_connection");
        assert_eq!(agent.cli(&["alive", &conid.to_string()]).status.code(), Some(1));
    }
    assert_eq!(agent.state(&half.sock.id())["tcp_state"], "close-wait");
    assert_eq!(agent.connection(&half.sock.id())["state"], "close-wait");
    assert_eq!((agent.code(&listening.sock.id()), agent.code(&half.sock.id())), (1, -2));
    wait_until("the entries are gone", SOON, || {
        agent.list("").iter().all(|entry| entry["conid"] != conid && entry["conid"] != stale_listener)
    });
    assert!(!agent.map().contains_key(&conid) && !bpftool::conids(agent.pins()).contains_key(&conid));
    assert_eq!(agent.list("").len(), 3, "what lives is left alone");
    // Their end is told, if not its cause.
    let closed = |conid: u64| {
        let mut told = agent.history("&type=closed");
        told.retain(|event| event["conid"] == conid);
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    };
    assert_eq!(closed(conid)["cause"], json!({ "name": "unknown" }));
    assert_eq!(closed(stale_listener).get("cause"), None);
    wait_until("status counts no more", SOON, || agent.get("/v1/status").ok()["tracked"] == 3);
    // Who follows the events is told that some are missing, nobody knows how many, and when all is complete again.
    wait_until("all was read anew", SOON, || agent.history("&type=lost").len() >= 2);
    let told = agent.history("&type=lost");
    assert_eq!((&told[0]["reason"], told[0].get("count")), (&json!("detached"), None), "{told:?}");
    assert_eq!((&told[1]["type"], &told[1]["tracked"]), (&json!("resynchronised"), &json!(3)), "{told:?}");
}

#[test]
fn the_next_agent_removes_what_ended_unseen_and_keeps_what_lives() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let (mut ended, mut kept) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    let kept_conid = agent.conid(&kept.sock.id());
    agent.keepalive(&ended.sock.id(), 60, 5, 5);
    assert_eq!(agent.stop(Signal::KILL).code(), None);
    detach(&agent);
    let conid = agent.map().into_iter().find(|(_, (cookie, _))| *cookie == ended.sock.cookie).expect("it is there").0;
    ended.program.reset(ended.sock);
    // And what came meanwhile is taken in.
    let came = Lab::another(&mut kept).0;
    assert!(agent.map().contains_key(&conid), "nobody saw its end");
    agent.start_again();
    assert!(!agent.map().contains_key(&conid));
    assert!(!bpftool::conids(agent.pins()).contains_key(&conid));
    assert!(bpftool::overrides(agent.pins()).is_empty());
    assert_eq!(agent.conid(&kept.sock.id()), kept_conid);
    assert_eq!(agent.connection(&came.id())["origin"], "adopted");
    // All of them are followed again.
    kept.program.reset(kept.sock);
    kept.program.reset(came);
    wait_until("their ends are seen", SOON, || agent.map().is_empty());
}

#[test]
fn what_found_no_room_is_taken_in_once_there_is_some() {
    let lab = Lab::new();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let agent = lab.agent().arguments(&["--max-connections", "2"]).start();
    let [first, second, third] = [(); 3].map(|()| program.connect(listener.local));
    assert_eq!((agent.code(&first.id()), agent.code(&second.id()), agent.code(&third.id())), (1, 1, -1));
    assert_eq!(agent.counter("untracked"), 1);
    program.reset(first);
    wait_until("there is room for the third", LATER, || agent.code(&third.id()) == 1);
    let entry = agent.connection(&third.id());
    assert_eq!((&entry["origin"], &entry["state"]), (&json!("adopted"), &json!("established")));
    assert_eq!(agent.counter("adopted"), 1);
    program.reset(third);
    wait_until("its end is seen", SOON, || agent.list("").len() == 1);
}

#[test]
fn the_room_of_what_ended_unseen_is_given_back() {
    const PLACES: usize = 200;
    let lab = Lab::new();
    let rules = "[[rule]]\nname = \"all\"\nlifetime = { idle = \"1h\" }\n";
    let mut agent = lab.agent().rules(rules).arguments(&["--max-connections", &PLACES.to_string()]).start();
    let (mut crowded, mut program, mut outsider) = (lab.program(), lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "backlog": 1024 }));
    crowded.crowd(listener.local, PLACES, 0.0);
    assert_eq!(agent.map().len(), PLACES);
    agent.running().signal(Signal::STOP);
    detach(&agent);
    drop((outsider, crowded));
    wait_until("they are gone", SOON, || ss::sockets(&lab.ns).values().all(|socket| socket.state == "TIME-WAIT"));
    let mut outsider = lab.outsider();
    let listener = outsider.listen("127.0.0.1");
    agent.running().signal(Signal::CONT);
    let sock = program.connect(listener.local);
    wait_until("entries are what sockets are", ROOM_WITHIN, || agent.map().len() == 1);
    let policy = &agent.connection(&sock.id())["policy"];
    assert_eq!((&policy["rule"], &policy["lifetime"]), (&json!("all"), &json!({ "idle_seconds": 3600.0 })));
}
