//! Why connections end: every cause made by a real peer, and named rightly at both ends, which are both of this host.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::peer::{Peer, Sock, USER_TIMEOUT};
use crate::harness::require;
use crate::harness::wait::{SOON, wait_for, wait_to_see, wait_until};

const ECONNRESET: i32 = 104;
const ECONNABORTED: i32 = 103;
const ETIMEDOUT: i32 = 110;
const EHOSTUNREACH: i32 = 113;
const ECONNREFUSED: i32 = 111;
const EPIPE: i32 = 32;

/// A connection between two programs that are both tracked.
struct Both {
    near: Peer,
    far: Peer,
    /// The end that connected.
    out: Sock,
    /// The end that accepted.
    accepted: Sock,
}

fn both(lab: &Lab, host: &str) -> Both {
    let (mut near, mut far) = (lab.program(), lab.program());
    let listener = far.listen(host);
    let out = near.connect(listener.local);
    let accepted = far.accept(listener);
    far.close(listener);
    Both { near, far, out, accepted }
}

fn cause(event: &Value) -> Value {
    event["cause"].clone()
}

/// The causes of both ends.
fn causes(agent: &Agent, both: &Both) -> [Value; 2] {
    [cause(&agent.closed(both.out)), cause(&agent.closed(both.accepted))]
}

fn by(name: &str, side: &str) -> Value {
    json!({ "name": name, "side": side })
}

fn with_errno(mut cause: Value, errno: i32) -> Value {
    cause["errno"] = json!(errno);
    cause
}

/// The states of an end and the seconds in each must be these, and add up to its age.
fn assert_states(event: &Value, expected: &[&str]) {
    let summary = &event["summary"];
    let states = summary["states"].as_object().unwrap_or_else(|| panic!("no states in {event}"));
    let mut names: Vec<&str> = states.keys().map(String::as_str).collect();
    let mut expected = expected.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected, "{event}");
    let sum: f64 = states.values().map(|seconds| seconds.as_f64().expect("they are numbers")).sum();
    let age = summary["age_seconds"].as_f64().expect("it is a number");
    assert!((sum - age).abs() < 0.000_01, "{sum} s in all states, age {age} s: {event}");
}

#[test]
fn an_orderly_close_is_by_the_side_that_closed_first() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    for host in ["127.0.0.1", "::1"] {
        let mut both = both(&lab, host);
        both.near.send(both.out, "0123456789");
        assert_eq!(both.far.receive(both.accepted).unwrap(), "0123456789");
        both.far.send(both.accepted, "abc");
        assert_eq!(both.near.receive(both.out).unwrap(), "abc");
        both.near.close(both.out);
        assert_eq!(both.far.receive(both.accepted).unwrap(), "");
        // Nothing holds the peer's FIN for the one that is closed already: it counts no byte for it.
        let out = agent.closed(both.out);
        both.far.close(both.accepted);
        let accepted = agent.closed(both.accepted);
        assert_eq!([cause(&out), cause(&accepted)], [by("fin", "local"), by("fin", "peer")]);
        assert_eq!((&out["state"], &accepted["state"]), (&json!("fin-wait-2"), &json!("last-ack")));
        let bytes = |event: &Value| (event["summary"]["bytes_in"].clone(), event["summary"]["bytes_out"].clone());
        assert_eq!(bytes(&out), (json!(3), json!(10)));
        assert_eq!(bytes(&accepted), (json!(10), json!(3)));
        assert_states(&out, &["syn-sent", "established", "fin-wait-1", "fin-wait-2"]);
        assert_states(&accepted, &["syn-recv", "established", "close-wait", "last-ack"]);
    }
}

