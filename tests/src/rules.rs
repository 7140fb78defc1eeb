//! The rule set: read and replaced as a whole, refused as a whole, kept over restarts.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::http::with_headers;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::wait::{SOON, wait_until};

fn toml(idle_s: u64) -> String {
    format!(
        "[[rule]]\nname = \"idle {idle_s}\"\nkeepalive = {{ idle = \"{idle_s}s\", count = 3, interval = \"2s\" }}\n"
    )
}

fn document(idle_s: u64) -> Value {
    json!({ "rule": [{
        "name": format!("idle {idle_s}"),
        "keepalive": { "idle": format!("{idle_s}s"), "count": 3, "interval": "2s" },
    }] })
}

/// A new connection gets this TCP_KEEPIDLE; none for a connection that is left alone.
fn assert_in_force(lab: &Lab, idle_s: Option<u64>) {
    let line = lab.outbound("127.0.0.1");
    let expected = idle_s.map_or(Options::DEFAULT, |idle_s| Options::on(idle_s, 3, 2, 0));
    assert_eq!(line.program.options(line.sock), expected);
}

fn etag(agent: &Agent) -> String {
    agent.get("/v1/rules").header("etag").expect("the rules have an ETag").to_owned()
}

fn put_if_match(agent: &Agent, etag: &str, body: &Value) -> crate::harness::http::Response {
    let headers = [("content-type", "application/json"), ("if-match", etag)];
    agent.raw(&with_headers("PUT", "/v1/rules", &headers, &body.to_string()))
}

#[test]
fn rules_are_replaced_whole_and_read_back() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    assert_eq!(agent.get("/v1/rules").ok(), json!({ "rule": [] }));
    let first = agent.put("/v1/rules", &document(100)).ok();
    assert_eq!((&first["count"], &first["applied"]), (&json!(1), &json!(true)));
    assert_eq!(agent.get("/v1/rules").ok(), document(100));
    assert_in_force(&lab, Some(100));
    let second = agent.put("/v1/rules", &document(200)).ok();
    assert_eq!(second["generation"].as_u64(), first["generation"].as_u64().map(|generation| generation + 1));
    assert_eq!(agent.get("/v1/rules").ok(), document(200));
    assert_eq!(agent.get("/v1/status").ok()["rules"]["generation"], second["generation"]);
    assert_in_force(&lab, Some(200));
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    assert_in_force(&lab, None);
}

#[test]
fn a_dry_run_changes_nothing() {
    let lab = Lab::new();
    let agent = lab.agent().rules(&toml(100)).start();
    let before = etag(&agent);
    let answer = agent.put("/v1/rules?dry_run=true", &document(200)).ok();
    assert_eq!((&answer["count"], &answer["applied"]), (&json!(1), &json!(false)));
    assert_eq!((agent.get("/v1/rules").ok(), etag(&agent)), (document(100), before));
    let file = lab.directory.write("other.toml", &toml(200));
    agent.cli_stdout(&["rule", "apply", file.to_str().unwrap(), "--dry-run"]);
    assert_in_force(&lab, Some(100));
    agent.put("/v1/rules?dry_run=true", &json!({ "rule": [{}] })).problem(400, "invalid_rules");
}

#[test]
fn a_change_can_depend_on_what_was_read() {
    let lab = Lab::new();
    let agent = lab.agent().rules(&toml(100)).start();
    let first = etag(&agent);
    put_if_match(&agent, &first, &document(200)).ok();
    let second = etag(&agent);
    assert_ne!(first, second);
    put_if_match(&agent, &first, &document(300)).problem(412, "precondition_failed");
    assert_eq!((agent.get("/v1/rules").ok(), etag(&agent)), (document(200), second.clone()));
    put_if_match(&agent, "*", &document(300)).ok();
    assert_in_force(&lab, Some(300));

    let file = lab.directory.write("other.toml", &toml(400));
    let apply = |etag: &str| {
        // The command takes the generation, which `status` shows: the ETag without its quotes.
        agent.cli(&["rule", "apply", file.to_str().unwrap(), "--if-match", etag.trim_matches('"')])
    };
    assert_eq!(apply(&second).status.code(), Some(1));
    assert_eq!(apply(&etag(&agent)).status.code(), Some(0));
    assert_in_force(&lab, Some(400));
}

