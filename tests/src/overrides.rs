//! Overrides of connections that are already open.

use std::thread;

use serde_json::json;

use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::{KEEPALIVE, MPTCP, Sock, USER_TIMEOUT};
use crate::harness::{require, ss};

#[test]
fn keepalive_is_changed_on_an_idle_open_connection_and_then_removed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for line in [lab.outbound("127.0.0.1"), lab.inbound("::1")] {
        let conid = agent.conid(&line.sock.id());
        assert_eq!(line.program.options(line.sock), Options::DEFAULT);

        let answer = agent.keepalive(&conid.to_string(), 61, 4, 6);
        let now = line.program.options(line.sock);
        assert_eq!(now, Options::on(61, 4, 6, 0));
        assert_eq!(answer, with_conid(conid, &now));
        assert_eq!(ss::socket(&lab.ns, line.sock.cookie).unwrap().timer_kind(), Some("keepalive"));

        // Again, with other values.
        let body =
            json!({ "idle_seconds": 32767, "count": 127, "interval_seconds": 32767, "user_timeout_ms": 2147483647 });
        let answer = agent.put(&format!("/v1/connections/{conid}/keepalive"), &body).ok();
        let now = line.program.options(line.sock);
        assert_eq!(now, Options::on(32767, 127, 32767, 2_147_483_647));
        assert_eq!(answer, with_conid(conid, &now));

        let answer = agent.delete(&format!("/v1/connections/{conid}/keepalive")).ok();
        let now = line.program.options(line.sock);
        assert!(!now.keepalive, "{now:?}");
        assert_eq!(answer, with_conid(conid, &now));
        assert_eq!(ss::socket(&lab.ns, line.sock.cookie).unwrap().timer, None);
        // The other side was never touched.
        assert_eq!(line.outsider.options(line.far), Options::DEFAULT);
    }
}

fn with_conid(conid: u64, options: &Options) -> serde_json::Value {
    let mut answer = options.json();
    answer["conid"] = json!(conid);
    answer
}

#[test]
fn the_commands_do_the_same() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    let id = line.sock.id();
    let enable = ["keepalive", "enable", &id, "--idle", "60s", "--count", "5", "--interval", "5s"];
    agent.cli_stdout(&enable);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0));
    agent.cli_stdout(&[&enable[..], &["--user-timeout", "auto"]].concat());
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 85_000));
    let printed = agent.cli_json(&[&enable[..], &["--user-timeout", "off"]].concat());
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0));
    assert_eq!(printed, with_conid(agent.conid(&id), &Options::on(60, 5, 5, 0)));
    agent.cli_stdout(&["keepalive", "disable", &id]);
    assert!(!line.program.options(line.sock).keepalive);
}

#[test]
fn a_user_timeout_that_is_left_out_stays_as_the_program_set_it() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    line.program.set(line.sock, USER_TIMEOUT, 12_345);
    agent.keepalive(&line.sock.id(), 60, 5, 5);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 12_345));
}

#[test]
fn keepalive_that_the_program_turned_on_itself_is_turned_off() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    line.program.set(line.sock, KEEPALIVE, 1);
    agent.delete(&format!("/v1/connections/{}/keepalive", line.sock.id())).ok();
    assert!(!line.program.options(line.sock).keepalive);
}

#[test]
fn a_push_wins_over_a_rule_and_new_rules_leave_it_alone() {
    let rules = |idle_s: u64| {
        format!("[[rule]]\nname = \"all\"\nkeepalive = {{ idle = \"{idle_s}s\", count = 3, interval = \"2s\" }}\n")
    };
    let lab = Lab::new();
    let agent = lab.agent().rules(&rules(100)).start();
    let mut line = lab.outbound("127.0.0.1");
    assert_eq!(line.program.options(line.sock), Options::on(100, 3, 2, 0));
    agent.keepalive(&line.sock.id(), 60, 5, 5);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0));
    assert_eq!(agent.connection(&line.sock.id())["policy"]["keepalive_source"], "override");

    let file = lab.directory.write("other.toml", &rules(200));
    agent.cli_stdout(&["rule", "apply", file.to_str().unwrap()]);
    let (sock, _far) = Lab::another(&mut line);
    assert_eq!(line.program.options(sock), Options::on(200, 3, 2, 0));
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0));
}

#[test]
fn a_push_touches_no_other_connection_of_the_same_program() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut line = lab.outbound("127.0.0.1");
    let (other, _far) = Lab::another(&mut line);
    agent.keepalive(&line.sock.id(), 60, 5, 5);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 5, 0));
    assert_eq!(line.program.options(other), Options::DEFAULT);
    assert_eq!(bpftool::overrides(agent.pins()).into_keys().collect::<Vec<_>>(), [agent.conid(&line.sock.id())]);
}

#[test]
fn overrides_of_one_connection_at_the_same_time_are_all_done() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    let id = line.sock.id();
    for round in 0..5 {
        thread::scope(|scope| {
            for number in 1..=8 {
                let (agent, id) = (&agent, &id);
                scope.spawn(move || match number % 2 {
                    0 => drop(agent.keepalive(id, 100 * round + number, 5, 5)),
                    _ => drop(agent.lifetime(id, &json!({ "idle_seconds": 1000 * round + number })).ok()),
                });
            }
        });
        // One of each kind was the last, and everybody agrees which.
        let said = &agent.connection(&id)["policy"];
        let options = line.program.options(line.sock);
        assert_eq!(said["result"]["in_force"], options.json());
        assert!((100 * round + 1..=100 * round + 8).contains(&options.idle_s), "{options:?}");
        let overridden = bpftool::overrides(agent.pins()).into_values().next().expect("it is in the map");
        assert_eq!(overridden["options"]["keepidle_s"], options.idle_s);
        let idle_s = said["lifetime"]["idle_seconds"].as_f64().expect("a lifetime is in force");
        assert_eq!(overridden["lifetime"]["idle_ns"].as_u64().map(|ns| ns as f64 / 1e9), Some(idle_s));
    }
}

#[test]
fn a_connection_that_nobody_has_accepted_yet_is_reached() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.1");
    let (far, second) = (outsider.connect(listener.local), outsider.connect(listener.local));
    let id = |far: Sock| format!("remote:{}", far.local);
    agent.keepalive(&id(far), 60, 5, 5);
    // It is closed where it waits, by request and by lifetime.
    agent.delete(&format!("/v1/connections/{}", id(far))).ok();
    assert_eq!(outsider.receive(far).unwrap_err(), "ECONNRESET");
    agent.lifetime(&id(second), &json!({ "max_age_seconds": 1 })).ok();
    assert_eq!(outsider.receive(second).unwrap_err(), "ECONNRESET");
    assert_eq!(agent.code(&listener.id()), 2);
}

#[test]
fn a_subflow_of_mptcp_is_named_as_not_closable() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "protocol": MPTCP }));
    let sock = program.connect_with(listener.local, &json!({ "protocol": MPTCP })).unwrap();
    let id = format!("local:{}", sock.local);
    assert_eq!(agent.code(&id), 1);
    agent.delete(&format!("/v1/connections/{id}")).problem(409, "not_closable");
    assert!(program.is_quiet(sock));
    if !require::has_descriptors_of_peers() {
        return;
    }
    // Its descriptor names no single TCP connection.
    let path = format!("/v1/connections/fd:{}", sock.fd);
    let answer = program.http(agent.socket(), "DELETE", &path, None);
    let detail = answer.problem(answer.status, answer.json()["code"].as_str().unwrap());
    assert!((400..500).contains(&answer.status) && detail["detail"].as_str().unwrap().contains("MPTCP"), "{detail}");
}