#[test]
fn of_a_connection_shut_half_the_time_in_each_state_is_known() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut both = both(&lab, "127.0.0.1");
    both.near.shutdown(both.out);
    assert_eq!(both.far.receive(both.accepted).unwrap(), "");
    let state = |sock: Sock| agent.state(&sock.id())["tcp_state"].clone();
    wait_to_see("the state", &json!("fin-wait-2"), || state(both.out));
    std::thread::sleep(Duration::from_millis(300));
    both.far.send(both.accepted, "12345");
    assert_eq!(both.near.receive(both.out).unwrap(), "12345");
    both.far.close(both.accepted);
    let (out, accepted) = (agent.closed(both.out), agent.closed(both.accepted));
    assert_eq!([cause(&out), cause(&accepted)], [by("fin", "local"), by("fin", "peer")]);
    // The FIN of the far end is no byte.
    assert_eq!((&out["summary"]["bytes_in"], &accepted["summary"]["bytes_in"]), (&json!(5), &json!(0)));
    assert_states(&out, &["syn-sent", "established", "fin-wait-1", "fin-wait-2"]);
    assert_states(&accepted, &["syn-recv", "established", "close-wait", "last-ack"]);
    let seconds = |event: &Value, state: &str| event["summary"]["states"][state].as_f64().expect("it is a number");
    assert!((0.3..5.0).contains(&seconds(&out, "fin-wait-2")), "{out}");
    assert!((0.3..5.0).contains(&seconds(&accepted, "close-wait")), "{accepted}");
}

#[test]
fn a_reset_is_by_the_side_that_sent_it() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let expected = [by("reset", "local"), with_errno(by("reset", "peer"), ECONNRESET)];

    let mut lingering = both(&lab, "127.0.0.1");
    lingering.near.reset(lingering.out);
    assert_eq!(causes(&agent, &lingering), expected);
    assert_states(&agent.closed(lingering.out), &["syn-sent", "established"]);

    let mut unread = both(&lab, "::1");
    unread.far.send(unread.accepted, "nobody reads this");
    wait_until("it has come", SOON, || agent.connection(&unread.out.id())["tcp_info"]["bytes_received"] == json!(17));
    unread.near.close(unread.out);
    assert_eq!(causes(&agent, &unread), expected);

    let mut disconnected = both(&lab, "127.0.0.1");
    disconnected.near.disconnect(disconnected.out);
    assert_eq!(causes(&agent, &disconnected), expected);
    // Likewise with the roles exchanged.
    let mut other = both(&lab, "127.0.0.1");
    other.far.reset(other.accepted);
    let [out, accepted] = causes(&agent, &other);
    assert_eq!([accepted, out], expected);
}

#[test]
fn a_reset_after_an_end_of_file_is_one_of_the_peer() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut both = both(&lab, "127.0.0.1");
    both.near.shutdown(both.out);
    assert_eq!(both.far.receive(both.accepted).unwrap(), "");
    wait_to_see("the state", &json!("fin-wait-2"), || agent.state(&both.out.id())["tcp_state"].clone());
    both.near.reset(both.out);
    // The first FIN was this end's; the reset that follows from FIN_WAIT2 leaves no trace there.
    assert_eq!(causes(&agent, &both), [by("fin", "local"), with_errno(by("reset", "peer"), EPIPE)]);
    let mut other = self::both(&lab, "127.0.0.1");
    other.near.shutdown(other.out);
    assert_eq!(other.far.receive(other.accepted).unwrap(), "");
    wait_to_see("the state", &json!("fin-wait-2"), || agent.state(&other.out.id())["tcp_state"].clone());
    other.far.reset(other.accepted);
    assert_eq!(causes(&agent, &other), [with_errno(by("reset", "peer"), ECONNRESET), by("reset", "local")]);
}

#[test]
fn handshakes_that_come_to_nothing() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    let ended = |port: u16| {
        let query = format!("&type=closed&remote_port={port}");
        wait_for("its end", SOON, || agent.history(&query).pop())
    };
    assert_eq!(program.connect_with(([127, 0, 0, 1], 1).into(), &json!({})).unwrap_err(), "ECONNREFUSED");
    let refused = ended(1);
    assert_eq!(cause(&refused), json!({ "name": "refused", "errno": ECONNREFUSED }));
    assert_states(&refused, &["syn-sent"]);
    assert!(refused["summary"].get("idle_seconds").is_none(), "no data could flow: {refused}");

    lab.ns.filter(&["tcp dport 2 reject with icmp type host-unreachable", "tcp dport { 3, 4 } drop"]);
    // What comes back while connect(2) holds the socket is a hint; what comes back to the second SYN ends it.
    let no_way = program.begin_connect(([127, 0, 0, 1], 2).into());
    let unreachable = json!({ "name": "refused", "detail": "unreachable", "errno": EHOSTUNREACH });
    assert_eq!(cause(&ended(2)), unreachable);
    assert_eq!(program.connected(no_way).unwrap_err(), "EHOSTUNREACH");

    let hasty = json!({ "options": [[USER_TIMEOUT[0], USER_TIMEOUT[1], 1500]] });
    assert_eq!(program.connect_with(([127, 0, 0, 1], 3).into(), &hasty).unwrap_err(), "ETIMEDOUT");
    assert_eq!(cause(&ended(3)), json!({ "name": "timeout", "detail": "handshake", "errno": ETIMEDOUT }));

    let given_up = program.begin_connect(([127, 0, 0, 1], 4).into());
    program.close(given_up);
    assert_eq!(cause(&ended(4)), json!({ "name": "fin", "side": "local", "detail": "handshake" }));
}