#[test]
fn bad_rules_are_refused_whole_and_the_old_ones_stay() {
    let lab = Lab::new();
    let agent = lab.agent().rules(&toml(100)).start();
    let before = etag(&agent);
    let good = document(200)["rule"][0].clone();
    let with = |field: &str, value: Value| {
        let mut bad = good.clone();
        bad["name"] = json!("bad");
        bad[field] = value;
        bad
    };
    let keepalive = |idle: Value, count: Value, interval: Value| {
        with("keepalive", json!({ "idle": idle, "count": count, "interval": interval }))
    };
    for bad in [
        keepalive(json!("0s"), json!(3), json!("2s")),
        keepalive(json!("32768s"), json!(3), json!("2s")),
        keepalive(json!("60s"), json!(0), json!("2s")),
        keepalive(json!("60s"), json!(300), json!("2s")),
        keepalive(json!("60s"), json!(3), json!(2)),
        keepalive(json!(60), json!(3), json!("2s")),
        keepalive(json!("1500ms"), json!(3), json!("2s")),
        with("keepalive", json!({ "idle": "60s" })),
        with("keepalive", json!("on")),
        with("keepalive", json!(null)),
        with("user_timeout", json!("-1s")),
        with("user_timeout", json!(5)),
        with("lifetime", json!({ "idle": "0s" })),
        with("lifetime", json!({ "idle": "-5s" })),
        with("lifetime", json!({ "max_age": "100000d" })),
        with("lifetime", json!({})),
        with("lifetime", json!({ "idle": "5s", "jitter": "101%" })),
        with("lifetime", json!({ "deadline": "2032-12-24T18:00:00Z", "jitter": "5%" })),
        with("lifetime", json!({ "deadline": "2032-12-24T18:00:00" })),
        with("lifetime", json!({ "deadline": 1_900_000_000 })),
        with("lifetime", json!({ "deadline": "2001-01-01T00:00:00Z" })),
        with("lifetime", json!({ "first_byte": "0s" })),
        with("mode", json!("loose")),
        with("mode", json!(null)),
        with("close", json!("abort")),
        with("grace", json!("5s")),
        with("enforce", json!("no")),
        with("protect", json!(1)),
        json!({ "name": "bad", "mode": "floor", "keepalive": "off" }),
        json!({ "name": "bad", "mode": "default", "user_timeout": "off" }),
        json!({ "name": "bad", "protect": true, "lifetime": { "idle": "5s" } }),
        json!({ "name": "bad", "match": { "direction": "listen" }, "close": "fin" }),
        with("match", json!({ "direction": "sideways" })),
        with("match", json!({ "remote": "10.0.0.0/33" })),
        with("match", json!({ "remote": "somewhere.example" })),
        with("match", json!({ "remote_port": 70_000 })),
        with("match", json!({ "remote_port": "200-100" })),
        with("match", json!({ "uid": -1 })),
        with("match", json!({ "uid": "root" })),
        with("match", json!({ "cgroup": "relative" })),
        with("match", json!({ "cgroup": "/no/such/cgroup" })),
        with("match", json!({ "colour": "red" })),
        with("colour", json!("red")),
        with("name", json!("")),
        with("name", json!("x".repeat(64))),
        with("name", good["name"].clone()),
        json!({}),
        json!("rule"),
    ] {
        // Behind a good one, which must not come into force either.
        let answer = agent.put("/v1/rules", &json!({ "rule": [good, bad] }));
        let problem = answer.problem(400, "invalid_rules");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            ["expected", "missing field", "no cgroup"].iter().any(|word| detail.contains(word)),
            "{bad}: {problem}"
        );
        assert_eq!(etag(&agent), before, "{bad}");
    }
    let guards = [
        json!({ "closes_per_second": 0 }),
        json!({ "percent_per_minute": 101 }),
        json!({ "protect_ports": 22 }),
        json!({ "protect_ports": [0] }),
        json!({ "budget": 5 }),
        json!([]),
        json!(null),
    ];
    for guard in guards {
        let problem = agent.put("/v1/rules", &json!({ "guard": guard, "rule": [good] })).problem(400, "invalid_rules");
        assert!(problem["detail"].as_str().unwrap().contains("expected"), "{guard}: {problem}");
        assert_eq!(etag(&agent), before, "{guard}");
    }
    for body in [json!([]), json!({ "rules": [] }), json!({ "rule": {} }), json!(null)] {
        let answer = agent.put("/v1/rules", &body);
        assert!(["invalid_rules", "invalid_request"].contains(&answer.json()["code"].as_str().unwrap()), "{body}");
        assert_eq!(answer.status, 400);
    }
    assert_eq!(agent.get("/v1/rules").ok(), document(100));
    assert_in_force(&lab, Some(100));
}

