//! States: the transitions of real connections in order, and each code reached by a real socket.

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::netns::FAST_OPEN;
use crate::harness::peer::{MPTCP, Sock};
use crate::harness::wait::{SOON, wait_to_see, wait_until};
use crate::harness::{require, ss};

/// A state as each place names it: the answer to the question for it, the list, the map.
struct State {
    code: i64,
    name: &'static str,
    tcp_state: &'static str,
    variant: &'static str,
}

const SYN_SENT: State = State { code: 3, name: "connecting", tcp_state: "syn-sent", variant: "SynSent" };
const SYN_RECV: State = State { code: 2, name: "accepting", tcp_state: "syn-recv", variant: "SynRecv" };
const LISTEN: State = State { code: 2, name: "accepting", tcp_state: "listen", variant: "Listen" };
const ESTABLISHED: State = State { code: 1, name: "ok", tcp_state: "established", variant: "Established" };
const CLOSE_WAIT: State = State { code: -2, name: "eof", tcp_state: "close-wait", variant: "CloseWait" };
const FIN_WAIT_2: State = State { code: -2, name: "eof", tcp_state: "fin-wait-2", variant: "FinWait2" };
const FIN_WAIT_1: State = State { code: -2, name: "eof", tcp_state: "fin-wait-1", variant: "FinWait1" };
const LAST_ACK: State = State { code: -2, name: "eof", tcp_state: "last-ack", variant: "LastAck" };

/// Waits until the connection is in `state`, in the answer, in the list, in the map and on the command line.
fn assert_reaches(agent: &Agent, sock: Sock, state: &State) {
    let State { code, name, tcp_state, variant } = *state;
    let alive = code >= 1;
    let conid = agent.conid(&sock.id());
    let expected = json!({ "conid": conid, "code": code, "name": name, "tcp_state": tcp_state, "alive": alive });
    wait_to_see("the state", &expected, || agent.state(&conid.to_string()));
    let listed: Vec<_> = agent.list("").into_iter().filter(|one| one["conid"] == conid).collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["state"], &listed[0]["cookie"]), (&json!(tcp_state), &json!(sock.cookie)));
    let detail = agent.connection(&conid.to_string());
    assert_eq!((&detail["code"], &detail["code_name"]), (&json!(code), &json!(name)));
    let (cookie, entry) = agent.map().remove(&conid).expect("the map has it");
    assert_eq!((cookie, &entry["state"]), (sock.cookie, &json!(variant)));
    assert_eq!(bpftool::conids(agent.pins()).get(&conid), Some(&sock.cookie));
    let answer = agent.cli(&["alive", &conid.to_string()]);
    assert_eq!(answer.status.code(), Some(if alive { 0 } else { 1 }));
}

/// Waits until nothing is left of the connection `conid` anywhere.
fn assert_ends(agent: &Agent, conid: u64) {
    let id = conid.to_string();
    wait_to_see("the state", &json!({ "code": -1, "name": "none", "alive": false }), || agent.state(&id));
    agent.get(&format!("/v1/connections/{id}")).problem(404, "no_such_connection");
    assert!(agent.list("").iter().all(|one| one["conid"] != conid));
    assert!(!agent.map().contains_key(&conid));
    assert!(!bpftool::conids(agent.pins()).contains_key(&conid));
    assert!(!bpftool::overrides(agent.pins()).contains_key(&conid));
    assert_eq!(agent.cli(&["alive", &id]).status.code(), Some(1));
}

#[test]
fn a_connection_goes_through_all_states_to_a_normal_close_by_the_peer() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let port = listener.local.port();
    lab.ns.filter(&[&format!("tcp dport {port} drop")]);
    let sock = program.begin_connect(listener.local);
    let conid = agent.conid(&sock.id());
    assert_reaches(&agent, sock, &SYN_SENT);
    lab.ns.filter(&[]);
    program.connected(sock).unwrap();
    assert_reaches(&agent, sock, &ESTABLISHED);
    let far = outsider.accept(listener);
    // A policy of its own, to see that this goes too.
    agent.keepalive(&conid.to_string(), 60, 5, 5);
    outsider.close(far);
    assert_reaches(&agent, sock, &CLOSE_WAIT);
    // Without the last acknowledgement.
    lab.ns.filter(&[&format!("tcp sport {port} drop")]);
    let since = agent.connection(&conid.to_string())["state_seconds"].as_f64().unwrap();
    assert!(since < 10.0, "{since}");
    program.shutdown(sock);
    assert_reaches(&agent, sock, &LAST_ACK);
    lab.ns.filter(&[]);
    assert_ends(&agent, conid);
}