/// Lets nothing reach the end that accepted.
fn cut_off(lab: &Lab, both: &Both) {
    lab.ns.filter(&[&format!("tcp dport {} drop", both.accepted.local.port())]);
}

/// The end that was cut off learns of it when it next says something.
fn assert_far_end_is_reset(lab: &Lab, agent: &Agent, both: &mut Both) {
    lab.ns.filter(&[]);
    both.far.send(both.accepted, "hello?");
    assert_eq!(cause(&agent.closed(both.accepted)), with_errno(by("reset", "peer"), ECONNRESET));
}

#[test]
fn a_peer_that_answers_no_probe_times_out() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut both = both(&lab, "127.0.0.1");
    agent.keepalive(&both.out.id(), 1, 2, 1);
    cut_off(&lab, &both);
    assert_eq!(both.near.receive(both.out).unwrap_err(), "ETIMEDOUT");
    let closed = agent.closed(both.out);
    assert_eq!(cause(&closed), json!({ "name": "timeout", "detail": "keepalive", "errno": ETIMEDOUT }));
    let idle = closed["summary"]["idle_seconds"].as_f64().expect("it is a number");
    assert!((2.5..6.0).contains(&idle), "two probes after a second: {closed}");
    assert_far_end_is_reset(&lab, &agent, &mut both);
}

#[test]
fn data_that_is_not_acknowledged_in_time_ends_by_the_user_timeout() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut both = both(&lab, "127.0.0.1");
    // The program's own: no policy of this agent is in force.
    both.near.set(both.out, USER_TIMEOUT, 1000);
    cut_off(&lab, &both);
    both.near.send(both.out, "into the void");
    assert_eq!(both.near.receive(both.out).unwrap_err(), "ETIMEDOUT");
    let closed = agent.closed(both.out);
    assert_eq!(cause(&closed), json!({ "name": "timeout", "detail": "user_timeout", "errno": ETIMEDOUT }));
    assert_eq!(closed["summary"]["bytes_out"], 13);
    assert!(closed["summary"]["retransmissions"].as_u64().is_some_and(|count| count >= 1), "{closed}");
    assert_far_end_is_reset(&lab, &agent, &mut both);
}

#[test]
fn data_that_is_sent_again_in_vain_ends_by_retransmissions() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    lab.ns.sysctl("net.ipv4.tcp_retries2", "2");
    let mut silent = both(&lab, "127.0.0.1");
    cut_off(&lab, &silent);
    silent.near.send(silent.out, "into the void");
    assert_eq!(silent.near.receive(silent.out).unwrap_err(), "ETIMEDOUT");
    let expected = json!({ "name": "timeout", "detail": "retransmissions", "errno": ETIMEDOUT });
    assert_eq!(cause(&agent.closed(silent.out)), expected);
    assert_far_end_is_reset(&lab, &agent, &mut silent);
}

#[test]
fn a_peer_that_shut_its_window_and_went_is_not_taken_for_a_failed_keepalive() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    lab.ns.sysctl("net.ipv4.tcp_retries2", "3");
    lab.ns.sysctl("net.ipv4.tcp_rmem", "4096 4096 4096");
    lab.ns.sysctl("net.ipv4.tcp_wmem", "4096 1048576 1048576");
    let mut both = both(&lab, "127.0.0.1");
    both.near.send(both.out, &"x".repeat(100_000));
    // The peer reads nothing: all that it has taken is acknowledged, and its window is probed.
    wait_until("the window is probed", SOON, || {
        let info = &agent.connection(&both.out.id())["tcp_info"];
        info["unacked"] == 0 && info["backoff"].as_u64() > Some(0)
    });
    cut_off(&lab, &both);
    assert_eq!(both.near.receive(both.out).unwrap_err(), "ETIMEDOUT");
    let closed = agent.closed(both.out);
    assert_eq!(cause(&closed), json!({ "name": "timeout", "detail": "retransmissions", "errno": ETIMEDOUT }));
    assert_eq!(closed["summary"]["retransmissions"], 0, "{closed}");
}