#[test]
fn more_rules_than_there_is_room_for_are_refused() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let rules = |count: u32| {
        let rule = |number: u32| json!({ "name": format!("rule {number}"), "match": { "remote_port": number + 1 } });
        json!({ "rule": (0..count).map(rule).collect::<Vec<_>>() })
    };
    assert_eq!(agent.put("/v1/rules", &rules(1024)).ok()["count"], 1024);
    agent.put("/v1/rules", &rules(1025)).problem(400, "invalid_rules");
    assert_eq!(agent.get("/v1/status").ok()["rules"]["count"], 1024);
}

#[test]
fn a_command_that_gets_bad_rules_names_file_line_and_what_was_expected() {
    let lab = Lab::new();
    let agent = lab.agent().rules(&toml(100)).start();
    let text = "[[rule]]\nname = \"a\"\n\n[[rule]]\nname = \"b\"\nkeepalive = { idle = \"60s\", count = 300, interval = \"2s\" }\n";
    let file = lab.directory.write("bad.toml", text);
    let output = agent.cli(&["rule", "apply", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("{}:6:", file.display())), "{said}");
    assert!(said.contains("expected a number of probes from 1 to 127") && said.contains("300"), "{said}");
    assert_in_force(&lab, Some(100));
}

#[test]
fn a_signal_reads_the_file_again() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(&toml(100)).start();
    let open = lab.outbound("127.0.0.1");
    let file = lab.directory.path().join("rules.toml");
    fs::write(&file, toml(200)).unwrap();
    assert_eq!(agent.get("/v1/rules").ok(), document(100), "it waits for the signal");
    agent.running().signal(Signal::HUP);
    wait_until("the new rules are in force", SOON, || agent.get("/v1/rules").ok() == document(200));
    assert_in_force(&lab, Some(200));
    // What was set stays set.
    assert!(open.program.options(open.sock).keepalive);

    // A file with a fault leaves the rules as they are, and the agent says so.
    fs::write(&file, "[[rule]]\nname = 5\n").unwrap();
    agent.running().signal(Signal::HUP);
    wait_until("the fault is named", SOON, || agent.log().contains("rules.toml:2:"));
    assert_eq!(agent.get("/v1/rules").ok(), document(200));
    assert_in_force(&lab, Some(200));
}

#[test]
fn rules_that_were_pushed_outlive_the_agent() {
    let lab = Lab::new();
    let mut agent = lab.agent().rules(&toml(100)).start();
    agent.put("/v1/rules", &document(200)).ok();
    for signal in [Signal::KILL, Signal::TERM] {
        let before = etag(&agent);
        agent.stop(signal);
        assert_in_force(&lab, Some(200));
        agent.start_again();
        assert_eq!((agent.get("/v1/rules").ok(), etag(&agent)), (document(200), before));
        assert_in_force(&lab, Some(200));
    }
    // A file that has changed meanwhile is news.
    agent.stop(Signal::TERM);
    fs::write(lab.directory.path().join("rules.toml"), toml(300)).unwrap();
    agent.start_again();
    assert_eq!(agent.get("/v1/rules").ok(), document(300));
}

