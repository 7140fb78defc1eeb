//! Who wins, the rule or the program: each mode against programs that set their options before the handshake and after.

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::{Lab, Line};
use crate::harness::options::Options;
use crate::harness::peer::{KEEPALIVE, USER_TIMEOUT};

/// Level and number of TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT and TCP_CONGESTION.
const KEEPIDLE: [i32; 2] = [6, 4];
const KEEPINTVL: [i32; 2] = [6, 5];
const KEEPCNT: [i32; 2] = [6, 6];

/// What the rule wants.
const RULE: Options = Options::on(60, 5, 10, 95_000);

fn rules(mode: &str) -> Value {
    json!({ "rule": [{
        "name": "all",
        "mode": mode,
        "keepalive": { "idle": "60s", "count": 5, "interval": "10s" },
        "user_timeout": "95s",
    }] })
}

fn agent<'lab>(lab: &'lab Lab, mode: &str) -> Agent<'lab> {
    let agent = lab.agent().start();
    agent.put("/v1/rules", &rules(mode)).ok();
    agent
}

/// A program that sets options before it connects.
fn connected_with(lab: &Lab, options: &[([i32; 2], i32)]) -> Line {
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let options: Vec<_> = options.iter().map(|([level, option], value)| json!([level, option, value])).collect();
    let sock = program.connect_with(listener.local, &json!({ "options": options })).unwrap();
    let far = outsider.accept(listener);
    Line { program, sock, outsider, far }
}

fn set(line: &mut Line, options: &[([i32; 2], i32)]) {
    for (option, value) in options {
        line.program.set(line.sock, *option, *value);
    }
}

/// Takes every rule away.
fn without_rules(agent: &Agent) {
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
}

fn result(agent: &Agent, line: &Line) -> Value {
    agent.connection(&line.sock.id())["policy"]["result"].clone()
}

#[test]
fn force_wins_over_what_was_set_before() {
    let lab = Lab::new();
    let agent = agent(&lab, "force");
    let line = connected_with(&lab, &[(KEEPALIVE, 1), (KEEPIDLE, 30), (USER_TIMEOUT, 5_000)]);
    assert_eq!(line.program.options(line.sock), RULE);
    assert_eq!(result(&agent, &line)["original"], Options::on(30, 9, 75, 5_000).json());
    without_rules(&agent);
    assert_eq!(line.program.options(line.sock), Options::on(30, 9, 75, 5_000));
}

#[test]
fn force_wins_over_what_is_set_later_and_the_program_gets_its_last_wish_back() {
    let lab = Lab::new();
    let agent = agent(&lab, "force");
    let mut line = lab.inbound("::1");
    set(&mut line, &[(KEEPALIVE, 0), (KEEPIDLE, 1000), (KEEPCNT, 2), (USER_TIMEOUT, 0), (USER_TIMEOUT, 7_000)]);
    assert_eq!(line.program.options(line.sock), RULE);
    let wish = Options { keepalive: false, idle_s: 1000, count: 2, interval_s: 75, user_timeout_ms: 7_000 };
    assert_eq!(result(&agent, &line)["original"], wish.json());
    assert_eq!(result(&agent, &line)["in_force"], RULE.json());
    assert_eq!(agent.counter("own_options"), 5);
    without_rules(&agent);
    assert_eq!(line.program.options(line.sock), wish);
    // And from then on it does as it likes.
    set(&mut line, &[(KEEPALIVE, 1), (KEEPIDLE, 11)]);
    assert_eq!(line.program.options(line.sock), Options { keepalive: true, idle_s: 11, ..wish });
}

#[test]
fn a_push_wins_as_force_does() {
    let lab = Lab::new();
    let agent = agent(&lab, "default");
    let mut line = lab.outbound("127.0.0.1");
    agent.keepalive(&line.sock.id(), 33, 3, 3);
    set(&mut line, &[(KEEPALIVE, 0), (KEEPIDLE, 1000)]);
    let overridden = Options::on(33, 3, 3, 95_000);
    assert_eq!(line.program.options(line.sock), overridden);
    assert_eq!(result(&agent, &line)["in_force"], overridden.json());
    agent.delete(&format!("/v1/connections/{}/keepalive", line.sock.id())).ok();
    set(&mut line, &[(KEEPALIVE, 1)]);
    assert!(!line.program.options(line.sock).keepalive, "off is off");
}

