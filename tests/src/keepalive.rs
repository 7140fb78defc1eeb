//! Keepalive: set by a rule at the handshake.

use std::net::TcpStream;
use std::process::Stdio;

use serde_json::json;

use crate::harness::command::Running;
use crate::harness::lab::{Lab, Line};
use crate::harness::options::{Options, options_by_cookie};
use crate::harness::peer::{KEEPALIVE, USER_TIMEOUT};
use crate::harness::wait::{SOON, wait_for};
use crate::harness::{require, ss};

const RULES: &str = r#"
[[rule]]
name = "all"
keepalive = { idle = "60s", count = 5, interval = "7s" }
user_timeout = "95s"
"#;
const WANTED: Options = Options::on(60, 5, 7, 95_000);
const HOSTS: [&str; 2] = ["127.0.0.1", "::1"];

/// The program's socket has what the rule wants, with the timer running; the other side's has what it had.
fn assert_set(lab: &Lab, line: &Line) {
    assert_eq!(line.program.options(line.sock), WANTED);
    let seen = ss::socket(&lab.ns, line.sock.cookie).expect("ss shows it");
    let (kind, left) = seen.timer.expect("a timer runs");
    assert_eq!(kind, "keepalive");
    assert!(["60sec", "59sec", "1min"].iter().any(|time| left.starts_with(time)) || left.starts_with("58"), "{left}");
    assert_untouched(lab, line);
}

fn assert_untouched(lab: &Lab, line: &Line) {
    assert_eq!(line.outsider.options(line.far), Options::DEFAULT);
    assert_eq!(ss::socket(&lab.ns, line.far.cookie).expect("ss shows it").timer, None);
}

#[test]
fn a_rule_sets_it_on_outbound_connections_of_both_families() {
    let lab = Lab::new();
    let _agent = lab.agent().rules(RULES).start();
    for host in HOSTS {
        assert_set(&lab, &lab.outbound(host));
    }
}

#[test]
fn a_rule_sets_it_on_inbound_connections_of_both_families() {
    let lab = Lab::new();
    let _agent = lab.agent().rules(RULES).start();
    for host in HOSTS {
        assert_set(&lab, &lab.inbound(host));
    }
}

#[test]
fn a_rule_sets_it_on_ipv4_connections_of_ipv6_sockets() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());

    let listener = program.listen_with(&json!({ "host": "::", "dual": true }));
    let far = outsider.connect(([127, 0, 0, 1], listener.local.port()).into());
    let sock = program.accept(listener);
    assert!(sock.local.is_ipv6(), "the socket is of the other family: {sock:?}");
    assert_eq!(program.options(sock), WANTED);
    let said = agent.connection(&sock.id());
    assert_eq!((&said["family"], &said["local"]), (&json!("ipv4"), &json!(far.remote().to_string())));

    let far_listener = outsider.listen("127.0.0.1");
    let mapped = format!("[::ffff:127.0.0.1]:{}", far_listener.local.port()).parse().unwrap();
    let sock = program.connect(mapped);
    assert_eq!(program.options(sock), WANTED);
    let said = agent.connection(&sock.id());
    assert_eq!((&said["family"], &said["remote"]), (&json!("ipv4"), &json!(far_listener.local.to_string())));
}

#[test]
fn a_rule_sets_it_for_netcat() {
    let lab = Lab::new();
    let _agent = lab.agent().rules(RULES).start();
    let mut command = lab.cgroup.command(require::tool("nc"));
    command.args(["-n", "-l", "127.0.0.1", "7007"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let server = Running(lab.ns.spawn(&mut command));
    let connect = || lab.ns.run(|| TcpStream::connect("127.0.0.1:7007").ok());
    let stream = wait_for("netcat listens", SOON, connect);
    let local = stream.local_addr().unwrap().to_string();
    let theirs = || ss::sockets(&lab.ns).into_values().find(|socket| socket.remote == local);
    let seen = wait_for("netcat has the connection", SOON, theirs);
    assert_eq!(seen.timer_kind(), Some("keepalive"));
    assert_eq!(options_by_cookie(server.pid(), seen.cookie), WANTED);
}

#[test]
fn programs_outside_the_cgroup_are_untouched() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let (mut one, mut other) = (lab.outsider(), lab.outsider());
    let listener = one.listen("127.0.0.1");
    let sock = other.connect(listener.local);
    let far = one.accept(listener);
    assert_eq!(other.options(sock), Options::DEFAULT);
    assert_eq!(one.options(far), Options::DEFAULT);
    assert_eq!(agent.list(""), [] as [serde_json::Value; 0]);
    assert!(agent.map().is_empty());
}

#[test]
fn without_rules_nothing_is_changed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let line = lab.outbound("127.0.0.1");
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
    assert_untouched(&lab, &line);
    let said = agent.connection(&line.sock.id());
    assert_eq!(said["state"], "established");
    for part in ["rule", "wanted", "lifetime", "result"] {
        assert_eq!(said["policy"].get(part), None, "{said}");
    }
}

#[test]
fn what_a_rule_does_not_speak_of_stays_as_the_program_set_it() {
    let rules = r#"
        [[rule]]
        name = "keepalive only"
        match = { remote_port = 7001 }
        keepalive = { idle = "60s", count = 5, interval = "7s" }
        [[rule]]
        name = "user timeout only"
        match = { remote_port = 7002 }
        user_timeout = "30s"
        [[rule]]
        name = "off"
        match = { remote_port = 7003 }
        keepalive = "off"
    "#;
    let lab = Lab::new();
    let _agent = lab.agent().rules(rules).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let mut options = |port: u16| {
        let listener = outsider.listen_with(&json!({ "host": "127.0.0.1", "port": port }));
        let own = [KEEPALIVE, USER_TIMEOUT].into_iter().zip([1, 12_345]);
        let own: Vec<_> = own.map(|([level, option], value)| json!([level, option, value])).collect();
        let sock = program.connect_with(listener.local, &json!({ "options": own })).unwrap();
        program.options(sock)
    };
    assert_eq!(options(7001), Options::on(60, 5, 7, 12_345));
    assert_eq!(options(7002), Options::on(7200, 9, 75, 30_000));
    assert_eq!(options(7003), Options { user_timeout_ms: 12_345, ..Options::DEFAULT });
    assert_eq!(options(7004), Options::on(7200, 9, 75, 12_345));
}

#[test]
fn the_user_timeout_goes_with_the_probes_by_itself() {
    // idle + interval * count, as kernel people advise: 60 + 7 * 5.
    let rules = r#"
        [[rule]]
        name = "auto"
        keepalive = { idle = "60s", count = 5, interval = "7s" }
        user_timeout = "auto"
    "#;
    let lab = Lab::new();
    let _agent = lab.agent().rules(rules).start();
    let line = lab.outbound("127.0.0.1");
    assert_eq!(line.program.options(line.sock), WANTED);
}

#[test]
fn the_answer_tells_rule_result_and_what_was_there_before() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let line = lab.outbound("127.0.0.1");
    let policy = &agent.connection(&line.sock.id())["policy"];
    assert_eq!(policy["rule"], "all");
    assert_eq!(policy["keepalive_source"], "rule");
    assert_eq!(policy["wanted"], WANTED.json());
    assert_eq!(policy["result"]["outcome"], "applied");
    assert_eq!(policy["result"]["in_force"], WANTED.json());
    assert_eq!(policy["result"]["original"], Options::DEFAULT.json());
}
