//! What a rules document may say, by every way in: kept as it is, or refused with its place.

use std::fs;
use std::sync::OnceLock;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};

/// A time in the next year, the same throughout a test.
fn deadline() -> Timestamp {
    static DEADLINE: OnceLock<Timestamp> = OnceLock::new();
    let in_a_while = || Timestamp::now() + SignedDuration::from_hours(24 * 200);
    *DEADLINE.get_or_init(|| in_a_while().round(Unit::Second).expect("seconds are a unit of time"))
}

/// Everything that a document can say about options and closing, in the form in which it is kept.
fn everything() -> Value {
    json!({
        "guard": { "closes_per_second": 100, "percent_per_minute": 20, "protect_ports": [22, "5060-5061"] },
        "rule": [
            {
                "name": "strangers",
                "match": { "direction": "inbound", "local_port": 1 },
                "mode": "floor",
                "keepalive": { "idle": "60s", "count": 5, "interval": "5s" },
                "user_timeout": "auto",
                "lifetime": {
                    "idle": "10m", "max_age": "24h", "deadline": deadline().to_string(), "jitter": "10%",
                    "first_byte": "10s", "half_closed": "1m",
                },
                "close": "fin",
                "grace": "5s",
                "enforce": false,
            },
            { "name": "ours", "match": { "direction": "outbound", "remote_port": 1 }, "lifetime": { "connect": "5s" } },
            { "name": "keep", "match": { "remote": "10.0.0.0/8" }, "protect": true },
        ],
    })
}

fn generation(agent: &Agent) -> Value {
    agent.get("/v1/status").ok()["rules"]["generation"].clone()
}

#[test]
fn everything_that_a_document_says_is_kept_over_restarts() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    agent.put("/v1/rules", &everything()).ok();
    let before = generation(&agent);
    for signal in [Signal::KILL, Signal::TERM] {
        assert_eq!(agent.get("/v1/rules").ok(), everything());
        agent.stop(signal);
        agent.start_again();
        assert_eq!((agent.get("/v1/rules").ok(), generation(&agent)), (everything(), before.clone()));
    }
}

#[test]
fn a_file_says_the_same_as_a_request() {
    let there = TimeZone::fixed(jiff::tz::offset(1));
    let deadline = deadline().to_zoned(there).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let text = r#"
        guard = { closes_per_second = 100, percent_per_minute = "20%", protect_ports = [22, "5060-5061"] }
        [[rule]]
        name = "strangers"
        match = { direction = "inbound", local_port = 1 }
        mode = "floor"
        keepalive = { idle = "1m", count = 5, interval = "5s" }
        user_timeout = "auto"
        lifetime = { idle = "600s", max_age = "1d", deadline = DEADLINE, jitter = 10, first_byte = "10s", half_closed = "60s" }
        close = "fin"
        grace = "5000ms"
        enforce = false
        protect = false
        [[rule]]
        name = "ours"
        match = { direction = "outbound", remote_port = 1 }
        mode = "force"
        lifetime = { connect = "5s" }
        close = "reset"
        enforce = true
        [[rule]]
        name = "keep"
        match = { remote = "10.0.0.0/8" }
        protect = true
    "#
    .replace("DEADLINE", &deadline);
    let lab = Lab::new();
    let agent = lab.agent().rules(&text).start();
    assert_eq!(agent.get("/v1/rules").ok(), everything());
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    let file = lab.directory.write("same.toml", &text);
    agent.cli_stdout(&["rule", "apply", file.to_str().unwrap()]);
    assert_eq!(agent.get("/v1/rules").ok(), everything());
    let listed = agent.cli_stdout(&["rule", "list"]);
    for part in
        ["floor", "jitter 10%", "first byte 10s", "connect 5s", "logged only", "protected", "guard: at most 100"]
    {
        assert!(listed.contains(part), "{part}: {listed}");
    }
}

