//! How the states of what was open before the agent are followed: by callbacks, or at a tracepoint where the kernel cannot
//! turn these on. Both ways are tried on every kernel that has both.

use std::fs;

use rustix::process::Signal;

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_to_see, wait_until};

const AT_TRACEPOINT: [&str; 2] = ["--follow", "tracepoint"];
const PINS: [&str; 2] = ["v2/follow", "v2/follow-nested"];

fn follow(agent: &Agent) -> String {
    agent.get("/v1/status").ok()["follow"].as_str().expect("the way has a name").to_owned()
}

fn links(agent: &Agent) -> [u64; 2] {
    PINS.map(|pin| bpftool::pinned_link(&agent.pins().join(pin)))
}

/// The states that the kernel programs say a connection has left and entered, by number and in order.
fn transitions(agent: &Agent, conid: u64) -> Vec<(u8, u8)> {
    let before = format!("conid {conid} from state ");
    let log = agent.log();
    let said = log.lines().filter_map(|line| line.split_once(&before)?.1.split_once(" to "));
    said.map(|(old, new)| (old.parse().expect("a number"), new.trim().parse().expect("a number"))).collect()
}

#[test]
fn the_way_is_the_best_that_the_kernel_offers() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let lab = Lab::new();
    let agent = lab.agent().start();
    let tracepoint = version < (6, 12);
    assert_eq!(follow(&agent), if tracepoint { "tracepoint" } else { "callbacks" }, "on {release}");
    for pin in PINS {
        assert_eq!(agent.pins().join(pin).exists(), tracepoint, "{pin}");
    }
}

#[test]
fn at_the_tracepoint_states_are_true_and_the_end_is_reported() {
    for host in ["127.0.0.1", "::1"] {
        let lab = Lab::new();
        let mut lines = [lab.outbound(host), lab.inbound(host), lab.outbound(host)];
        let agent = lab.agent().arguments(&AT_TRACEPOINT).start();
        assert_eq!(follow(&agent), "tracepoint");
        for line in &lines {
            let entry = agent.connection(&line.sock.id());
            assert_eq!((&entry["origin"], &entry["state"]), (&"adopted".into(), &"established".into()), "{entry}");
        }
        let (opened, closed) = (agent.counter("opened"), agent.counter("closed"));
        let tcp_state = |id: &str| agent.state(id)["tcp_state"].as_str().unwrap_or("gone").to_owned();
        // The peer closes first, this host does, and nobody does.
        let [peer, local, reset] = &mut lines;
        let ids = [peer.sock.id(), local.sock.id(), reset.sock.id()];
        peer.outsider.shutdown(peer.far);
        wait_to_see("the peer's FIN", &"close-wait".to_owned(), || tcp_state(&ids[0]));
        local.program.shutdown(local.sock);
        wait_to_see("the program's FIN", &"fin-wait-2".to_owned(), || tcp_state(&ids[1]));
        peer.program.close(peer.sock);
        local.outsider.close(local.far);
        reset.outsider.reset(reset.far);
        for id in &ids {
            wait_until("the entry is gone", SOON, || agent.code(id) == -1);
        }
        let counted = ["opened", "closed", "unknown_socket", "remove_failed"].map(|name| agent.counter(name));
        assert_eq!(counted, [opened, closed + 3, 0, 0]);
    }
}

#[test]
fn each_transition_is_seen_once_whoever_follows() {
    let lab = Lab::new();
    let mut before = lab.outbound("127.0.0.1");
    let agent = lab.agent().arguments(&AT_TRACEPOINT).arguments(&["--ebpf-log", "trace"]).start();
    let (opened, closed) = (agent.counter("opened"), agent.counter("closed"));
    // Of this one the handshake is seen, and its own callback is on.
    let (after, far) = Lab::another(&mut before);
    let (adopted, seen) = (agent.conid(&before.sock.id()), agent.conid(&after.id()));
    assert_eq!(agent.connection(&after.id())["origin"], "handshake");
    before.program.close(after);
    before.outsider.close(far);
    before.program.close(before.sock);
    before.outsider.close(before.far);
    wait_until("both are gone", SOON, || agent.counter("closed") == closed + 2);
    assert_eq!(agent.counter("opened"), opened + 1);
    // FIN_WAIT1, FIN_WAIT2, CLOSE, as include/net/tcp_states.h numbers them.
    let end = [(1, 4), (4, 5), (5, 7)];
    let whole = [(2, 1), (1, 4), (4, 5), (5, 7)];
    wait_until("all is logged", SOON, || {
        transitions(&agent, adopted).len() >= end.len() && transitions(&agent, seen).len() >= whole.len()
    });
    assert_eq!((transitions(&agent, adopted), transitions(&agent, seen)), (end.to_vec(), whole.to_vec()));
}

#[test]
fn lifetimes_end_what_is_followed_at_the_tracepoint() {
    let lab = Lab::new();
    let mut line = lab.outbound("127.0.0.1");
    let rules = "[[rule]]\nname = \"short\"\nlifetime = { max_age = \"1s\" }\n";
    let agent = lab.agent().rules(rules).arguments(&AT_TRACEPOINT).start();
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    wait_until("its entry is gone", SOON, || agent.code(&line.sock.id()) == -1);
}

#[test]
fn the_tracepoint_is_followed_without_an_agent_and_taken_over_by_the_next() {
    let lab = Lab::new();
    let (mut ends, mut stays) = (lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"));
    let mut agent = lab.agent().arguments(&AT_TRACEPOINT).start();
    let (first, conid) = (links(&agent), agent.conid(&stays.sock.id()));
    let closed = agent.counter("closed");
    assert_eq!(agent.stop(Signal::KILL).code(), None);
    assert_eq!(links(&agent), first);
    ends.program.reset(ends.sock);
    stays.outsider.shutdown(stays.far);

    agent.start_again();
    assert_eq!((agent.counter("closed"), agent.code(&ends.sock.id())), (closed + 1, -1));
    assert_eq!(
        (agent.conid(&stays.sock.id()), agent.state(&stays.sock.id())["tcp_state"].as_str()),
        (conid, Some("close-wait"))
    );
    // The next agent has programs of its own, in the place of those before.
    let second = links(&agent);
    for link in first {
        assert!(!second.contains(&link));
        wait_until("those before are gone", SOON, || !bpftool::has_link(link));
    }
    stays.program.close(stays.sock);
    wait_until("the entry is gone", SOON, || agent.code(&stays.sock.id()) == -1);

    agent.cli_stdout(&["detach"]);
    agent.running().wait(SOON);
    for link in second {
        wait_until("they are detached", SOON, || !bpftool::has_link(link));
    }
}

#[test]
fn what_is_followed_at_the_tracepoint_stays_so_under_the_next_agent() {
    let lab = Lab::new();
    let mut line = lab.outbound("127.0.0.1");
    let mut agent = lab.agent().arguments(&AT_TRACEPOINT).start();
    agent.stop(Signal::TERM);
    // This one is not told how, nor to take anything in.
    let next = lab.agent().pins(agent.pins().to_owned()).arguments(&["--adopt", "off"]).start();
    assert_eq!((follow(&next), next.code(&line.sock.id())), ("tracepoint".to_owned(), 1));
    line.program.reset(line.sock);
    wait_until("the entry is gone", SOON, || next.code(&line.sock.id()) == -1);
}
