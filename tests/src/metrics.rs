//! What is counted, for Prometheus.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tcpops_common::counters::Counter;

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};

/// Every sample, by name and labels.
fn samples(agent: &Agent) -> BTreeMap<String, f64> {
    let text = agent.get("/metrics").text();
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(samples.insert(name.to_owned(), value), None, "twice: {line}");
    }
    samples
}

#[test]
fn they_have_the_form_that_prometheus_reads() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let answer = agent.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    // Each family has its help and its type, once and before its samples.
    let mut family = String::new();
    let mut known = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("help has words");
            assert!(words.ends_with('.') && !words.ends_with(".."), "{line}");
            assert!(!known.contains(&name.to_owned()), "twice: {line}");
            family = name.to_owned();
            known.push(family.clone());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(["counter", "gauge", "info"].contains(&kind.rsplit(' ').next().expect("it has words")), "{line}");
            assert!(kind.starts_with(&format!("{family} ")), "{line}");
        } else {
            assert!(line.starts_with(&family), "{line} under {family}");
            // No label tells connections apart: there may be a million.
            assert!(["conid", "cookie", "local", "remote"].iter().all(|label| !line.contains(label)), "{line}");
        }
    }
    for counter in Counter::ALL {
        assert!(known.contains(&format!("tcpops_{}", counter.name())), "no {} in {known:?}", counter.name());
    }
}

#[test]
fn they_say_what_happened() {
    let lab = Lab::new();
    let rules = "[[rule]]\nname = \"far\"\nmatch = { remote = \"10.0.0.0/8\" }\nlifetime = { idle = \"1h\" }\n";
    let agent = lab.agent().arguments(&["--record", "all"]).rules(rules).start();
    let before = samples(&agent);
    assert_eq!((before["tcpops_rules"], before["tcpops_max_connections"]), (1.0, 4096.0));
    assert_eq!(before["tcpops_tracked_connections"], 0.0);
    let (mut reset, mut ended) = (lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1"));
    let kept = lab.outbound("127.0.0.1");
    let asked = lab.outbound("127.0.0.1");
    agent.lifetime(&kept.sock.id(), &json!({ "idle_seconds": 1000 })).ok();
    reset.program.reset(reset.sock);
    ended.program.close(ended.sock);
    ended.outsider.close(ended.far);
    agent.delete(&format!("/v1/connections/{}", asked.sock.id())).ok();
    let _stream = agent.events("");
    let closes =
        |samples: &BTreeMap<String, f64>, cause: &str| samples[&format!("tcpops_closes_total{{cause=\"{cause}\"}}")];
    let published = |samples: &BTreeMap<String, f64>, kind: &str| {
        samples[&format!("tcpops_events_published_total{{type=\"{kind}\"}}")]
    };
    wait_until("all three have ended", SOON, || published(&samples(&agent), "closed") == 3.0);
    let after = samples(&agent);
    for (cause, count) in [
        ("fin", 1.0),
        ("reset", 1.0),
        ("closed_by_request", 1.0),
        ("timeout", 0.0),
        ("refused", 0.0),
        ("expired", 0.0),
        ("aborted", 0.0),
        ("unknown", 0.0),
    ] {
        assert_eq!(closes(&after, cause), count, "{cause}");
    }
    assert_eq!((published(&after, "opened"), published(&after, "applied")), (4.0, 1.0));
    assert_eq!((after["tcpops_tracked_connections"], after["tcpops_watched_connections"]), (1.0, 1.0));
    assert_eq!((after["tcpops_event_readers"], after["tcpops_events_missed_total"]), (1.0, 0.0));
    // The kernel's counters are those of the status.
    let status: Value = agent.get("/v1/status").ok();
    for counter in Counter::ALL {
        let value = status["counters"][counter.name()].as_f64().expect("status has every counter");
        assert_eq!(after[&format!("tcpops_{}_total", counter.name())], value, "{}", counter.name());
    }
}
