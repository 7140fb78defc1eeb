//! The hook: a program that is run with events, bounded in number and in time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_for, wait_to_see, wait_until};

/// A shell script in the lab's directory, `$1` being that directory.
fn script(lab: &Lab, text: &str) -> PathBuf {
    let directory = lab.directory.path().display();
    let path = lab.directory.write("hook", &format!("#!/bin/sh\nset -- {directory}\n{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// What the script has written to the file `name`, a line for each run.
fn written(lab: &Lab, name: &str) -> Vec<String> {
    let text = fs::read_to_string(lab.directory.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn metric(agent: &Agent, name: &str) -> u64 {
    let text = agent.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("tcpops_{name}_total ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn it_is_run_with_each_event_that_it_is_for() {
    let lab = Lab::new();
    let hook = script(&lab, "cat >>\"$1/said\"; echo heard; echo complained >&2");
    let rules = "[[rule]]\nname = \"brief\"\nlifetime = { max_age = \"1s\" }\n";
    let arguments = ["--hook", path(&hook), "--hook-type", "expiring,closed"];
    let agent = lab.agent().rules(rules).arguments(&arguments).start();
    let line = lab.outbound("127.0.0.1");
    let said: Vec<Value> = wait_for("both events", SOON, || {
        let lines = written(&lab, "said");
        let events = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<Value>, _>>().ok()?;
        (events.len() == 2).then_some(events)
    });
    let mut types: Vec<_> = said.iter().map(|event| event["type"].clone()).collect();
    types.sort_unstable_by_key(Value::to_string);
    assert_eq!(types, ["closed", "expiring"]);
    for event in &said {
        assert_eq!((&event["cookie"], &event["rule"]), (&json!(line.sock.cookie), &json!("brief")));
        assert_eq!(agent.history("&type=expiring,closed").iter().filter(|told| *told == event).count(), 1, "{event}");
    }
    wait_until("what it says is logged", SOON, || {
        ["heard", "complained"].iter().all(|word| agent.log().matches(word).count() == 2)
    });
    wait_until("its runs are counted", SOON, || metric(&agent, "hook_done") == 2);
}

#[test]
fn it_is_bounded_in_number_and_what_is_too_much_is_counted() {
    let lab = Lab::new();
    // Each run says how many run with it, and goes on until it is let go.
    let hook = script(
        &lab,
        "read event; echo \"$event\" >>\"$1/begun\"; while [ ! -e \"$1/go\" ]; do sleep 0.02; done; echo done >>\"$1/ended\"",
    );
    let config = lab.directory.write(
        "agent.toml",
        &format!("[hook]\nprogram = \"{}\"\ntypes = [\"closed\"]\nmax_running = 2\ntimeout = \"1m\"\n", hook.display()),
    );
    let mut agent = lab.agent().arguments(&["--config", path(&config)]).start();
    let mut program = lab.program();
    // 1201 ends: two run, 1024 wait, the others are dropped.
    program.churn("127.0.0.1", 600);
    let all = 1201;
    wait_until("what is too much is dropped", SOON, || metric(&agent, "hook_dropped") == all - 1024 - 2);
    wait_to_see("two run", &2, || written(&lab, "begun").len());
    agent.wait_to_say("the hook is too slow");
    // Nothing else waits for it.
    assert_eq!(agent.history("&type=closed").len() as u64, all);
    assert_eq!(agent.get("/readyz").status, 200);

    // A run that ends makes room for the next one, the oldest first.
    lab.directory.write("go", "");
    wait_until("more are run", SOON, || written(&lab, "ended").len() >= 10);
    let begun = written(&lab, "begun");
    let seqs: Vec<u64> = begun
        .iter()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            event["seq"].as_u64().expect("it is a number")
        })
        .collect();
    let told: Vec<u64> = agent.history("&type=closed").iter().filter_map(|event| event["seq"].as_u64()).collect();
    // They are begun in order, and two run at a time, of which one may be slow to write: so many were begun, and those are
    // the oldest, but for two that have not written yet.
    for seq in &seqs {
        let place = told.iter().position(|told| told == seq).expect("it is one of those that were told");
        assert!(place < seqs.len() + 2, "{seqs:?}");
    }
    agent.stop(Signal::TERM);
}

#[test]
fn it_is_killed_after_its_time_and_with_the_agent() {
    let lab = Lab::new();
    let hook = script(&lab, "sleep 1000 & echo $! $$ >>\"$1/pids\"; wait");
    let text = format!("[hook]\nprogram = \"{}\"\ntypes = [\"opened\"]\ntimeout = \"1s\"\n", hook.display());
    let config = lab.directory.write("agent.toml", &text);
    let mut agent = lab.agent().arguments(&["--config", path(&config)]).start();
    let all_gone = |runs: usize| {
        let pids = written(&lab, "pids");
        let alive = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        pids.len() == runs && pids.iter().flat_map(|line| line.split(' ')).all(|pid| !alive(pid))
    };
    let _first = lab.outbound("127.0.0.1");
    wait_until("it runs", SOON, || written(&lab, "pids").len() == 1);
    assert!(!all_gone(1));
    wait_until("it is killed, with what it started", SOON, || all_gone(1));
    wait_until("that is counted", SOON, || metric(&agent, "hook_killed") == 1);
    agent.wait_to_say("took too long");

    let _second = lab.outbound("127.0.0.1");
    wait_until("it runs again", SOON, || written(&lab, "pids").len() == 2);
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    wait_until("nothing is left of it", SOON, || all_gone(2));
}

#[test]
fn a_hook_that_fails_is_told_of_and_does_no_harm() {
    let lab = Lab::new();
    let hook = script(&lab, "exit 7");
    let agent = lab.agent().arguments(&["--hook", path(&hook), "--hook-type", "opened"]).start();
    let _first = lab.outbound("127.0.0.1");
    wait_until("the failure is counted", SOON, || metric(&agent, "hook_failed") == 1);
    agent.wait_to_say("exit status: 7");
    fs::remove_file(&hook).expect("it is there");
    let _second = lab.outbound("127.0.0.1");
    wait_until("this one too", SOON, || metric(&agent, "hook_failed") == 2);
    assert_eq!(metric(&agent, "hook_done"), 0);
    assert_eq!(agent.get("/readyz").status, 200);
}

#[test]
fn what_is_wrong_with_it_is_said_at_the_start() {
    let lab = Lab::new();
    let hook = script(&lab, "true");
    for (arguments, message) in [
        (vec!["--hook", "hook"], "the hook: expected an absolute path, found hook"),
        (vec!["--hook", "/nonexistent/hook"], "cannot run the hook /nonexistent/hook: No such file or directory"),
        (vec!["--hook", "/etc"], "cannot run the hook /etc: expected an executable file"),
        (vec!["--hook-type", "closed"], "expected --hook with --hook-type"),
        (vec!["--config", "/nonexistent.toml"], "cannot read /nonexistent.toml: No such file or directory"),
    ] {
        let said = lab.agent().arguments(&arguments).fails();
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
    let text = format!("adopt = \"off\"\n\n[hook]\nprogram = \"{}\"\nmax-running = 2\n", hook.display());
    let config = lab.directory.write("agent.toml", &text);
    let said = lab.agent().arguments(&["--config", path(&config)]).fails();
    let expected = format!("{}:5:1: unknown field `max-running`, expected one of `program`", config.display());
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn the_file_says_what_the_command_line_does_not() {
    let lab = Lab::new();
    let early = lab.outbound("127.0.0.1");
    let text = "adopt = \"off\"\nmax-connections = 5000\nlog-format = \"json\"\nnetns = \"all\"\n";
    let config = lab.directory.write("agent.toml", text);
    // The harness gives --netns host, and --max-connections only here.
    let arguments = ["--config", path(&config), "--max-connections", "4096"];
    let agent = lab.agent().arguments(&arguments).start();
    let status = agent.get("/v1/status").ok();
    assert_eq!((&status["max_connections"], &status["tracked"]), (&json!(4096), &json!(0)), "{status}");
    assert_eq!(agent.code(&early.sock.id()), -1);
    wait_until("its log is JSON", SOON, || {
        agent.log().lines().next().is_some_and(|line| serde_json::from_str::<Value>(line).is_ok())
    });
}

#[test]
fn it_has_nothing_of_the_agents() {
    let lab = Lab::new();
    let hook = script(&lab, "env >\"$1/environment\"; ls -l /proc/$$/fd >\"$1/descriptors\"; echo done >>\"$1/said\"");
    // The agent itself has a variable, and a descriptor that programs inherit.
    let inherits = "SECRET=word exec \"$@\" 9</etc/passwd";
    let agent = lab
        .agent()
        .started_by("sh", &["-c", inherits, "sh"])
        .arguments(&["--hook", path(&hook), "--hook-type", "opened"])
        .start();
    let _line = lab.outbound("127.0.0.1");
    wait_until("it has run", SOON, || !written(&lab, "said").is_empty());
    let mut environment = written(&lab, "environment");
    // The shell's own.
    environment.retain(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|name| line.starts_with(name)));
    environment.sort_unstable();
    let expected = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("TCPOPS_SOCKET={}", agent.socket().display()),
    ];
    assert_eq!(environment, expected);
    let descriptors = written(&lab, "descriptors");
    // The shell reads its script, and has put the pipes of its own aside.
    let own = |line: &&String| line.contains("/hook") || line.contains("/descriptors");
    let others: Vec<_> = descriptors.iter().filter(|line| line.contains(" -> ") && !own(line)).collect();
    assert_eq!(others.len(), 3, "{descriptors:?}");
    assert!(others.iter().all(|line| line.contains(" -> pipe:")), "{descriptors:?}");
}
