//! What keeps rules from closing too much: the guard's bounds, protection, rules that only say what they would do; and the
//! lines that tell of it.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, patient, wait_to_see, wait_until};

const SECOND_NS: u64 = 1_000_000_000;

/// The guard, as `status` shows it.
fn guard(agent: &Agent) -> Value {
    agent.get("/v1/status").ok()["guard"].clone()
}

/// The lines of the audit that hold all of these.
fn audit(agent: &Agent, holds: &[&str]) -> Vec<String> {
    let is_one = |line: &&str| line.contains("tcpops::audit") && holds.iter().all(|part| line.contains(part));
    agent.log().lines().filter(is_one).map(str::to_owned).collect()
}

fn aged(guard: &Value) -> Value {
    json!({ "guard": guard, "rule": [{ "name": "aged", "lifetime": { "max_age": "1s" } }] })
}

#[test]
fn a_budget_is_kept_and_none_is_forgotten() {
    const COUNT: usize = 40;
    const BUDGET: usize = 10;
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &aged(&json!({ "closes_per_second": BUDGET }))).ok();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let crowd = program.crowd(listener.local, COUNT, 0.0);
    let ends: Vec<_> = program.ends(&crowd, 20.0).into_iter().map(|end| end.expect("it ended")).collect();
    assert!(ends.iter().all(|(_, error)| error == "ECONNABORTED"), "{ends:?}");
    let mut times: Vec<u64> = ends.iter().map(|(at, _)| *at).collect();
    times.sort_unstable();
    // Between the guard's word and the end that the program sees there is some time, more for one and less for another.
    let slack_ns = SECOND_NS / 4;
    for window in times.windows(BUDGET + 2) {
        let took = window[BUDGET + 1] - window[0];
        assert!(took + slack_ns >= SECOND_NS, "{} closes within {took} ns", window.len());
    }
    let took = Duration::from_nanos(times[COUNT - 1] - times[0]);
    assert!(took < patient(Duration::from_secs(10)), "40 closes at 10 in a second took {took:?}");
    let guard = guard(&agent);
    assert_eq!((&guard["waiting"], &guard["closes_per_second"]), (&json!(0), &json!(BUDGET)));
    let held = guard["held_by_budget"].as_u64().unwrap();
    assert!((1..=30).contains(&held), "{held} were held back");
    let said = || audit(&agent, &["held", "rule=\"aged\"", "closes_per_second"]).len();
    wait_to_see("once for the rule in a minute", &1, said);
}

#[test]
fn a_cap_is_a_share_of_the_connections_and_does_not_bind_people() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &aged(&json!({ "percent_per_minute": 20 }))).ok();
    let mut lines: Vec<_> = std::iter::once(lab.outbound("127.0.0.1")).collect();
    let first = &mut lines[0];
    let mut socks = vec![first.sock];
    for _ in 1..10 {
        socks.push(Lab::another(first).0);
    }
    wait_until("the other eight wait", SOON, || guard(&agent)["waiting"] == 8);
    // What is held back stays so; and a listener would not count.
    sleep(Duration::from_millis(1500));
    let open: Vec<_> = socks.iter().filter(|sock| agent.code(&sock.id()) == 1).copied().collect();
    assert_eq!(open.len(), 8);
    let now = guard(&agent);
    assert_eq!((&now["waiting"], &now["held_by_cap"]), (&json!(8), &json!(8)), "{now}");
    let said = |parts: &[&str]| wait_to_see("the audit", &1, || audit(&agent, parts).len());
    said(&["held", "rule=\"aged\"", "percent_per_minute"]);
    let shown = agent.connection(&open[0].id());
    assert_eq!(shown["expires"]["held"], "held back by the guard's percent_per_minute");
    assert!(shown["expires"]["seconds"].as_f64().unwrap() > 30.0, "{shown}");

    // A request is not held back, nor an override of a lifetime; both are on record.
    agent.delete(&format!("/v1/connections/{}", open[0].id())).ok();
    agent.lifetime(&open[1].id(), &json!({ "idle_seconds": 1 })).ok();
    wait_until("the overridden lifetime ends", SOON, || agent.code(&open[1].id()) == -1);
    said(&["close", "uid=0", "why=\"request\"", "result=\"reset\""]);
    said(&["close", "uid=0", "why=\"idle\"", "result=\"reset\""]);
    wait_until("they wait no more", SOON, || guard(&agent)["waiting"] == 6);
    // Without a guard nothing waits.
    agent.put("/v1/rules", &aged(&json!({}))).ok();
    wait_until("all are closed", SOON, || agent.list("").is_empty());
    assert_eq!(guard(&agent)["waiting"], 0);
}

#[test]
fn the_only_connection_can_be_closed() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &aged(&json!({ "percent_per_minute": 1 }))).ok();
    let mut line = lab.outbound("127.0.0.1");
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
}