#[test]
fn default_leaves_alone_who_has_set_it_before() {
    let lab = Lab::new();
    let agent = agent(&lab, "default");
    let line = connected_with(&lab, &[(KEEPALIVE, 1), (KEEPIDLE, 300)]);
    // Each part for itself: it has set no user timeout.
    assert_eq!(line.program.options(line.sock), Options::on(300, 9, 75, 95_000));
    let both = connected_with(&lab, &[(KEEPALIVE, 1), (USER_TIMEOUT, 1_000)]);
    assert_eq!(both.program.options(both.sock), Options::on(7200, 9, 75, 1_000));
    assert_eq!(result(&agent, &both)["outcome"], "left to the program");
    // Who has set nothing gets it.
    let plain = lab.inbound("127.0.0.1");
    assert_eq!(plain.program.options(plain.sock), RULE);
    without_rules(&agent);
    assert_eq!(line.program.options(line.sock), Options::on(300, 9, 75, 0));
    assert_eq!(both.program.options(both.sock), Options::on(7200, 9, 75, 1_000));
    assert_eq!(plain.program.options(plain.sock), Options::DEFAULT);
}

#[test]
fn default_gives_way_when_the_program_sets_it_later() {
    let lab = Lab::new();
    let agent = agent(&lab, "default");
    let mut line = lab.outbound("127.0.0.1");
    assert_eq!(line.program.options(line.sock), RULE);
    // One option of the part, and the whole part is as the program has it.
    set(&mut line, &[(KEEPIDLE, 500)]);
    let own = Options { idle_s: 500, user_timeout_ms: 95_000, ..Options::DEFAULT };
    assert_eq!(line.program.options(line.sock), own);
    assert_eq!(result(&agent, &line)["outcome"], "left to the program");
    set(&mut line, &[(KEEPALIVE, 1)]);
    assert_eq!(line.program.options(line.sock), Options { keepalive: true, ..own });
    assert_eq!(result(&agent, &line)["in_force"], Options { keepalive: true, ..own }.json());
    // Also after the rules were judged anew, with other values.
    let mut other = rules("default");
    other["rule"][0]["keepalive"]["idle"] = json!("77s");
    agent.put("/v1/rules", &other).ok();
    assert_eq!(line.program.options(line.sock), Options { keepalive: true, ..own });
    set(&mut line, &[(USER_TIMEOUT, 0)]);
    assert_eq!(line.program.options(line.sock), Options { keepalive: true, user_timeout_ms: 0, ..own });
    // A rule that forces gets it all.
    agent.put("/v1/rules", &rules("force")).ok();
    assert_eq!(line.program.options(line.sock), RULE);
}

#[test]
fn floor_only_tightens_what_was_set_before() {
    let lab = Lab::new();
    let agent = agent(&lab, "floor");
    let loose = connected_with(&lab, &[(KEEPALIVE, 1), (KEEPIDLE, 300), (KEEPCNT, 2), (USER_TIMEOUT, 200_000)]);
    assert_eq!(loose.program.options(loose.sock), Options::on(60, 2, 10, 95_000));
    let tight = connected_with(&lab, &[(KEEPALIVE, 1), (KEEPIDLE, 20), (KEEPINTVL, 3), (USER_TIMEOUT, 1_000)]);
    assert_eq!(tight.program.options(tight.sock), Options::on(20, 5, 3, 1_000));
    let plain = lab.inbound("127.0.0.1");
    assert_eq!(plain.program.options(plain.sock), RULE);
    without_rules(&agent);
    assert_eq!(loose.program.options(loose.sock), Options::on(300, 2, 75, 200_000));
    assert_eq!(tight.program.options(tight.sock), Options::on(20, 9, 3, 1_000));
}

