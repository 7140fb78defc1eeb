//! Policies pushed onto connections that are already open.

use serde_json::json;

use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::{KEEPALIVE, USER_TIMEOUT};
use crate::harness::ss;

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
    assert_eq!(agent.connection(&line.sock.id())["policy"]["options_source"], "override");

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