#[test]
fn faults_are_told_with_their_place_and_the_old_rules_stay() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    agent.put("/v1/rules", &everything()).ok();
    let before = generation(&agent);
    let keepalive = "keepalive = { idle = \"60s\", count = 5, interval = \"5s\" }";
    for (fields, place, message) in [
        ("mode = \"loose\"", "3:8", "expected \"force\", \"default\" or \"floor\", found \"loose\""),
        ("mode = \"floor\"\nkeepalive = \"off\"", "3:8", "found keepalive = \"off\""),
        (&format!("{keepalive}\nuser_timeout = \"off\"\nmode = \"default\""), "5:8", "found user_timeout = \"off\""),
        ("mode = \"floor\"", "3:8", "expected keepalive or user_timeout with values beside mode"),
        ("lifetime = { idle = \"1m\", jitter = \"101%\" }", "3:36", "expected a percentage from 0 to 100"),
        ("lifetime = { idle = \"1m\", jitter = -1 }", "3:36", "found -1"),
        ("lifetime = { half_closed = \"1m\", jitter = 5 }", "3:43", "expected idle or max_age beside jitter"),
        ("lifetime = { jitter = 5 }", "3:12", "expected at least one of idle, max_age, deadline"),
        ("lifetime = { deadline = 2032-12-24 }", "3:25", "expected a time with its date and offset"),
        ("lifetime = { deadline = \"2001-01-01T00:00:00Z\" }", "3:25", "expected a deadline in the future"),
        ("lifetime = { deadline = 2101-01-01T00:00:00Z }", "3:25", "within ten years"),
        ("lifetime = { connect = \"0s\" }", "3:24", "expected a duration of 1s to 3650d"),
        ("match = { direction = \"outbound\" }\nlifetime = { first_byte = \"5s\" }", "4:27", "found \"outbound\""),
        ("match = { direction = \"inbound\" }\nlifetime = { connect = \"5s\" }", "4:24", "found \"inbound\""),
        ("match = { direction = \"listen\" }\nlifetime = { connect = \"5s\" }", "4:12", "never closed"),
        ("match = { direction = \"listen\" }\nprotect = true", "4:11", "never closed"),
        ("close = \"abort\"", "3:9", "expected \"reset\" or \"fin\", found \"abort\""),
        ("grace = \"5s\"", "3:9", "expected close = \"fin\" beside grace"),
        ("close = \"fin\"\ngrace = 5", "4:9", "expected a duration"),
        ("enforce = \"no\"", "3:11", "expected true or false, found \"no\""),
        ("protect = true\nlifetime = { idle = \"1m\" }", "4:12", "expected no lifetime beside protect = true"),
        ("[guard]\ncloses_per_second = 0", "4:21", "expected a number from 1 to 4294967295, found 0"),
        ("[guard]\npercent_per_minute = 0", "4:22", "expected a percentage from 1 to 100"),
        ("[guard]\nprotect_ports = [22, 70000]", "4:22", "expected a port from 1 to 65535"),
        ("[guard]\nbudget = 5", "4:1", "unknown field `budget`"),
    ] {
        let text = format!("[[rule]]\nname = \"bad\"\n{fields}\n");
        let file = lab.directory.write("bad.toml", &text);
        let output = agent.cli(&["rule", "apply", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{fields}: {said}");
        assert!(said.contains(&format!("{}:{place}: ", file.display())), "{fields}: {said}");
        assert!(said.contains(message), "{fields}: {said}");
        assert_eq!(generation(&agent), before, "{fields}");
    }
    assert_eq!(agent.get("/v1/rules").ok(), everything());
}

#[test]
fn a_guard_needs_no_rules() {
    let lab = Lab::new();
    let guard = json!({ "guard": { "closes_per_second": 5 }, "rule": [] });
    let agent = lab.agent().rules("[guard]\ncloses_per_second = 5\n").start();
    assert_eq!(agent.get("/v1/rules").ok(), guard);
    agent.put("/v1/rules", &everything()).ok();
    // Nobody takes all rules away by saying nothing of them.
    agent.put("/v1/rules", &json!({ "guard": { "closes_per_second": 5 } })).problem(400, "invalid_rules");
    assert_eq!(agent.get("/v1/rules").ok(), everything());
    agent.put("/v1/rules", &guard).ok();
    assert_eq!(agent.get("/v1/rules").ok(), guard);
}

#[test]
fn a_deadline_may_pass_while_its_rule_is_in_force() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules("").start();
    let deadline = Timestamp::now() + SignedDuration::from_secs(4);
    let document = |name: &str, more: &[Value]| {
        let rule = json!({ "name": name, "match": { "remote_port": 1 }, "lifetime": { "deadline": deadline } });
        let rules = [&[rule], more].concat();
        json!({ "rule": rules })
    };
    let text = |name: &str| {
        let rule = "match = { remote_port = 1 }\nlifetime = { deadline =";
        format!("[[rule]]\nname = \"{name}\"\n{rule} {deadline} }}\n")
    };
    let file = lab.directory.write("rules.toml", &text("maintenance"));
    agent.running().signal(Signal::HUP);
    wait_until("the file is in force", SOON, || agent.get("/v1/rules").ok() == document("maintenance", &[]));
    wait_until("the deadline has passed", SOON, || Timestamp::now() > deadline);

    // The same again: by the next agent, with the file as it was; by a request; and by a file with more in it.
    agent.stop(Signal::KILL);
    agent.start_again();
    assert_eq!(agent.get("/v1/rules").ok(), document("maintenance", &[]));
    agent.put("/v1/rules", &document("maintenance", &[json!({ "name": "more" })])).ok();
    fs::write(&file, text("maintenance") + "[[rule]]\nname = \"other\"\n").unwrap();
    agent.running().signal(Signal::HUP);
    let expected = document("maintenance", &[json!({ "name": "other" })]);
    wait_until("the file is in force", SOON, || agent.get("/v1/rules").ok() == expected);

    // A new rule with it would close what it matches at once: by mistake, it is assumed.
    let problem = agent.put("/v1/rules", &document("new", &[])).problem(400, "invalid_rules");
    assert_eq!(problem["fault"]["field"], "lifetime.deadline", "{problem}");
    agent.put("/v1/rules?dry_run=true", &document("new", &[])).problem(400, "invalid_rules");
    fs::write(&file, text("new")).unwrap();
    let applied = agent.cli(&["rule", "apply", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&applied.stderr);
    assert!(said.contains("rules.toml:4:25: ") && said.contains("expected a deadline in the future"), "{said}");
    agent.running().signal(Signal::HUP);
    wait_until("the fault is named", SOON, || agent.log().contains("rules.toml:4:25: "));
    assert_eq!(agent.get("/v1/rules").ok(), expected);
    agent.stop(Signal::TERM);

    // Nor does a first agent start with it.
    let said = Lab::new().agent().rules(&text("new")).fails();
    assert!(said.contains("rules.toml:4:25: ") && said.contains("expected a deadline in the future"), "{said}");
}