#[test]
fn a_connection_goes_through_all_states_to_a_normal_close_by_the_program() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.inbound("::1");
    let conid = agent.conid(&line.sock.id());
    assert_reaches(&agent, line.sock, &ESTABLISHED);
    lab.ns.filter(&[&format!("tcp sport {} drop", line.far.local.port())]);
    line.program.shutdown(line.sock);
    assert_reaches(&agent, line.sock, &FIN_WAIT_1);
    lab.ns.filter(&[]);
    assert_reaches(&agent, line.sock, &FIN_WAIT_2);
    line.outsider.close(line.far);
    // What follows, TIME_WAIT, is no connection any more.
    assert_ends(&agent, conid);
    wait_until("the socket waits", SOON, || {
        ss::sockets(&lab.ns)
            .values()
            .any(|socket| socket.state == "TIME-WAIT" && socket.remote == line.far.local.to_string())
    });
    assert_eq!(agent.code(&line.sock.id()), -1);
}

#[test]
fn a_reset_ends_a_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    assert_reaches(&agent, line.sock, &ESTABLISHED);
    line.outsider.reset(line.far);
    assert_ends(&agent, conid);
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNRESET");

    // The other way round.
    let (sock, far) = Lab::another(&mut line);
    let conid = agent.conid(&sock.id());
    line.program.reset(sock);
    assert_ends(&agent, conid);
    assert_eq!(line.outsider.receive(far).unwrap_err(), "ECONNRESET");
}

#[test]
fn a_refusal_ends_an_attempt() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    lab.ns.filter(&["tcp dport 7001 drop"]);
    let sock = program.begin_connect(([127, 0, 0, 1], 7001).into());
    let conid = agent.conid(&sock.id());
    assert_reaches(&agent, sock, &SYN_SENT);
    // Nobody listens; the next SYN gets the reset.
    lab.ns.filter(&[]);
    assert_eq!(program.connected(sock).unwrap_err(), "ECONNREFUSED");
    assert_ends(&agent, conid);
}

#[test]
fn a_listener_is_accepting_until_it_is_closed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    let listener = program.listen("127.0.0.1");
    let conid = agent.conid(&listener.id());
    assert_reaches(&agent, listener, &LISTEN);
    let said = agent.connection(&conid.to_string());
    assert_eq!((&said["direction"], said.get("remote")), (&json!("listen"), None));
    program.close(listener);
    assert_ends(&agent, conid);
}

#[test]
fn a_half_open_handshake_is_accepting() {
    let lab = Lab::new();
    lab.ns.sysctl("net.ipv4.tcp_fastopen", FAST_OPEN);
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.1");
    // The SYN comes through, what follows from the client does not.
    lab.ns.filter(&[&format!("tcp dport {} tcp flags & syn == 0 drop", listener.local.port())]);
    let far = outsider.connect_with(listener.local, &json!({ "data": "hello" })).unwrap();
    let sock = program.accept(listener);
    assert_eq!(ss::socket(&lab.ns, sock.cookie).unwrap().state, "SYN-RECV");
    assert_reaches(&agent, sock, &SYN_RECV);
    lab.ns.filter(&[]);
    outsider.send(far, "more");
    assert_reaches(&agent, sock, &ESTABLISHED);
}