#[test]
fn a_peer_that_a_router_calls_unreachable_times_out_all_the_same() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    lab.ns.sysctl("net.ipv4.tcp_retries2", "2");
    let mut both = both(&lab, "127.0.0.1");
    let port = both.accepted.local.port();
    lab.ns.filter(&[&format!("tcp dport {port} reject with icmp type host-unreachable")]);
    both.near.send(both.out, "into the void");
    assert_eq!(both.near.receive(both.out).unwrap_err(), "EHOSTUNREACH");
    let expected = json!({ "name": "timeout", "detail": "retransmissions", "errno": EHOSTUNREACH });
    assert_eq!(cause(&agent.closed(both.out)), expected);
}

#[test]
fn a_socket_that_somebody_else_destroys_is_aborted() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let both = both(&lab, "127.0.0.1");
    let (from, to) = (format!(":{}", both.out.local.port()), format!(":{}", both.out.remote().port()));
    let mut ss = Command::new(require::tool("ss"));
    // It says that it cannot destroy sockets of other protocols, and fails.
    ss.args(["-K", "-t", "sport", "=", &from, "and", "dport", "=", &to]);
    lab.ns.run(|| ss.output().expect("ss can be run"));
    let aborted = json!({ "name": "aborted", "errno": ECONNABORTED });
    assert_eq!(causes(&agent, &both), [aborted, with_errno(by("reset", "peer"), ECONNRESET)]);
}

#[test]
fn a_lifetime_that_is_over_names_its_rule_or_who_pushed_it() {
    let lab = Lab::new();
    let rules = "[[rule]]\nname = \"brief\"\nmatch = { direction = \"outbound\" }\nlifetime = { max_age = \"1s\" }\n";
    let agent = lab.agent().rules(rules).start();
    let mut stream = agent.events("?type=expiring,closed");
    let by_rule = both(&lab, "127.0.0.1");
    let expired = json!({ "name": "expired", "lifetime": "max_age", "rule": "brief" });
    let of = |sock: Sock| move |event: &Value| event["type"] == "closed" && event["cookie"] == sock.cookie;
    let events = stream.until(of(by_rule.out));
    let own: Vec<_> = events.iter().filter(|event| event["cookie"] == by_rule.out.cookie).collect();
    let seen: Vec<_> = own.iter().map(|event| (event["type"].clone(), event["cause"].clone())).collect();
    let ended = with_errno(expired.clone(), ECONNABORTED);
    assert_eq!(seen, [(json!("expiring"), expired), (json!("closed"), ended)]);
    assert_eq!(cause(&agent.closed(by_rule.accepted)), with_errno(by("reset", "peer"), ECONNRESET));

    let overridden = both(&lab, "127.0.0.1");
    agent.lifetime(&overridden.accepted.id(), &json!({ "idle_seconds": 1 })).ok();
    agent.lifetime(&overridden.out.id(), &json!({ "max_age_seconds": 1000 })).ok();
    let expired = json!({ "name": "expired", "lifetime": "idle", "by_uid": 0, "errno": ECONNABORTED });
    assert_eq!(cause(&agent.closed(overridden.accepted)), expired);
    assert_eq!(cause(&agent.closed(overridden.out)), with_errno(by("reset", "peer"), ECONNRESET));
}

#[test]
fn a_request_names_who_made_it() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let both = both(&lab, "127.0.0.1");
    agent.delete(&format!("/v1/connections/{}", both.out.id())).ok();
    let requested = json!({ "name": "closed_by_request", "by_uid": 0, "errno": ECONNABORTED });
    assert_eq!(causes(&agent, &both), [requested, with_errno(by("reset", "peer"), ECONNRESET)]);
}

