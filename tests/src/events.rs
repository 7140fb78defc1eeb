//! The stream of events: complete, in order, filtered, and honest about what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::command::{Log, Running};
use crate::harness::http::{exchange, with_headers};
use crate::harness::lab::Lab;
use crate::harness::require;
use crate::harness::stream::Stream;
use crate::harness::wait::{SOON, patient, wait_for, wait_until};
use crate::permissions::open_to_all;

const NOBODY: u32 = 65534;
/// Records what happens to connections although nobody reads it.
const RECORD_ALL: &[&str] = &["--record", "all"];

fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or_else(|| panic!("no {field} in {event}"))
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("every event has a type")).collect()
}

/// The types of the events of one connection, in order.
fn types_of(events: &[Value], conid: u64) -> Vec<&str> {
    types(events).into_iter().zip(events).filter(|(_, event)| event["conid"] == conid).map(|(name, _)| name).collect()
}

/// The numbers must rise, and the time must not go back by more than the events of two CPUs can be apart.
fn assert_in_order(events: &[Value]) {
    for pair in events.windows(2) {
        assert!(number(&pair[0], "seq") < number(&pair[1], "seq"), "{} then {}", pair[0], pair[1]);
    }
}

/// What the agent says of a request that it must refuse.
fn refused(agent: &Agent, path: &str) -> Value {
    agent.get(path).problem(400, "invalid_request")
}

#[test]
fn a_connection_is_told_of_from_its_beginning_to_its_end() {
    let lab = Lab::new();
    let rules = "[[rule]]\nname = \"all\"\nkeepalive = { idle = \"60s\", count = 5, interval = \"7s\" }\n";
    let agent = lab.agent().rules(rules).start();
    let mut stream = agent.events("");
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    agent.keepalive(&conid.to_string(), 61, 6, 8);
    line.program.close(line.sock);
    line.outsider.close(line.far);
    let events = stream.until(|event| event["type"] == "closed");
    assert_in_order(&events);
    assert_eq!(
        types_of(&events, conid),
        ["opened", "transition", "applied", "applied", "transition", "transition", "closed"]
    );
    for event in &events {
        assert_eq!(event["cookie"], line.sock.cookie, "{event}");
        assert_eq!((&event["local"], &event["remote"]), (&json!(line.sock.local), &json!(line.sock.remote())));
        assert_eq!((&event["direction"], &event["uid"]), (&json!("outbound"), &json!(0)));
        assert_eq!(event["netns_cookie"], line.sock.netns_cookie);
        let time: jiff::Timestamp = event["time"].as_str().expect("it is text").parse().expect("it is a date");
        assert!(time.duration_until(jiff::Timestamp::now()).as_secs_f64() < 60.0, "{event}");
    }
    assert_eq!(events[0]["state"], "syn-sent");
    assert_eq!((&events[1]["old_state"], &events[1]["state"]), (&json!("syn-sent"), &json!("established")));
    let in_force =
        json!({ "keepalive": true, "idle_seconds": 60, "count": 5, "interval_seconds": 7, "user_timeout_ms": 0 });
    assert_eq!(
        (&events[2]["rule"], &events[2]["policy"]),
        (&json!("all"), &json!({ "source": "rule", "outcome": "applied", "in_force": in_force }))
    );
    let policy = &events[3]["policy"];
    assert_eq!(
        (&policy["source"], &policy["by_uid"], &policy["in_force"]["idle_seconds"]),
        (&json!("override"), &json!(0), &json!(61))
    );
    // The same again, from what is held.
    let held: Vec<_> = agent.history("").into_iter().filter(|event| event["conid"] == conid).collect();
    assert_eq!(held, events);
}

#[test]
fn what_was_open_before_and_rules_that_go_are_told_of_too() {
    let lab = Lab::new();
    let early = lab.outbound("127.0.0.1");
    let rules = "[[rule]]\nname = \"all\"\nlifetime = { idle = \"1h\" }\n";
    let agent = lab.agent().arguments(RECORD_ALL).rules(rules).start();
    let history = agent.history("");
    let conid = agent.conid(&early.sock.id());
    assert_eq!(types_of(&history, conid), ["adopted", "applied"]);
    let of_it: Vec<_> = history.iter().filter(|event| event["conid"] == conid).collect();
    assert_eq!(of_it[0]["state"], "established");
    assert_eq!(of_it[1]["policy"], json!({ "source": "rule", "lifetime": { "idle_seconds": 3600.0 } }));
    // Rules that go are told of where they were in force.
    agent.put("/v1/rules", &json!({ "rule": [] })).ok();
    let last = wait_for("the change", SOON, || {
        agent.history("").pop().filter(|event| event["type"] == "applied" && event["policy"] == json!({}))
    });
    assert_eq!((number(&last, "conid"), last.get("rule")), (conid, None));
}