#[test]
fn an_agent_does_not_start_with_bad_rules() {
    let lab = Lab::new();
    let setup =
        lab.agent().rules("[[rule]]\nname = \"a\"\nkeepalive = { idle = \"0s\", count = 5, interval = \"5s\" }\n");
    let said = setup.fails();
    assert!(said.contains("rules.toml:3:") && said.contains("expected a duration of 1s to 32767s"), "{said}");
    let missing = lab.agent().arguments(&["--rules", "/nonexistent/rules.toml"]).fails();
    assert!(missing.contains("/nonexistent/rules.toml"), "{missing}");
}

#[test]
fn the_command_tells_which_rule_would_match() {
    let lab = Lab::new();
    let inner = lab.cgroup.child("inner");
    let rules = format!(
        "{}{}[[rule]]\nname = \"rest\"\n",
        "[[rule]]\nname = \"sip\"\nmatch = { direction = \"inbound\", local_port = 5060, remote = \"192.0.2.0/24\" }\n",
        format_args!(
            "[[rule]]\nname = \"inner\"\nmatch = {{ cgroup = \"{}\" }}\nlifetime = {{ idle = \"5m\" }}\n",
            inner.name()
        ),
    );
    let agent = lab.agent().rules(&rules).start();
    let test = |arguments: &[&str]| agent.cli_json(&[&["rule", "test"], arguments].concat());
    let said = test(&["--remote", "192.0.2.7:40112", "--local", "10.0.0.1:5060"]);
    assert_eq!((&said["matched"], &said["number"], &said["rule"]["name"]), (&json!(true), &json!(1), &json!("sip")));
    let said = test(&["--remote", "192.0.3.7:40112", "--local", "10.0.0.1:5060"]);
    assert_eq!((&said["number"], &said["rule"]["name"]), (&json!(3), &json!("rest")));
    let said = test(&["--remote", "[::1]:1", "--local", "[::1]:2", "--cgroup", &format!("{}/deeper", inner.name())]);
    assert_eq!(said["rule"]["name"], "inner");
    // A file needs no agent.
    let file = lab.directory.write("other.toml", &toml(100));
    let output =
        agent.cli(&["rule", "test", "--remote", "192.0.2.7:1", "--local", "10.0.0.1:2", file.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("idle 100"), "{output:?}");
}

#[test]
fn the_command_lists_the_rules_in_force() {
    let lab = Lab::new();
    let agent = lab.agent().rules(&(toml(100) + &toml(200))).start();
    let table = agent.cli_stdout(&["rule", "list"]);
    let rows: Vec<_> = table.lines().skip(1).collect();
    assert!(rows.len() == 2 && rows[0].contains("idle 100") && rows[1].contains("idle 200"), "{table}");
    let listed = agent.cli_json(&["rule", "list"]);
    assert_eq!(listed, agent.get("/v1/rules").ok());
}

#[test]
fn what_the_command_exports_can_be_applied() {
    let lab = Lab::new();
    let text = "[guard]\nprotect_ports = [22, \"80-82\"]\n\n".to_owned()
        + &toml(100)
        + "match = { direction = \"outbound\", uid = [0, 1000] }\nmode = \"floor\"\n\
           lifetime = { deadline = 2032-12-24T18:00:00Z, idle = \"90m\", jitter = \"10%\" }\nclose = \"fin\"\n";
    let agent = lab.agent().rules(&text).start();
    let before = agent.get("/v1/rules").ok();
    assert_eq!(agent.cli_json(&["rule", "export"]), before);
    let exported = lab.directory.write("exported.toml", &agent.cli_stdout(&["rule", "export"]));
    agent.put("/v1/rules", &document(200)).ok();
    agent.cli_stdout(&["rule", "apply", exported.to_str().unwrap()]);
    assert_eq!(agent.get("/v1/rules").ok(), before);
}
