//! Closing on request.

use serde_json::json;

use crate::harness::bpftool;
use crate::harness::lab::Lab;

#[test]
fn a_connection_is_closed_once() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for mut line in [lab.outbound("127.0.0.1"), lab.inbound("::1")] {
        let conid = agent.conid(&line.sock.id());
        let path = format!("/v1/connections/{conid}");
        assert_eq!(agent.delete(&path).ok(), json!({ "conid": conid }));
        assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
        assert_eq!(line.outsider.receive(line.far).unwrap_err(), "ECONNRESET");
        assert_eq!(agent.code(&conid.to_string()), -1);
        agent.delete(&path).problem(404, "no_such_connection");
        assert!(!agent.map().contains_key(&conid));
        assert!(!bpftool::conids(agent.pins()).contains_key(&conid));
    }
}

#[test]
fn the_command_closes() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    agent.cli_stdout(&["close", &line.sock.id()]);
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    assert_eq!(agent.cli(&["close", &line.sock.id()]).status.code(), Some(4));
}

#[test]
fn a_listener_is_not_closed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.1");
    let id = listener.id();
    let by_endpoint = format!("local:{}", listener.local);
    for id in [&id, &by_endpoint] {
        agent.delete(&format!("/v1/connections/{id}")).problem(409, "not_closable");
    }
    outsider.connect(listener.local);
    program.accept(listener);
    assert_eq!(agent.code(&id), 2);
}

#[test]
fn a_handshake_under_way_is_closed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    lab.ns.filter(&["tcp dport 7001 drop"]);
    let sock = program.begin_connect(([127, 0, 0, 1], 7001).into());
    agent.delete(&format!("/v1/connections/{}", sock.id())).ok();
    assert_eq!(program.connected(sock).unwrap_err(), "ECONNABORTED");
    assert_eq!(agent.code(&sock.id()), -1);
}

#[test]
fn a_descriptor_that_connects_again_is_another_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let first = agent.conid(&line.sock.id());
    agent.keepalive(&first.to_string(), 60, 5, 5);
    let listener = line.outsider.listen("127.0.0.1");
    let again = line.program.reconnect(line.sock, listener.local);
    assert_eq!(again.cookie, line.sock.cookie);

    let second = agent.conid(&again.id());
    assert!(second > first, "{second} after {first}");
    assert_eq!(agent.code(&first.to_string()), -1);
    assert_eq!(agent.code(&second.to_string()), 1);
    // What names the first does not reach the second.
    agent.delete(&format!("/v1/connections/{first}")).problem(404, "no_such_connection");
    assert!(line.program.is_quiet(again));
    assert!(bpftool::overrides(agent.pins()).is_empty());
    assert_eq!(agent.map().into_keys().collect::<Vec<_>>(), [second]);
    agent.delete(&format!("/v1/connections/{second}")).ok();
    assert_eq!(line.program.receive(again).unwrap_err(), "ECONNABORTED");
}

#[test]
fn a_descriptor_that_is_only_disconnected_is_no_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    line.program.disconnect(line.sock);
    assert_eq!(agent.code(&conid.to_string()), -1);
    assert_eq!(agent.code(&line.sock.id()), -1);
    assert!(agent.map().is_empty());
}
