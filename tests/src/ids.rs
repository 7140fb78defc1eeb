//! How a connection is named: conid, cookie, endpoints, the caller's own descriptor.

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::Sock;
use crate::harness::require;
use crate::harness::wait::{SOON, wait_until};

#[test]
fn every_name_leads_to_the_same_connection() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    // Something else, so that a name which is ignored would show.
    let _others = [lab.outbound("127.0.0.1"), lab.inbound("::1")];
    for line in [lab.outbound("127.0.0.1"), lab.outbound("::1")] {
        let conid = agent.conid(&line.sock.id());
        let (local, remote) = (line.sock.local, line.sock.remote());
        for id in [
            conid.to_string(),
            format!("cookie:{}", line.sock.cookie),
            format!("remote:{remote}"),
            format!("local:{local}"),
            format!("local:{local}+remote:{remote}"),
            format!("remote:{remote}+local:{local}"),
        ] {
            let said = agent.connection(&id.replace('[', "%5B").replace(']', "%5D"));
            assert_eq!((&said["conid"], &said["cookie"]), (&json!(conid), &json!(line.sock.cookie)), "{id}");
            assert_eq!(agent.cli_json(&["conn", "show", &id])["conid"], conid, "{id}");
            assert_eq!(agent.cli_json(&["state", &id])["conid"], conid, "{id}");
        }
    }
}

#[test]
fn endpoints_that_fit_several_are_refused_with_the_list() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let socks = [program.connect(listener.local), program.connect(listener.local)];
    let id = format!("remote:{}", listener.local);
    let mut expected = socks.map(|sock| {
        let (conid, local, remote) = (agent.conid(&sock.id()), sock.local.to_string(), listener.local.to_string());
        json!({ "conid": conid, "local": local, "remote": remote })
    });
    expected.sort_by_key(|one| one["conid"].as_u64());
    for (method, path, body) in [
        ("GET", format!("/v1/connections/{id}"), None),
        ("GET", format!("/v1/connections/{id}/state"), None),
        ("DELETE", format!("/v1/connections/{id}"), None),
        ("DELETE", format!("/v1/connections/{id}/lifetime"), None),
        ("PUT", format!("/v1/connections/{id}/lifetime"), Some(json!({ "idle_seconds": 1 }))),
    ] {
        let problem = agent.api(method, &path, body.as_ref()).problem(409, "ambiguous");
        let mut matches = problem["matches"].as_array().cloned().expect("it lists them");
        matches.sort_by_key(|one| one["conid"].as_u64());
        assert_eq!(matches, expected, "{method} {path}");
    }
    assert_eq!(agent.cli(&["close", &id]).status.code(), Some(1));
    assert!(socks.iter().all(|sock| program.is_quiet(*sock)), "a connection was touched");
    // With the other end it is one.
    let one = format!("{id}+local:{}", socks[0].local);
    assert_eq!(agent.connection(&one)["cookie"], socks[0].cookie);
}

#[test]
fn a_kernel_that_cannot_tell_whose_descriptor_it_is_is_named() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    let mut program = line.program;
    let answer = program.http(agent.socket(), "GET", &format!("/v1/connections/fd:{}", line.sock.fd), None);
    if require::has_descriptors_of_peers() {
        assert_eq!(answer.ok()["cookie"], line.sock.cookie);
    } else {
        let said = answer.problem(400, "invalid_request");
        assert!(said["detail"].as_str().unwrap().contains("Linux 6.5"), "{said}");
    }
}

#[test]
fn a_program_names_its_connection_by_its_own_descriptor() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    let path = |rest: &str| format!("/v1/connections/fd:{}{rest}", line.sock.fd);
    let program = &mut line.program;
    assert_eq!(program.http(agent.socket(), "GET", &path(""), None).ok()["conid"], conid);
    let state = program.http(agent.socket(), "GET", &path("/state"), None).ok();
    assert_eq!((&state["conid"], &state["code"]), (&json!(conid), &json!(1)));
    let body = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let answer = program.http(agent.socket(), "PUT", &path("/keepalive"), Some(&body)).ok();
    assert_eq!((&answer["conid"], &answer["keepalive"]), (&json!(conid), &json!(true)));
    assert_eq!(program.options(line.sock), Options::on(60, 5, 5, 0));
    let body = json!({ "idle_seconds": 60 });
    assert_eq!(program.http(agent.socket(), "PUT", &path("/lifetime"), Some(&body)).ok()["conid"], conid);
    assert_eq!(program.http(agent.socket(), "DELETE", &path(""), None).ok(), json!({ "conid": conid }));
    assert_eq!(program.receive(line.sock).unwrap_err(), "ECONNABORTED");
}

#[test]
fn a_command_names_a_connection_by_a_descriptor_that_it_inherits() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.inbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    let (binary, socket) = (require::tcpops(), agent.socket().to_str().unwrap());
    let id = format!("fd:{}", line.sock.fd);
    let common = [binary.to_str().unwrap(), "--socket", socket, "-o", "json"];
    let mut run = |arguments: &[&str]| line.program.run(&[&common[..], arguments].concat(), &[line.sock]);
    let (status, stdout, stderr) = run(&["state", &id]);
    assert_eq!(status, 0, "{stderr}");
    let said: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&said["conid"], &said["code"]), (&json!(conid), &json!(1)));
    let (status, _, stderr) = run(&["keepalive", "enable", &id, "--idle", "60s", "--count", "5", "--interval", "5s"]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0));
}