#[test]
fn floor_only_tightens_what_is_set_later() {
    let lab = Lab::new();
    let agent = agent(&lab, "floor");
    let mut line = lab.inbound("127.0.0.1");
    set(&mut line, &[(KEEPIDLE, 300), (KEEPCNT, 3), (KEEPALIVE, 0), (USER_TIMEOUT, 5_000)]);
    assert_eq!(line.program.options(line.sock), Options::on(60, 3, 10, 5_000));
    set(&mut line, &[(KEEPIDLE, 15), (KEEPCNT, 8), (USER_TIMEOUT, 0)]);
    assert_eq!(line.program.options(line.sock), Options::on(15, 5, 10, 95_000));
    without_rules(&agent);
    let wish = Options { keepalive: false, idle_s: 15, count: 8, interval_s: 75, user_timeout_ms: 0 };
    assert_eq!(line.program.options(line.sock), wish);
}

#[test]
fn a_changed_mode_reaches_open_connections() {
    let lab = Lab::new();
    let agent = agent(&lab, "default");
    let line = connected_with(&lab, &[(KEEPALIVE, 1), (KEEPIDLE, 300)]);
    agent.put("/v1/rules", &rules("floor")).ok();
    assert_eq!(line.program.options(line.sock), Options::on(60, 5, 10, 95_000));
    agent.put("/v1/rules", &rules("default")).ok();
    assert_eq!(line.program.options(line.sock), Options::on(300, 9, 75, 95_000));
}

#[test]
fn what_the_kernel_refuses_is_refused_as_ever() {
    let lab = Lab::new();
    let agent = agent(&lab, "force");
    let mut line = lab.outbound("127.0.0.1");
    for (option, value) in [(KEEPIDLE, 0), (KEEPIDLE, 32_768), (KEEPCNT, 128), (KEEPINTVL, -1), (USER_TIMEOUT, -1)] {
        assert_eq!(line.program.try_set(line.sock, option, value).unwrap_err(), "EINVAL", "{option:?} {value}");
    }
    assert_eq!(line.program.options(line.sock), RULE);
    assert_eq!(result(&agent, &line)["original"], Options::DEFAULT.json());
    assert_eq!(agent.counter("own_options"), 0);
}

#[test]
fn other_sockets_and_other_options_are_none_of_its_business() {
    let lab = Lab::new();
    let agent = agent(&lab, "force");
    let mut program = lab.program();
    // Not connected: not tracked, and its options are its own; a listener too.
    let mut line = lab.outbound("127.0.0.1");
    let listener = program.listen("127.0.0.1");
    program.set(listener, KEEPALIVE, 1);
    program.set(listener, KEEPIDLE, 44);
    assert_eq!(program.options(listener), Options::on(44, 9, 75, 0));
    // A value beyond a page is passed on as it is; the kernel reads the name at its beginning.
    let told = line.program.set_long(line.sock, [6, 13], "reno", 5_000);
    assert_eq!(told, Ok("reno".to_owned()));
    assert_eq!(agent.counter("own_options"), 0);
}

#[test]
fn without_an_agent_the_rules_still_win_and_after_detach_they_do_not() {
    let lab = Lab::new();
    let mut agent = agent(&lab, "force");
    let mut line = lab.outbound("127.0.0.1");
    agent.stop(rustix::process::Signal::KILL);
    set(&mut line, &[(KEEPIDLE, 1000)]);
    assert_eq!(line.program.options(line.sock), RULE);
    agent.start_again();
    assert_eq!(line.program.options(line.sock), RULE);
    agent.cli_stdout(&["detach"]);
    assert_eq!(line.program.options(line.sock), Options { idle_s: 1000, ..Options::DEFAULT });
    set(&mut line, &[(KEEPIDLE, 2000)]);
    assert_eq!(line.program.options(line.sock).idle_s, 2000);
    agent.forget();
}