#[test]
fn a_rule_protects_whatever_its_place() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut lines = [lab.outbound("127.0.0.1"), lab.outbound("::1")];
    let aged = json!({ "name": "aged", "lifetime": { "max_age": "1s" } });
    let keep = json!({ "name": "keep", "match": { "remote": "::1" }, "protect": true });
    let id = lines[1].sock.id();
    for rules in [[&aged, &keep], [&keep, &aged]] {
        agent.put("/v1/rules", &json!({ "rule": rules })).ok();
        if agent.code(&lines[0].sock.id()) == 1 {
            assert_eq!(lines[0].program.receive(lines[0].sock).unwrap_err(), "ECONNABORTED");
        }
        sleep(Duration::from_millis(1500));
        let [_, kept] = &mut lines;
        assert!(kept.program.is_quiet(kept.sock) && kept.outsider.is_quiet(kept.far));
        if rules[0] == &aged {
            let shown = agent.connection(&id);
            assert_eq!(shown["expires"]["held"], "protected by rule \"keep\"", "{shown}");
            let printed = agent.cli_stdout(&["conn", "show", &id]);
            assert!(printed.contains("protected by rule \"keep\""), "{printed}");
            let printed = agent.cli_stdout(&["conn", "list", "-o", "wide"]);
            assert!(printed.contains("max_age (rule): protected by rule \"keep\""), "{printed}");
            wait_until("it is counted", SOON, || guard(&agent)["protected"] == 1);
            let parts = ["close", "rule=\"aged\"", "why=\"max_age\"", "result=\"protected\""];
            wait_to_see("the audit", &1, || audit(&agent, &parts).len());
        }
    }
    // A person may.
    agent.lifetime(&id, &json!({ "max_age_seconds": 1 })).ok();
    let [_, kept] = &mut lines;
    assert_eq!(kept.program.receive(kept.sock).unwrap_err(), "ECONNABORTED");
}

#[test]
fn a_cgroup_is_protected_with_those_below_it() {
    let lab = Lab::new();
    let (agent, below) = (lab.agent().start(), lab.cgroup.child("below"));
    let (mut program, mut outsider) = (crate::harness::peer::Peer::start(&lab.ns, Some(&below), 0), lab.outsider());
    let (v4, v6) = (outsider.listen("127.0.0.1"), outsider.listen("::1"));
    let [kept, ended] = [program.connect(v4.local), program.connect(v6.local)];
    let rules = json!({ "rule": [
        { "name": "aged", "lifetime": { "max_age": "1s" } },
        { "name": "keep", "match": { "cgroup": lab.cgroup.name(), "family": "ipv4" }, "protect": true },
        { "name": "other", "match": { "cgroup": "/", "local_port": 1 }, "protect": true },
    ] });
    agent.put("/v1/rules", &rules).ok();
    assert_eq!(program.receive(ended).unwrap_err(), "ECONNABORTED");
    wait_until("the other is spared", SOON, || guard(&agent)["protected"] == 1);
    assert!(program.is_quiet(kept));
    // Before its cgroup goes.
    drop(program);
}

#[test]
fn ports_are_protected_ssh_unless_said_otherwise() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &aged(&json!({}))).ok();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let ssh = outsider.listen_with(&json!({ "host": "127.0.0.1", "port": 22 }));
    let other = outsider.listen_with(&json!({ "host": "127.0.0.1", "port": 2222 }));
    let [login, ended] = [program.connect(ssh.local), program.connect(other.local)];
    assert_eq!(guard(&agent)["protect_ports"], json!([22]));
    assert_eq!(program.receive(ended).unwrap_err(), "ECONNABORTED");
    wait_until("the login is spared", SOON, || guard(&agent)["protected"] == 1);
    assert!(program.is_quiet(login));
    assert_eq!(agent.connection(&login.id())["expires"]["held"], "protected by protect_ports, for port 22");
    agent.put("/v1/rules", &aged(&json!({ "protect_ports": [2222] }))).ok();
    assert_eq!(program.receive(login).unwrap_err(), "ECONNABORTED");
}

#[test]
fn a_rule_that_is_not_enforced_says_once_what_it_would_do() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let rules =
        json!({ "rule": [{ "name": "trial", "lifetime": { "max_age": "1s", "idle": "1s" }, "enforce": false }] });
    agent.put("/v1/rules", &rules).ok();
    let mut line = lab.outbound("127.0.0.1");
    let id = line.sock.id();
    let said = |why: &str| audit(&agent, &["close", "rule=\"trial\"", why, "result=\"not_enforced\""]);
    wait_until("it is said", SOON, || said("why=\"max_age\"").len() == 1 && said("why=\"idle\"").len() == 1);
    for _ in 0..3 {
        line.program.send(line.sock, "x");
        sleep(Duration::from_millis(600));
    }
    line.program.shutdown(line.sock);
    line.outsider.receive(line.far).unwrap();
    sleep(Duration::from_millis(1500));
    assert_eq!(agent.code(&id), -2, "it is half closed, and there");
    assert_eq!((said("why=\"max_age\"").len(), said("why=\"idle\"").len()), (1, 1));
    assert_eq!(guard(&agent)["not_enforced"], 2);
    let conid = agent.conid(&id);
    assert!(said("why=\"max_age\"")[0].contains(&format!("conid={conid} local={}", line.sock.local)));
    assert_eq!(agent.connection(&id)["expires"]["held"], "its rule has enforce = false");
    assert!(line.program.is_quiet(line.sock));
}