#[test]
fn after_a_fin_of_the_agent_the_cause_is_the_agents_whatever_the_peer_answers() {
    let lab = Lab::new();
    let rules = r#"
[[rule]]
name = "gentle"
match = { direction = "outbound" }
lifetime = { max_age = "1s" }
close = "fin"
grace = "1s"
"#;
    let agent = lab.agent().rules(rules).start();
    let mut polite = both(&lab, "127.0.0.1");
    let mut deaf = both(&lab, "127.0.0.1");
    assert_eq!(polite.far.receive(polite.accepted).unwrap(), "");
    polite.far.close(polite.accepted);
    let expired = json!({ "name": "expired", "lifetime": "max_age", "rule": "gentle" });
    assert_eq!(causes(&agent, &polite), [expired.clone(), by("fin", "peer")]);
    // This one does not answer: a reset follows.
    assert_eq!(deaf.far.receive(deaf.accepted).unwrap(), "");
    assert_eq!(causes(&agent, &deaf), [with_errno(expired, ECONNABORTED), with_errno(by("reset", "peer"), EPIPE)]);
    let told = agent.history(&format!("&type=expiring&remote_port={}", deaf.out.remote().port()));
    assert_eq!(told.len(), 1, "the reset after the grace is no other end: {told:?}");

    let mut asked = both(&lab, "::1");
    let path = format!("/v1/connections/{}?close=fin&grace_seconds=60", asked.accepted.id());
    agent.delete(&path).ok();
    asked.near.close(asked.out);
    let requested = json!({ "name": "closed_by_request", "by_uid": 0 });
    assert_eq!(cause(&agent.closed(asked.accepted)), requested);
}

#[test]
fn each_limit_of_a_rule_is_named() {
    let lab = Lab::new();
    let rules = r#"
[[rule]]
name = "strict"
lifetime = { first_byte = "1s", half_closed = "1s", connect = "1s" }
"#;
    let agent = lab.agent().rules(rules).start();
    let mut both = both(&lab, "127.0.0.1");
    let expired =
        |limit: &str| json!({ "name": "expired", "lifetime": limit, "rule": "strict", "errno": ECONNABORTED });
    assert_eq!(causes(&agent, &both), [with_errno(by("reset", "peer"), ECONNRESET), expired("first_byte")]);

    lab.ns.filter(&["tcp dport 7001 drop"]);
    let waiting = both.near.begin_connect(([127, 0, 0, 1], 7001).into());
    assert_eq!(cause(&agent.closed(waiting)), expired("connect"));

    let mut half = self::both(&lab, "::1");
    half.near.send(half.out, "x");
    half.near.shutdown(half.out);
    let [out, accepted] = causes(&agent, &half);
    assert!([&out, &accepted].contains(&&expired("half_closed")), "{out} and {accepted}");
}

#[test]
fn a_listener_ends_without_a_cause() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    let listener = program.listen("127.0.0.1");
    program.close(listener);
    let closed = agent.closed(listener);
    assert_eq!((&closed["direction"], &closed["state"]), (&json!("listen"), &json!("listen")));
    assert!(closed.get("cause").is_none() && closed.get("summary").is_none(), "{closed}");
}

#[test]
fn of_an_adopted_connection_only_what_was_seen_is_told() {
    let lab = Lab::new();
    let mut both = both(&lab, "127.0.0.1");
    both.near.shutdown(both.out);
    assert_eq!(both.far.receive(both.accepted).unwrap(), "");
    let agent = lab.agent().arguments(&["--record", "all"]).start();
    let adopted: Vec<_> = agent.history("&type=adopted");
    let states: Vec<_> = [both.out, both.accepted]
        .map(|sock| adopted.iter().find(|event| event["cookie"] == sock.cookie).map(|event| event["state"].clone()))
        .into();
    assert_eq!(states, [Some(json!("fin-wait-2")), Some(json!("close-wait"))]);
    both.far.close(both.accepted);
    let (out, accepted) = (agent.closed(both.out), agent.closed(both.accepted));
    assert_eq!([cause(&out), cause(&accepted)], [by("fin", "local"), by("fin", "peer")]);
    assert_states(&out, &["fin-wait-2"]);
    let known = accepted["summary"]["states"].as_object().expect("it has states");
    assert_eq!(known.keys().collect::<Vec<_>>(), ["last-ack"], "{accepted}");
}