#[test]
fn every_connection_of_twenty_thousand_is_told_of_once_and_in_order() {
    const ROUNDS: u32 = 10;
    const EACH: u32 = 1000;
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    let mut stream = agent.events("?type=opened,closed");
    let (mut opened, mut closed) = (BTreeMap::new(), BTreeMap::new());
    let mut last_seq = 0;
    for round in 1..=ROUNDS {
        program.churn("127.0.0.1", EACH);
        // Two ends of each, and the listener.
        let wanted = usize::try_from(round * (2 * EACH + 1)).expect("it is small");
        while closed.len() < wanted {
            let event = stream.event();
            let (seq, conid) = (number(&event, "seq"), number(&event, "conid"));
            assert!(seq > last_seq, "{seq} after {last_seq}");
            last_seq = seq;
            match event["type"].as_str() {
                Some("opened") => assert_eq!(opened.insert(conid, seq), None, "twice: {event}"),
                Some("closed") => {
                    assert!(opened.contains_key(&conid), "closed before it was opened: {event}");
                    assert_eq!(closed.insert(conid, seq), None, "twice: {event}");
                }
                other => panic!("{other:?}: {event}"),
            }
        }
    }
    assert_eq!(opened.len(), closed.len());
    // Conids are handed out without a gap.
    let conids: Vec<u64> = closed.into_keys().collect();
    let first = conids[0];
    assert_eq!(conids, (first..first + conids.len() as u64).collect::<Vec<_>>());
    assert_eq!(agent.counter("events_lost"), 0);
}

#[test]
fn a_reader_that_sleeps_is_told_how_much_it_missed_and_slows_nobody() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut program = lab.program();
    let mut sleeper = agent.events("?since=0");
    program.churn("127.0.0.1", 1);
    let first = number(&wait_for("an event", SOON, || agent.history("").into_iter().next()), "seq");
    // More than the history, the pipes between, and some.
    while agent.history("").last().map_or(0, |event| number(event, "seq") - first) < 30_000 {
        program.churn("127.0.0.1", 500);
        let asked = Instant::now();
        assert_eq!(agent.get("/readyz").status, 200);
        assert!(asked.elapsed() < patient(Duration::from_secs(5)), "a sleeping reader holds requests up");
    }
    let last = number(agent.history("").last().expect("there are events"), "seq");
    let events = sleeper.until(|event| number(event, "seq") >= last);
    let losses: Vec<_> = events.iter().filter(|event| event["type"] == "lost").collect();
    assert!(!losses.is_empty(), "{} events, and nothing was lost", events.len());
    // With no filter nothing is passed over: each number follows the one before, or is accounted for.
    for pair in events.windows(2) {
        let (before, after) = (number(&pair[0], "seq"), number(&pair[1], "seq"));
        let step = if pair[1]["type"] == "lost" { number(&pair[1], "count") } else { 1 };
        assert_eq!(before + step, after, "{} then {}", pair[0], pair[1]);
        if pair[1]["type"] == "lost" {
            assert_eq!(pair[1]["reason"], "slow_reader");
        }
    }
}

