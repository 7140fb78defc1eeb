//! The command line, as it prints what the socket answers.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::json;

use super::connections::rules;
use super::{Recording, Stage, mask};
use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};

/// For tables: a column is as wide as the values in it, so the room between columns is left out. Then the values that
/// differ from run to run.
static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let masks = [
        ("(?m) +$", ""),
        (" {2,}", "  "),
        (r"(?m)^(\d+  \S+  (?:in|out|listen)  \S+  \S+  )\S+", "$1<age>"),
        // The cookie, after the uid.
        (r"(?m)(  \d+  )\d+$", "$1<int>"),
        (r"\b(for|in) \d[0-9.a-z]*", "$1 <duration>"),
        (r"\d\S* ago", "<duration> ago"),
        (r"(?m)^(cookie|netns|cgroup id)  \d+$", "$1  <int>"),
        (r"(?m)^(idle|round trip|bytes|kernel|follow)  .*$", "$1  <text>"),
        (r"version \S+, pid \d+", "version <text>, pid <int>"),
        (r"(?m)^limitation  .*\n", ""),
    ];
    masks.map(|(mask, with)| (mask::pattern(mask), with)).into()
});

fn run(recording: &mut Recording, agent: &Agent, arguments: &[&str]) {
    let mut printed = agent.cli_stdout(arguments);
    if !arguments.contains(&"json") {
        printed = MASKS.iter().fold(printed, |text, (mask, with)| mask.replace_all(&text, *with).into_owned());
    }
    recording.note(&arguments.join(" "));
    recording.printed(&printed);
}

#[test]
fn answers_of_the_command_line() {
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--record", "all"]).start();
    agent.put("/v1/rules", &rules()).ok();
    let mut stage = Stage::new(&lab);
    let listener = stage.listen("127.0.0.1:5060");
    stage.inbound(listener, listener.local);
    for to in ["[::1]:7004", "127.0.0.1:7004", "127.0.0.1:7006", "127.0.0.1:7007", "127.0.0.1:7001"] {
        stage.outbound(to);
    }
    agent.keepalive("4", 30, 3, 3);
    agent.lifetime("7", &json!({ "idle_seconds": 3600 })).ok();
    wait_until("what is near is watched", SOON, || agent.get("/v1/status").ok()["lifetimes"] == 3);
    wait_until("all are told of", SOON, || agent.history("&type=opened").len() == 7);
    let mut recording = Recording::new("command");
    for arguments in [
        &["conn", "list"][..],
        &["conn", "list", "-o", "wide"],
        &["conn", "list", "-o", "json", "--direction", "listen"],
        &["conn", "show", "4"],
        &["conn", "show", "2"],
        &["conn", "show", "4", "-o", "json"],
        &["state", "3"],
        &["state", "3", "-o", "json"],
        &["alive", "3"],
        &["rule", "list"],
        &["rule", "list", "-o", "json"],
        &["events", "--type", "opened"],
        &["events", "--type", "opened", "-o", "json"],
        &["status"],
        &["status", "-o", "json"],
    ] {
        run(&mut recording, &agent, arguments);
    }
    recording.check();
}
