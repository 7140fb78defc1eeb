//! Command lines, and what becomes of them with an agent of answers written down.

use clap::error::ErrorKind;
use serde_json::{Value, json};

use super::conn::connection;
use super::output::capture::Capture;
use super::*;
use crate::api::connections::ConnectionList;
use crate::api::problem::{Code, Problem};
use crate::client::testing::{Agent, Reply};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["tcpops"].into_iter().chain(line.split_whitespace()))
}

/// Does what a command line says; answers with standard output, the exit code, and the requests.
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
    command().debug_assert();
}

#[test]
fn every_verb_of_the_design() {
    for line in [
        "agent",
        "agent --rules r.toml --cgroup /c --socket /s --pins /p --max-connections 16777216 --netns host",
        "agent --ebpf-log trace --log-format json --object o.bpf",
        "conn list",
        "conn list --state ESTABLISHED --local 10.0.0.0/8 --remote ::1 --local-port 1-2 --remote-port 5060 --cgroup / \
         --uid 0 --netns 1 --rule a --limit 1",
        "conn show 17",
        "state 17",
        "alive cookie:42 -o json",
        "keepalive enable 17 --idle 60s --count 5 --interval 5s",
        "keepalive enable fd:7 --idle 1m --count 5 --interval 5s --user-timeout auto",
        "keepalive disable 17",
        "lifetime set 17 --idle 5m --max-age 1h --deadline 2026-12-24T18:00:00Z",
        "lifetime clear 17",
        "close local:10.0.0.1:5060+remote:[2001:db8::7]:40112",
        "rule list --output ndjson",
        "rule apply rules.toml --dry-run --if-match 7",
        "rule test --remote 192.0.2.7:1 --local 10.0.0.1:2 --direction outbound --uid 1 --cgroup /a rules.toml",
        "--socket /s status",
        "detach --pins /p",
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
        ("state 17 -o yaml", "[possible values: table, json, ndjson]"),
        ("conn list --state open", "[possible values: unknown, established, syn-sent"),
        ("conn list --local 10.0.0.1/8", "10.0.0.1/8 has bits set beyond /8; expected 10.0.0.0/8"),
        ("conn list --remote-port 0", "expected a port from 1 to 65535"),
        ("conn list --uid -1", "unexpected argument '-1'"),
        ("conn list --limit 0", "0 is not in 1.."),
        ("agent --max-connections 0", "0 is not in 1..=16777216"),
        ("agent --max-connections 16777217", "16777217 is not in 1..=16777216"),
        ("agent --netns none", "[possible values: all, host]"),
        ("lifetime set 17", "<--idle <DUR>|--max-age <DUR>|--deadline <TIME>>"),
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
    assert_eq!((args.max_connections, args.netns), (1_048_576, NetnsScope::All));
    assert_eq!((args.ebpf_log, args.log_format), (EbpfLog::Off, LogFormat::Text));
    assert!(args.rules.is_none() && args.cgroup.is_none() && args.pins.is_none());
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
    check(&mut command());
    assert!(command().render_help().to_string().contains("Exit codes: 0 done, 1 failed, 2 usage"));
    assert!(!command().find_subcommand_mut("agent").unwrap().render_help().to_string().contains("--object"));
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
        "lifetime set 17 --max-age 1h --deadline 2026-12-24T19:00:00+01:00",
        [Reply::json(r#"{"conid":17,"max_age_seconds":3600.0,"deadline":"2026-12-24T18:00:00Z"}"#)],
    )
    .await;
    assert_eq!(out, "CONID  LIFETIME\n17     max 1h, until 2026-12-24T18:00:00Z\n");
    assert!(requests[0].starts_with("PUT /v1/connections/17/lifetime HTTP/1.1\n"));
    assert!(requests[0].ends_with("\n{\"max_age_seconds\":3600.0,\"deadline\":\"2026-12-24T18:00:00Z\"}"));

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
async fn rules_are_listed_and_tested() {
    let rules = serde_json::to_string(&super::rule::tests::rules()).unwrap();
    let (out, _, _) = run("rule list -o ndjson", [Reply::json(&rules)]).await;
    let names: Vec<_> = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["sip-clients", "by hand", "rest"]);
    let (out, _, _) = run("rule list -o json", [Reply::json(&rules)]).await;
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