#[test]
fn a_ring_that_overflows_is_told_and_what_follows_is_complete_again() {
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--events-bytes", "4096"]).start();
    let mut program = lab.program();
    let mut stream = agent.events("");
    // Sixteen events fill the ring.
    for _ in 0..20 {
        program.churn("127.0.0.1", 100);
    }
    wait_until("events are lost", SOON, || agent.counter("events_lost") > 0);
    let counted = || -> u64 {
        let lost = agent.history("").into_iter().filter(|event| event["type"] == "lost");
        lost.map(|event| {
            assert_eq!(event["reason"], "ring_overflow", "{event}");
            number(&event, "count")
        })
        .sum()
    };
    wait_until("each loss is told", SOON, || counted() == agent.counter("events_lost"));
    // After the last loss all is read anew.
    let is_whole = || {
        let ends: Vec<_> = agent
            .history("")
            .into_iter()
            .filter(|event| event["type"] == "lost" || event["type"] == "resynchronised")
            .collect();
        ends.last().is_some_and(|event| event["type"] == "resynchronised" && event["tracked"] == 0)
    };
    wait_until("all is read anew", SOON, is_whole);
    wait_until("nothing is tracked that is gone", SOON, || agent.get("/v1/status").ok()["tracked"] == 0);

    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    line.program.close(line.sock);
    line.outsider.close(line.far);
    let events = stream.until(|event| event["type"] == "closed" && event["conid"] == conid);
    assert_in_order(&events);
    assert_eq!(types_of(&events, conid), ["opened", "transition", "transition", "transition", "closed"]);
    // Nothing is told twice.
    let mut seen = BTreeSet::new();
    for event in events.iter().filter(|event| event.get("conid").is_some()) {
        let what = (number(event, "conid"), event["type"].to_string(), event["state"].to_string());
        assert!(seen.insert(what), "twice: {event}");
    }
}

#[test]
fn a_close_of_this_agent_keeps_its_cause_through_an_overflow() {
    let lab = Lab::new();
    let agent = lab.agent().arguments(&["--events-bytes", "4096"]).start();
    let (mut line, mut program) = (lab.outbound("127.0.0.1"), lab.program());
    let conid = agent.conid(&line.sock.id());
    agent.lifetime(&conid.to_string(), &json!({ "max_age_seconds": 1 })).ok();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        program.churn("127.0.0.1", 50);
    }
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    assert!(agent.counter("events_lost") > 0, "nothing was lost");
    // Its end may be among what was lost; but if it is told, then truly.
    let of_it = |event: &Value| event["type"] == "closed" && event["conid"] == conid;
    for event in agent.history("").iter().filter(|event| of_it(event)) {
        assert_eq!(event["cause"]["name"], "expired", "{event}");
    }
    wait_until("it is forgotten", SOON, || agent.get("/v1/status").ok()["lifetimes"] == 0);
}

#[test]
fn filters_let_through_what_fits() {
    let lab = Lab::new();
    let rules = "[[rule]]\nname = \"v6\"\nmatch = { remote = \"::1\" }\nlifetime = { idle = \"1h\" }\n";
    let agent = lab.agent().arguments(RECORD_ALL).rules(rules).start();
    let (v4, v6) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    let mut nobody = lab.program_of(NOBODY);
    let (conid4, conid6) = (agent.conid(&v4.sock.id()), agent.conid(&v6.sock.id()));
    let listener = nobody.listen("127.0.0.1");
    let conid_listening = agent.conid(&listener.id());
    let conids =
        |query: &str| -> BTreeSet<u64> { agent.history(query).iter().map(|event| number(event, "conid")).collect() };
    let all = BTreeSet::from([conid4, conid6, conid_listening]);
    wait_until("all are opened", SOON, || conids("") == all);
    for (query, expected) in [
        (format!("&conid={conid4}"), vec![conid4]),
        ("&remote=::1".to_owned(), vec![conid6]),
        ("&remote=127.0.0.0/8".to_owned(), vec![conid4]),
        ("&local=127.0.0.1".to_owned(), vec![conid4, conid_listening]),
        (format!("&remote_port={}", v6.sock.remote().port()), vec![conid6]),
        (format!("&local_port={}", v4.sock.local.port()), vec![conid4]),
        ("&direction=listen".to_owned(), vec![conid_listening]),
        (format!("&uid={NOBODY}"), vec![conid_listening]),
        (format!("&netns={}", v4.sock.netns_cookie), all.iter().copied().collect()),
        (format!("&netns={}", v4.sock.netns_cookie + 1), vec![]),
        (format!("&cgroup={}", lab.cgroup.name()), all.iter().copied().collect()),
        ("&rule=v6&type=applied".to_owned(), vec![conid6]),
        ("&type=opened&remote=127.0.0.1&uid=0".to_owned(), vec![conid4]),
        ("&type=closed".to_owned(), vec![]),
    ] {
        assert_eq!(conids(&query), expected.into_iter().collect(), "{query}");
    }
    for (query, part) in [
        ("type=open", "expected some of opened, adopted, transition"),
        ("rule=other", "expected a rule in force, found \\\"other\\\""),
        ("remote=10.0.0.1/8", "bits set beyond /8"),
        ("since=-1", "since"),
        ("heartbeat_seconds=0", "expected 1 to 3600, found 0"),
        ("heartbeat_seconds=3601", "expected 1 to 3600, found 3601"),
        ("kind=closed", "unknown field `kind`"),
        ("follow=yes", "follow"),
    ] {
        let problem = refused(&agent, &format!("/v1/events?{query}"));
        assert!(problem["detail"].to_string().contains(part), "{query}: {problem}");
    }
}

