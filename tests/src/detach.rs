//! After `detach` it is as if there had never been an agent.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::peer::{KEEPALIVE, KEEPIDLE};
use crate::harness::ss;
use crate::harness::wait::{SOON, wait_to_see, wait_until};

const RULES: &str = r#"
[[rule]]
name = "all"
keepalive = { idle = "60s", count = 5, interval = "7s" }
user_timeout = "95s"
lifetime = { max_age = "1h" }
"#;

#[test]
fn detach_leaves_nothing_behind() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(RULES).start();
    let mut line = lab.outbound("127.0.0.1");
    // A program with options of its own, and one with an override.
    line.program.listen("127.0.0.1");
    let (overridden, _far) = Lab::another(&mut line);
    agent.keepalive(&overridden.id(), 33, 3, 3);
    assert_eq!(bpftool::attached(lab.cgroup.path()).len(), 2);
    assert_eq!(bpftool::links(lab.cgroup.id()), 2);
    let (wanted, also) = (Options::on(60, 5, 7, 95_000), Options::on(33, 3, 3, 95_000));
    assert_eq!((line.program.options(line.sock), line.program.options(overridden)), (wanted, also));

    agent.cli_stdout(&["detach"]);
    let status = agent.running().wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", agent.log());
    assert!(!agent.pins().exists(), "{} is left", agent.pins().display());
    assert!(!agent.socket().exists());
    assert!(bpftool::attached(lab.cgroup.path()).is_empty());
    assert_eq!(bpftool::links(lab.cgroup.id()), 0);
    // Connections live on, with the options that their programs gave them.
    for sock in [line.sock, overridden] {
        assert_eq!(line.program.options(sock), Options::DEFAULT);
        assert_eq!(ss::socket(&lab.ns, sock.cookie).unwrap().timer, None);
        assert!(line.program.is_quiet(sock));
    }
    // New ones get nothing.
    let (sock, _far) = Lab::another(&mut line);
    assert_eq!(line.program.options(sock), Options::DEFAULT);
}

#[test]
fn options_that_a_program_had_itself_come_back() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let own = serde_json::json!([[KEEPALIVE[0], KEEPALIVE[1], 1], [KEEPIDLE[0], KEEPIDLE[1], 1234]]);
    let sock = program.connect_with(listener.local, &serde_json::json!({ "options": own })).unwrap();
    assert_eq!(program.options(sock), Options::on(60, 5, 7, 95_000));
    agent.cli_stdout(&["detach"]);
    assert_eq!(program.options(sock), Options::on(1234, 9, 75, 0));
}

#[test]
fn an_agent_after_a_detach_begins_anew() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(RULES).start();
    let mut line = lab.outbound("127.0.0.1");
    agent.cli_stdout(&["detach"]);
    assert_eq!(agent.running().wait(Duration::from_secs(10)).code(), Some(0));
    agent.forget();
    agent.start_again();
    assert_eq!(agent.get("/v1/status").ok()["resumed"], false);
    let (sock, _far) = Lab::another(&mut line);
    assert_eq!(line.program.options(sock), Options::on(60, 5, 7, 95_000));
    assert_eq!(agent.code(&sock.id()), 1);
}

#[test]
fn it_is_done_without_an_agent_too() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(RULES).start();
    let line = lab.outbound("127.0.0.1");
    agent.stop(Signal::KILL);
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 7, 95_000));
    let pins = agent.pins().to_str().unwrap().to_owned();
    agent.cli_stdout(&["detach", "--pins", &pins]);
    assert!(!agent.pins().exists());
    assert!(bpftool::attached(lab.cgroup.path()).is_empty());
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
}

#[test]
fn it_does_not_disturb_other_programs_of_the_cgroup() {
    // Another agent stands for any other sockops program.
    let lab = Lab::new();
    let other_socket = lab.directory.path().join("other.sock");
    let other = lab.agent().socket(other_socket).start();
    let agent = lab.agent().rules(RULES).start();
    // Only one of them has rules to uphold at setsockopt(2).
    assert_eq!(bpftool::attached(lab.cgroup.path()).len(), 3);
    let line = lab.outbound("127.0.0.1");
    assert_eq!((agent.code(&line.sock.id()), other.code(&line.sock.id())), (1, 1));
    agent.cli_stdout(&["detach"]);
    wait_until("one agent's are gone", SOON, || bpftool::attached(lab.cgroup.path()).len() == 1);
    // The other still hears of its connection's states.
    let mut line = line;
    line.outsider.shutdown(line.far);
    wait_to_see("the code", &-2, || other.code(&line.sock.id()));
}