#[test]
fn data_that_nobody_acknowledges_is_an_error() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    assert_reaches(&agent, line.sock, &ESTABLISHED);
    lab.ns.filter(&[&format!("tcp dport {} drop", line.far.local.port())]);
    line.program.send(line.sock, "is anybody there?");
    let expected = json!({ "conid": conid, "code": -3, "name": "error", "tcp_state": "established", "alive": false });
    wait_to_see("the state", &expected, || agent.state(&conid.to_string()));
    let info = agent.connection(&conid.to_string());
    assert!(info["tcp_info"]["backoff"].as_u64().unwrap() > 0, "{info}");
    assert!(info["tcp_info"]["unacked"].as_u64().unwrap() > 0, "{info}");
    assert_eq!(agent.cli(&["alive", &conid.to_string()]).status.code(), Some(1));
    // To ask has changed nothing: when the line is mended, so is the connection.
    lab.ns.filter(&[]);
    wait_to_see("the code", &1, || agent.code(&conid.to_string()));
    assert_eq!(line.outsider.receive(line.far).unwrap(), "is anybody there?");
}

#[test]
fn a_socket_that_fits_nothing_is_bad() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "protocol": MPTCP }));
    let sock = program.connect_with(listener.local, &json!({ "protocol": MPTCP })).unwrap();
    // Its descriptor is not the TCP socket that the kernel programs see.
    let path = format!("/v1/connections/fd:{}/state", sock.fd);
    let said = program.http(agent.socket(), "GET", &path, None).ok();
    assert_eq!(said, json!({ "code": -4, "name": "bad", "alive": false }));
}

#[test]
fn what_is_not_known_is_none() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut outsider = lab.outsider();
    let listener = outsider.listen("127.0.0.1");
    let none = json!({ "code": -1, "name": "none", "alive": false });
    for id in ["1", "18446744073709551615", "cookie:1", &listener.id(), "remote:192.0.2.7:5060"] {
        assert_eq!(agent.state(id), none, "{id}");
        let command = agent.cli(&["state", id]);
        assert_eq!(String::from_utf8_lossy(&command.stdout).split_whitespace().next(), Some("-1"), "{command:?}");
    }
    assert_eq!(agent.list(""), [] as [Value; 0]);
}

#[test]
fn conids_count_from_one_and_are_never_used_twice() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    assert_eq!(agent.conid(&line.sock.id()), 1);
    line.program.reset(line.sock);
    assert_ends(&agent, 1);
    for expected in 2..6 {
        let (sock, _far) = Lab::another(&mut line);
        assert_eq!(agent.conid(&sock.id()), expected);
        line.program.reset(sock);
        assert_ends(&agent, expected);
    }
}

#[test]
fn a_socket_that_connects_to_itself_is_one_connection() {
    let lab = Lab::new();
    // Both ends send their SYN at once: from SYN_SENT over SYN_RECV.
    lab.ns.sysctl("net.ipv4.ip_local_port_range", "7001 7001");
    let agent = lab.agent().start();
    let mut program = lab.program();
    let sock = program.connect(([127, 0, 0, 1], 7001).into());
    assert_eq!(sock.local, sock.remote());
    assert_reaches(&agent, sock, &ESTABLISHED);
    assert_eq!(agent.map().len(), 1);
    let conid = agent.conid(&sock.id());
    program.reset(sock);
    assert_ends(&agent, conid);
}

#[test]
fn a_connection_that_its_program_has_left_is_tracked_to_its_end() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    // It closes, and the end of the stream is not acknowledged. (When it is, what is left is as good as TIME_WAIT.)
    lab.ns.filter(&[&format!("tcp sport {} drop", line.far.local.port())]);
    line.program.close(line.sock);
    assert_reaches(&agent, line.sock, &FIN_WAIT_1);
    lab.ns.filter(&[]);
    assert_ends(&agent, conid);
    line.outsider.close(line.far);
}

#[test]
fn connections_end_with_their_program() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let (second, _far) = Lab::another(&mut line);
    let conids = [line.sock, second].map(|sock| agent.conid(&sock.id()));
    drop(line.program);
    line.outsider.close(line.far);
    assert_ends(&agent, conids[0]);
    drop(line.outsider);
    assert_ends(&agent, conids[1]);
    assert!(agent.map().is_empty());
}