#[test]
fn since_goes_on_where_one_left_off() {
    let lab = Lab::new();
    let mut agent = lab.agent().arguments(RECORD_ALL).start();
    let mut line = lab.outbound("127.0.0.1");
    let events = wait_for("both events", SOON, || Some(agent.history("")).filter(|events| events.len() == 2));
    let seqs: Vec<u64> = events.iter().map(|event| number(event, "seq")).collect();
    assert_eq!(agent.history(&format!("&since={}", seqs[0])), events[1..]);
    assert_eq!(agent.history(&format!("&since={}", seqs[1])), [] as [Value; 0]);
    assert_eq!(agent.history("&since=0"), events);
    // Without since, a stream that follows begins now.
    let (mut now, mut again) = (agent.events(""), agent.events(&format!("?since={}", seqs[0])));
    assert_eq!(again.event(), events[1]);
    line.program.close(line.sock);
    let closing = now.event();
    assert_eq!((number(&closing, "seq"), closing["type"].as_str()), (seqs[1] + 1, Some("transition")));
    assert_eq!(again.event(), closing);

    // The numbers of the agent before lead to nothing that is held, also when two agents start within a second.
    let mut newest = seqs[1];
    for _ in 0..3 {
        agent.stop(Signal::TERM);
        agent.start_again();
        let history = agent.history(&format!("&since={newest}"));
        assert_eq!((types(&history)[0], &history[0]["reason"]), ("lost", &json!("agent_restarted")));
        assert!(history[0].get("count").is_none(), "{}", history[0]);
        assert!(number(&history[0], "seq") > newest);
        newest = number(&history[0], "seq");
    }
}

#[test]
fn a_quiet_stream_has_a_pulse() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let start = Instant::now();
    let mut stream = agent.events("?heartbeat_seconds=1");
    let beats: Vec<Value> = (0..3)
        .map(|_| serde_json::from_str(&stream.line(SOON).expect("a heartbeat comes")).expect("it is JSON"))
        .collect();
    assert_eq!(types(&beats), ["heartbeat"; 3]);
    // The first comes at once, to say from where on all is told.
    let bounds = Duration::from_secs(2)..patient(Duration::from_secs(6));
    assert!(bounds.contains(&start.elapsed()), "{:?}", start.elapsed());
    let line = lab.outbound("127.0.0.1");
    let opened = stream.event();
    assert_eq!((number(&opened, "seq"), &opened["cookie"]), (number(&beats[2], "seq") + 1, &json!(line.sock.cookie)));
    // What the filters keep back is passed over by the pulse.
    let mut nothing = agent.events("?type=refused&since=0&heartbeat_seconds=1");
    let beat = nothing.line(SOON).expect("a heartbeat comes");
    let beat: Value = serde_json::from_str(&beat).expect("it is JSON");
    assert!(number(&beat, "seq") >= number(&opened, "seq"), "{beat}");
}

#[test]
fn browsers_are_served_too() {
    let lab = Lab::new();
    let agent = lab.agent().arguments(RECORD_ALL).start();
    let _line = lab.outbound("127.0.0.1");
    let events = wait_for("both events", SOON, || Some(agent.history("")).filter(|events| events.len() == 2));
    let request = |headers: &[(&str, &str)]| {
        let headers = [&[("accept", "text/event-stream")], headers].concat();
        let text = with_headers("GET", "/v1/events?follow=false&since=0", &headers, "");
        exchange(agent.socket(), text.as_bytes()).expect("the agent answers")
    };
    let answer = request(&[]);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    let shown = |events: &[Value]| -> Vec<(u64, Value)> {
        events.iter().map(|event| (number(event, "seq"), event.clone())).collect()
    };
    let parsed = |text: &str| -> Vec<(u64, Value)> {
        let blocks = text.split_terminator("\n\n").map(|block| block.split_once('\n').expect("two lines"));
        let number = |line: &str| line.strip_prefix("id: ").and_then(|id| id.parse().ok());
        let data = |line: &str| line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
        blocks.map(|(id, text)| (number(id).expect("an id"), data(text).expect("an event"))).collect()
    };
    assert_eq!(parsed(&answer.text()), shown(&events));
    // A browser that connects again says what it has.
    let first = number(&events[0], "seq").to_string();
    assert_eq!(parsed(&request(&[("last-event-id", &first)]).text()), shown(&events[1..]));
    request(&[("last-event-id", "x")]).problem(400, "invalid_request");
}

