//! Command lines, run against an agent whose answers are written down beforehand.

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use serde_json::{Value, json};

use super::conn::connection;
use super::output::capture::Capture;
use super::*;
use crate::api::connections::ConnectionList;
use crate::api::problem::{Code, Problem};
use crate::api::rules::RuleDocument;
use crate::client::testing::{Agent, Reply};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["tcpops"].into_iter().chain(line.split_whitespace()))
}

/// Runs a command line, and returns standard output, the exit code, and the requests.
async fn run(line: &str, replies: impl IntoIterator<Item = Reply>) -> (String, Exit, Vec<String>) {
    let agent = Agent::start(replies);
    let cli = parse(line).unwrap();
    let Verb::Ask(question) = cli.verb else { panic!("{line} asks nothing") };
    let capture = Capture::default();
    let mut context = Context { socket: agent.socket(), out: capture.output(cli.global.output) };
    let exit = ask(question, &mut context).await.unwrap_or_else(|failure| failure.exit());
    (capture.text(), exit, agent.requests().await)
}

fn problem(code: Code) -> Reply {
    let problem = serde_json::to_string(&Problem::new(code, "expected this, found that")).unwrap();
    Reply::new(code.status(), "application/problem+json", &problem)
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_of_the_design() {
    for line in [
        "agent",
        "agent --rules r.toml --cgroup /c --socket /s --pins /p --max-connections 16777216 --netns host",
        "agent --ebpf-log trace --log-format json --object o.bpf",
        "agent --config /etc/tcpops/agent.toml --hook /usr/local/bin/told --hook-type closed,expiring",
        "conn list",
        "conn list --state ESTABLISHED --local 10.0.0.0/8 --remote ::1 --local-port 1-2 --remote-port 5060 --cgroup / \
         --uid 0 --netns 1 --rule a --limit 1",
        "conn show 17",
        "state 17",
        "alive cookie:42 -o json",
        "keepalive enable 17 --idle 60s --count 5 --interval 5s",
        "keepalive enable fd:7 --idle 1m --count 5 --interval 5s --user-timeout auto",
        "keepalive disable 17",
        "lifetime set 17 --idle 5m --max-age 1h --deadline 2026-12-24T18:00:00Z --jitter 10%",
        "keepalive disable --match state=established --match remote=10.0.0.0/8",
        "lifetime clear 17",
        "lifetime set --match uid=0 --idle 5m",
        "close --match rule=a --yes",
        "close local:10.0.0.1:5060+remote:[2001:db8::7]:40112",
        "rule list --output ndjson",
        "rule export",
        "rule apply rules.toml --dry-run --if-match 7",
        "rule test --remote 192.0.2.7:1 --local 10.0.0.1:2 --direction outbound --uid 1 --cgroup /a rules.toml",
        "events",
        "events --follow --since 0 --type closed,expiring --type opened --conid 7 --rule a --local ::1 --remote 10.0.0.0/8",
        "events --local-port 1 --remote-port 1-2 --uid 0 --netns 1 --cgroup /a -o json",
        "--socket /s status",
        "detach --pins /p",
        "detach --force --pins /p",
    ] {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(parse(&words.join(" ")).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn what_is_no_command_line() {
    for (line, message) in [
        ("", "Usage: tcpops"),
        ("conn", "Usage: tcpops conn"),
        ("open 17", "unrecognized subcommand 'open'"),
        ("state", "<ID>"),
        ("state 17 18", "unexpected argument '18'"),
        ("state 17 -o yaml", "[possible values: table, wide, json, ndjson]"),
        ("conn list --state open", "[possible values: unknown, established, syn-sent"),
        ("conn list --local 10.0.0.1/8", "10.0.0.1/8 has bits set beyond /8; expected 10.0.0.0/8"),
        ("conn list --remote-port 0", "expected a port from 1 to 65535"),
        ("conn list --uid -1", "unexpected argument '-1'"),
        ("conn list --limit 0", "0 is not in 1.."),
        ("agent --max-connections 0", "0 is not in 1..=16777216"),
        ("agent --max-connections 16777217", "16777217 is not in 1..=16777216"),
        ("agent --hook-type open", "[possible values: opened, adopted"),
        ("agent --netns none", "[possible values: all, host]"),
        ("lifetime set 17", "<--idle <DUR>|--max-age <DUR>|--deadline <TIME>>"),
        ("close", "<ID|--match <KEY=VALUE>>"),
        ("close 17 --match uid=0", "cannot be used with"),
        ("close 17 --yes", "cannot be used with"),
        ("keepalive disable --match uid=x", "uid: expected a uid, a whole number, found \"x\""),
        ("events --type open", "[possible values: opened, adopted, transition"),
        ("rule apply", "<FILE>"),
        ("rule apply f --if-match \"7\"", "invalid digit"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
        assert!(error.use_stderr(), "{line}: {error}");
        assert!(error.to_string().contains(message), "{line}: {error}");
    }
    let empty = Cli::try_parse_from(["tcpops", "state", ""]).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::InvalidValue);
    for line in ["--help", "--version", "help keepalive"] {
        assert!(!parse(line).unwrap_err().use_stderr(), "{line}");
    }
}

#[test]
fn the_agent_has_defaults_and_the_global_socket() {
    let cli = parse("agent --socket /s").unwrap();
    assert_eq!(cli.global.socket(), std::path::Path::new("/s"));
    let Verb::Agent(args) = cli.verb else { panic!("not the agent") };
    assert_eq!(args.options, crate::config::Options::default());
}

#[test]
fn help_has_examples_and_exit_codes() {
    fn check(command: &mut clap::Command) {
        let name = command.get_name().to_owned();
        assert!(command.get_about().is_some_and(|about| !about.to_string().contains('\n')), "{name}");
        let help = command.render_long_help().to_string();
        assert!(command.has_subcommands() || help.contains("Examples:\n  tcpops"), "{name}: {help}");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = after.lines().skip_while(|line| *line != "Examples:");
        assert!(examples.map(|line| line.chars().count()).all(|width| width <= 110), "{name}: {after}");
        command.get_subcommands_mut().filter(|verb| verb.get_name() != "help").for_each(check);
    }
    check(&mut Cli::command());
    assert!(Cli::command().render_help().to_string().contains("Exit codes: 0 done, 1 failed, 2 usage"));
    assert!(!Cli::command().find_subcommand_mut("agent").unwrap().render_help().to_string().contains("--object"));
}

#[tokio::test]
async fn exit_codes_are_those_of_the_design() {
    let state = |alive: bool| {
        let (code, name) = if alive { (1, "ok") } else { (-1, "none") };
        Reply::json(&json!({ "conid": 17, "code": code, "name": name, "alive": alive }).to_string())
    };
    let did = |out: String, exit: Exit| (out, exit as u8);
    for (line, reply, out, exit) in [
        ("state 17", state(true), "1 ok -\n", 0),
        ("state 99", state(false), "-1 none -\n", 0),
        ("alive 17", state(true), "alive 1 ok\n", 0),
        ("alive 99", state(false), "not-alive -1 none\n", 1),
        ("close 17", Reply::json(r#"{"conid":17}"#), "17 closed\n", 0),
        ("close 99", problem(Code::NoSuchConnection), "", 4),
        ("close no", problem(Code::InvalidRequest), "", 2),
        ("close 17", problem(Code::NotClosable), "", 1),
        ("close 17", problem(Code::Forbidden), "", 1),
        ("close 17", Reply::Broken(String::new()), "", 1),
        ("detach", Reply::json(r#"{"restored":true}"#), "detached, socket options restored\n", 0),
    ] {
        let (text, code, _) = run(line, [reply]).await;
        assert_eq!(did(text, code), (out.to_owned(), exit), "{line}");
    }
}

#[tokio::test]
async fn requests_carry_what_the_options_say() {
    let keepalive =
        r#"{"conid":17,"keepalive":true,"idle_seconds":60,"count":5,"interval_seconds":5,"user_timeout_ms":85000}"#;
    let (out, _, requests) = run(
        "keepalive enable fd:7 --idle 60s --count 5 --interval 5s --user-timeout auto -o ndjson",
        [Reply::json(keepalive)],
    )
    .await;
    assert_eq!(out, format!("{keepalive}\n"));
    assert!(requests[0].starts_with("PUT /v1/connections/fd:7/keepalive HTTP/1.1\n"));
    assert!(
        requests[0].ends_with("\n{\"idle_seconds\":60,\"count\":5,\"interval_seconds\":5,\"user_timeout_ms\":85000}")
    );

    let (out, _, requests) = run(
        "lifetime set 17 --max-age 1h --deadline 2026-12-24T19:00:00+01:00 --jitter 5%",
        [Reply::json(r#"{"conid":17,"max_age_seconds":3600.0,"deadline":"2026-12-24T18:00:00Z","jitter_percent":5}"#)],
    )
    .await;
    assert_eq!(out, "CONID  LIFETIME\n17     max 1h, jitter 5%, until 2026-12-24T18:00:00Z\n");
    assert!(requests[0].starts_with("PUT /v1/connections/17/lifetime HTTP/1.1\n"));
    assert!(
        requests[0]
            .ends_with("\n{\"max_age_seconds\":3600.0,\"deadline\":\"2026-12-24T18:00:00Z\",\"jitter_percent\":5}")
    );

    for (line, reply, start) in [
        ("keepalive disable 17", keepalive, "DELETE /v1/connections/17/keepalive "),
        ("lifetime clear 17", r#"{"conid":17}"#, "DELETE /v1/connections/17/lifetime "),
        ("close 17", r#"{"conid":17}"#, "DELETE /v1/connections/17 "),
        ("detach", r#"{"restored":true}"#, "POST /v1/detach "),
    ] {
        let (_, exit, requests) = run(line, [Reply::json(reply)]).await;
        assert_eq!(exit, Exit::Done, "{line}");
        assert!(requests[0].starts_with(start), "{line}: {requests:?}");
    }
}

#[tokio::test]
async fn one_change_to_all_that_match_is_one_request() {
    let answer = |done: usize, failed: usize| {
        let result = json!({ "id": "7", "conid": 7, "local": "10.0.0.1:1", "remote": "192.0.2.7:2" });
        Reply::json(&json!({ "done": done, "failed": failed, "listeners": 1, "results": [result] }).to_string())
    };
    for (line, sent) in [
        (
            "keepalive enable --match remote=10.0.0.0/8 --match local_port=5060 --idle 60s --count 5 --interval 5s",
            json!({
                "match": { "remote": "10.0.0.0/8", "local_port": 5060 }, "action": "keepalive_enable",
                "keepalive": { "idle_seconds": 60, "count": 5, "interval_seconds": 5 },
            }),
        ),
        ("keepalive disable --match uid=7", json!({ "match": { "uid": 7 }, "action": "keepalive_disable" })),
        (
            "lifetime set --match state=established --idle 5m",
            json!({
                "match": { "state": "established" }, "action": "lifetime_set", "lifetime": { "idle_seconds": 300.0 },
            }),
        ),
        ("lifetime clear --match rule=a", json!({ "match": { "rule": "a" }, "action": "lifetime_clear" })),
        ("close --match rule=a --yes", json!({ "match": { "rule": "a" }, "action": "close" })),
    ] {
        for (reply, exit) in [(answer(1, 0), Exit::Done), (answer(1, 1), Exit::Partial), (answer(0, 1), Exit::Failed)] {
            let (out, code, requests) = run(line, [reply]).await;
            assert_eq!((conids(&out), code), (vec![7], exit), "{line}: {out}");
            assert!(requests[0].starts_with("POST /v1/policies:batch HTTP/1.1\n"), "{requests:?}");
            let body: Value = serde_json::from_str(requests[0].rsplit('\n').next().unwrap()).unwrap();
            assert_eq!(body, sent, "{line}");
        }
    }
    let (out, _, _) = run("close --match rule=a --yes -o ndjson", [answer(1, 0)]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["conid"], 7);
    let (out, _, _) = run("close --match rule=a --yes -o json", [answer(1, 0)]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["done"], 1);
    let (out, exit, _) = run("close --match rule=a --yes", [problem(Code::TooMany)]).await;
    assert_eq!((out.as_str(), exit), ("", Exit::Failed));
}

#[tokio::test]
async fn without_yes_what_would_be_closed_is_only_shown() {
    let listener = {
        let mut listener = connection(3);
        listener.direction = crate::api::values::Direction::Listen;
        serde_json::to_string(&listener).unwrap() + "\n"
    };
    let reply = || Reply::Whole(Reply::lines(&[&line(9), &listener, &line(1)], "0\r\n\r\n"));
    let (out, exit, requests) = run("close --match rule=a", [reply()]).await;
    assert_eq!((conids(&out), exit), (vec![1, 9], Exit::Usage));
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("GET /v1/connections?rule=a HTTP/1.1\n"), "{requests:?}");
    let (out, exit, _) = run("close --match rule=a -o ndjson", [reply()]).await;
    assert_eq!((out, exit), ([line(1), line(9)].concat(), Exit::Usage));
    let nothing = Reply::Whole(Reply::lines(&[&listener], "0\r\n\r\n"));
    assert_eq!(run("close --match rule=a", [nothing]).await.1, Exit::Done);
}

fn line(conid: u64) -> String {
    serde_json::to_string(&connection(conid)).unwrap() + "\n"
}

fn conids(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

#[tokio::test]
async fn a_list_is_sorted_for_people_and_handed_on_to_programs() {
    let reply = || Reply::Whole(Reply::lines(&[&line(9), &line(1), &line(4)], "0\r\n\r\n"));
    let (table, exit, requests) = run("conn list --remote ::/0 --rule b&c", [reply()]).await;
    assert_eq!((conids(&table), exit), (vec![1, 4, 9], Exit::Done));
    assert!(table.starts_with("CONID  STATE "), "{table}");
    assert!(requests[0].starts_with("GET /v1/connections?remote=%3A%3A%2F0&rule=b%26c HTTP/1.1\n"), "{requests:?}");
    assert!(requests[0].contains("\naccept: application/x-ndjson\n"));

    let (json, _, _) = run("conn list -o json", [reply()]).await;
    let list: ConnectionList = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::to_string_pretty(&list).unwrap() + "\n");
    assert_eq!(list.connections.iter().map(|connection| connection.conid).collect::<Vec<_>>(), [1, 4, 9]);

    let (ndjson, _, _) = run("conn list -o ndjson", [reply()]).await;
    assert_eq!(ndjson, [line(9), line(1), line(4)].concat());
}

#[tokio::test]
async fn an_empty_list_is_still_one() {
    let reply = || Reply::Whole(Reply::lines(&[], "0\r\n\r\n"));
    let (table, exit, _) = run("conn list", [reply()]).await;
    assert_eq!((table.lines().count(), exit), (1, Exit::Done));
    assert_eq!(run("conn list -o json", [reply()]).await.0, "{\n  \"connections\": []\n}\n");
    assert_eq!(run("conn list -o ndjson", [reply()]).await.0, "");
}

#[tokio::test]
async fn a_list_that_breaks_off_is_done_in_part() {
    for format in ["table", "ndjson", "json"] {
        let reply = Reply::Broken(Reply::lines(&[&line(9), &line(1)], ""));
        let (out, exit, _) = run(&format!("conn list -o {format}"), [reply]).await;
        assert_eq!((out.matches("192.0.2.7").count(), exit), (2, Exit::Partial), "{out}");
    }
    let (out, exit, _) = run("conn list", [problem(Code::InvalidRequest)]).await;
    assert_eq!((out.as_str(), exit), ("", Exit::Usage));
}

#[tokio::test]
async fn a_limit_is_asked_for_page_by_page() {
    let page = |conids: &[u64], next: Option<u64>| {
        let connections: Vec<_> = conids.iter().map(|conid| connection(*conid)).collect();
        Reply::json(&serde_json::to_string(&ConnectionList { connections, next }).unwrap())
    };
    let (out, exit, requests) = run("conn list --limit 3", [page(&[1, 2], Some(2)), page(&[5, 6], Some(6))]).await;
    assert_eq!((conids(&out), exit), (vec![1, 2, 5], Exit::Done));
    assert!(requests[0].starts_with("GET /v1/connections?limit=3 HTTP/1.1\n"), "{requests:?}");
    let second = requests[1].lines().next().unwrap();
    assert!(second.contains("cursor=2") && second.contains("limit=1"), "{second}");
    let (out, exit, _) = run("conn list --limit 9 -o ndjson", [page(&[1], Some(1)), page(&[2], Some(1))]).await;
    assert_eq!((out, exit), ([line(1), line(2)].concat(), Exit::Partial), "a cursor that stands still");
}

#[tokio::test]
async fn rules_are_listed_exported_and_tested() {
    let rules = serde_json::to_string(&super::rule::tests::rules()).unwrap();
    let (out, _, _) = run("rule list -o ndjson", [Reply::json(&rules)]).await;
    let names: Vec<_> = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["sip-clients", "by hand", "rest"]);
    let (out, _, _) = run("rule list -o json", [Reply::json(&rules)]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), serde_json::from_str::<Value>(&rules).unwrap());
    let (out, exit, _) = run("rule export", [Reply::json(&rules)]).await;
    assert_eq!((RuleDocument::from_toml(&out, "rules.toml"), exit), (Ok(super::rule::tests::rules()), Exit::Done));
    let (out, _, _) = run("rule export -o json", [Reply::json(&rules)]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), serde_json::from_str::<Value>(&rules).unwrap());
    let line = "rule test --local 10.0.0.1:5060 --remote 192.0.2.7:1 -o ndjson";
    let (out, exit, _) = run(line, [Reply::json(&rules)]).await;
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["matched"], &found["number"], exit), (&json!(true), &json!(1), Exit::Done));
    assert_eq!(found["rule"]["name"], "sip-clients");
    let (out, exit, _) = run("rule test --local 10.0.0.1:5060 --direction listen", [Reply::json(&rules)]).await;
    assert_eq!(
        (out.as_str(), exit),
        ("rule  -  none matches: the connection stays as its program has it\n", Exit::Done)
    );
}

const EVENTS: [&str; 3] = [
    "{\"seq\":4,\"time\":\"2026-11-23T03:07:21Z\",\"type\":\"heartbeat\"}\n",
    "{\"seq\":5,\"time\":\"2026-11-23T03:07:21Z\",\"type\":\"resynchronised\",\"tracked\":1}\n",
    "{\"seq\":6,\"time\":\"2026-11-23T03:07:21Z\",\"type\":\"lost\",\"reason\":\"agent_restarted\"}\n",
];

#[tokio::test]
async fn events_are_lines_for_people_and_handed_on_to_programs() {
    let reply = || Reply::Whole(Reply::lines(&EVENTS, "0\r\n\r\n"));
    let (table, exit, requests) = run("events --type closed,opened --remote ::/0 --since 4", [reply()]).await;
    let time = "2026-11-23T03:07:21.000Z";
    assert_eq!(
        table,
        format!("{time}  resynchronised  1 connections\n{time}  lost        some events: agent_restarted\n")
    );
    assert_eq!(exit, Exit::Done);
    let target = requests[0].split(' ').nth(1).unwrap();
    let mut fields: Vec<_> = target.strip_prefix("/v1/events?").unwrap().split('&').collect();
    fields.sort_unstable();
    assert_eq!(fields, ["follow=false", "remote=%3A%3A%2F0", "since=4", "type=closed%2Copened"]);

    // Only the end of the agent ends it.
    let (ndjson, exit, _) = run("events --follow -o ndjson", [reply()]).await;
    assert_eq!((ndjson, exit), (EVENTS[1..].concat(), Exit::Unreachable));

    let (json, exit, _) = run("events -o json", [Reply::Whole(Reply::lines(&EVENTS[1..], "0\r\n\r\n"))]).await;
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((document["events"].as_array().unwrap().len(), exit), (2, Exit::Done));
    let (json, _, _) = run("events -o json", [Reply::Whole(Reply::lines(&[], "0\r\n\r\n"))]).await;
    assert_eq!(json, "{\n  \"events\": []\n}\n");
}

#[tokio::test]
async fn a_document_without_an_end_is_refused() {
    let cli = parse("events --follow -o json").unwrap();
    let Verb::Ask(question) = cli.verb else { panic!("it asks") };
    let mut context = Context { socket: "/nowhere".into(), out: Capture::default().output(cli.global.output) };
    let failure = ask(question, &mut context).await.unwrap_err();
    assert_eq!((failure.exit(), failure.message().lines().count()), (Exit::Usage, 1));
}