#[test]
fn a_descriptor_that_is_no_connection_is_refused() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    // Standard input is a pipe; 999 is nothing.
    for fd in [0, 999] {
        let answer = program.http(agent.socket(), "GET", &format!("/v1/connections/fd:{fd}"), None);
        let detail = answer.problem(answer.status, answer.json()["code"].as_str().unwrap());
        assert!([400, 404].contains(&answer.status), "{detail}");
        assert!(detail["detail"].as_str().unwrap().contains(&fd.to_string()), "{detail}");
    }
    // A socket that the agent does not track.
    let mut outsider = lab.outsider();
    let listener = outsider.listen("127.0.0.1");
    let path = format!("/v1/connections/fd:{}", listener.fd);
    outsider.http(agent.socket(), "DELETE", &path, None).problem(404, "no_such_connection");
}

#[test]
fn unknown_connections_are_not_found() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    for id in ["999", "cookie:999", "remote:192.0.2.7:5060", "local:127.0.0.1:1+remote:127.0.0.1:2"] {
        let path = |rest: &str| format!("/v1/connections/{id}{rest}");
        agent.get(&path("")).problem(404, "no_such_connection");
        agent.put(&path("/keepalive"), &keepalive).problem(404, "no_such_connection");
        agent.delete(&path("/keepalive")).problem(404, "no_such_connection");
        agent.put(&path("/lifetime"), &json!({ "idle_seconds": 1 })).problem(404, "no_such_connection");
        agent.delete(&path("/lifetime")).problem(404, "no_such_connection");
        agent.delete(&path("")).problem(404, "no_such_connection");
        assert_eq!(agent.cli(&["conn", "show", id]).status.code(), Some(4));
        assert_eq!(agent.cli(&["close", id]).status.code(), Some(4));
    }
}

#[test]
fn names_and_pages_follow_what_comes_and_goes_between_them() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listeners = [outsider.listen("127.0.0.1"), outsider.listen("::1")];
    let by_peer = |sock: Sock| format!("remote:{}", sock.remote()).replace('[', "%5B").replace(']', "%5D");
    let by_both =
        |sock: Sock| format!("local:{}+{}", sock.local, by_peer(sock)).replace('[', "%5B").replace(']', "%5D");
    let pages = |agent: &Agent| {
        let (mut conids, mut query) = (Vec::new(), "?limit=2".to_owned());
        loop {
            let page = agent.get(&format!("/v1/connections{query}")).ok();
            let connections = page["connections"].as_array().expect("a list");
            conids.extend(connections.iter().map(|connection| connection["conid"].as_u64().expect("a conid")));
            let Some(next) = page["next"].as_u64() else { return conids };
            assert_eq!((connections.len(), conids.last()), (2, Some(&next)));
            query = format!("?limit=2&cursor={next}");
        }
    };
    // The first of these look-ups reads all connections, and the later ones only what is new.
    assert_eq!(agent.state("remote:127.0.0.1:9")["code"], -1);
    let (mut there, mut socks) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let sock = program.connect(listeners[round % 2].local);
        outsider.accept(listeners[round % 2]);
        let conid = agent.conid(&sock.id());
        assert_eq!(agent.state(&by_both(sock))["conid"], conid, "one that has just come");
        if round < 2 {
            assert_eq!(agent.state(&by_peer(sock))["conid"], conid);
        } else {
            let several = agent.get(&format!("/v1/connections/{}", by_peer(sock))).problem(409, "ambiguous");
            assert_eq!(several["matches"].as_array().map(Vec::len), Some(round / 2 + 1), "{several}");
        }
        there.push(conid);
        socks.push(sock);
        assert_eq!(pages(&agent), there);
    }
    for round in 0..4 {
        agent.delete(&format!("/v1/connections/{}", there.remove(0))).ok();
        let gone = socks.remove(0);
        wait_until("it is gone", SOON, || agent.list("").len() == there.len());
        assert_eq!(agent.state(&by_both(gone))["code"], -1);
        assert_eq!(pages(&agent), there, "after {round}");
    }
    assert_eq!(agent.state(&by_peer(socks[0]))["conid"], there[0], "it is the only one again");
}

#[test]
fn names_that_cannot_be_understood_say_what_was_expected() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for id in [
        "abc",
        "-1",
        "0x10",
        "1.5",
        "cookie:",
        "cookie:x",
        "fd:-1",
        "fd:x",
        "remote:host:80",
        "remote:1.2.3.4",
        "remote:1.2.3.4:99999",
        "local:1.2.3.4:1+local:1.2.3.4:2",
        "local:1.2.3.4:1+",
        "18446744073709551616",
        "%00",
        "%FF",
    ] {
        for part in ["", "/state"] {
            let problem = agent.get(&format!("/v1/connections/{id}{part}")).problem(400, "invalid_request");
            assert!(problem["detail"].as_str().unwrap().contains("expected"), "{problem}");
        }
    }
}