#[test]
fn others_see_only_what_is_theirs_and_each_has_some_streams() {
    let lab = Lab::new();
    let agent = lab.agent().arguments(RECORD_ALL).start();
    open_to_all(&agent);
    let (mut nobody, mut root, mut outsider) = (lab.program_of(NOBODY), lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let (own, _other) = (nobody.connect(listener.local), root.connect(listener.local));
    wait_until("all events", SOON, || agent.history("").len() == 4);
    let ask = |nobody: &mut crate::harness::peer::Peer, query: &str| {
        nobody.http(agent.socket(), "GET", &format!("/v1/events?follow=false{query}"), None)
    };
    let text = ask(&mut nobody, "").text();
    let seen: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(seen.len(), 2, "{text}");
    assert!(seen.iter().all(|event| event["cookie"] == own.cookie), "{text}");
    assert_eq!(ask(&mut nobody, "&uid=0").text(), "");

    nobody.hold_streams(agent.socket(), 8);
    ask(&mut nobody, "").problem(429, "too_many_streams");
    // It can still ask for other things, and others for streams.
    assert_eq!(nobody.http(agent.socket(), "GET", "/v1/connections", None).status, 200);
    assert_eq!(agent.history("").len(), 4);
    // Who goes away leaves its places.
    nobody.drop_streams();
    wait_until("a place is free", SOON, || ask(&mut nobody, "").status == 200);
}

#[test]
fn streams_end_with_the_agent() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let mut streams: Vec<Stream> = (0..3).map(|_| agent.events("")).collect();
    // Each has its first heartbeat.
    streams.iter_mut().for_each(|stream| drop(stream.line(SOON).expect("it has begun")));
    let line = lab.outbound("127.0.0.1");
    let stopping = Instant::now();
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    assert!(
        stopping.elapsed() < patient(Duration::from_secs(2)),
        "streams hold the agent up: {:?}",
        stopping.elapsed()
    );
    for stream in &mut streams {
        let cookies: Vec<_> = (0..2).map(|_| stream.event()["cookie"].clone()).collect();
        assert_eq!(cookies, [json!(line.sock.cookie), json!(line.sock.cookie)], "what happened before is told");
        assert!(stream.ends());
    }
}

#[test]
fn the_command_prints_and_follows() {
    let lab = Lab::new();
    let mut agent = lab.agent().arguments(RECORD_ALL).start();
    let mut line = lab.outbound("127.0.0.1");
    let conid = agent.conid(&line.sock.id());
    wait_until("both events", SOON, || agent.history("").len() == 2);
    let printed = agent.cli_stdout(&["events", "--type", "opened", "--remote", "127.0.0.0/8"]);
    let ends = format!("{conid:<6}  {} -> {}", line.sock.local, line.sock.remote());
    assert!(printed.ends_with(&format!("Z  opened      {ends}  syn-sent\n")), "{printed}");
    assert_eq!(printed.lines().count(), 1);
    let document = agent.cli_json(&["events"]);
    assert_eq!(document["events"].as_array().map(Vec::len), Some(2), "{document}");
    assert_eq!(agent.cli(&["events", "--rule", "none"]).status.code(), Some(2));

    let mut follow = Command::new(require::tcpops());
    follow.args(["events", "--follow", "--since", "0", "--type", "closed", "--socket"]).arg(agent.socket());
    let mut child = follow.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let log = Log::default();
    log.collect(child.stdout.take().expect("it is piped"));
    log.collect(child.stderr.take().expect("it is piped"));
    let mut running = Running(child);
    line.program.reset(line.sock);
    wait_until("it is printed at once", SOON, || log.text().contains("reset (by local)"));
    assert!(log.text().contains(&ends), "{}", log.text());
    agent.stop(Signal::TERM);
    assert_eq!(running.wait(SOON).code(), Some(3));
    wait_until("it says why", SOON, || log.text().contains("the agent has ended"));
}
