//! Rules: as they are given, kept, tried and refused.

use serde_json::{Value, json};

use super::connections::rules;
use super::{JSON, Recording, Stage};
use crate::harness::lab::Lab;
use crate::harness::netns::NetNs;
use crate::harness::peer::Peer;

/// Each field with one value and with several, and everything beside.
fn everything(cgroup: &str) -> Value {
    let keepalive = json!({ "idle": "60s", "count": 5, "interval": "5s" });
    let deadline = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 200)).to_string();
    json!({
        "guard": { "closes_per_second": 100, "percent_per_minute": "20%", "protect_ports": [22, "5060-5061"] },
        "rule": [
            { "name": "one", "match": {
                "direction": "inbound", "local": "127.0.0.1", "local_port": 5060, "remote": "127.0.0.0/8",
                "remote_port": "1024-65535", "uid": 0, "cgroup": cgroup, "family": "ipv4", "origin": "handshake",
            }, "keepalive": keepalive },
            { "name": "many", "match": {
                "direction": ["inbound", "outbound", "listen"], "local": ["127.0.0.1", "::1/128"],
                "local_port": [1, "2-3"], "remote": ["10.0.0.0/8", "fd00::/8"], "remote_port": [4, "5-6"],
                "uid": [0, 65534], "cgroup": [cgroup, "/"], "family": ["ipv4", "ipv6"], "origin": ["handshake", "adopted"],
            }, "keepalive": "off", "user_timeout": "off", "lifetime": "none" },
            { "name": "limits", "mode": "floor", "keepalive": keepalive, "user_timeout": "1m30s", "match": { "uid": 1 },
              "lifetime": {
                "idle": "90s", "max_age": "1d", "deadline": deadline, "jitter": 10, "first_byte": "1500ms",
                "half_closed": "2h", "connect": "5s",
            }, "close": "fin", "grace": "5000ms", "enforce": false },
            { "name": "default", "match": { "uid": 2 }, "mode": "default", "keepalive": keepalive, "user_timeout": "auto" },
            { "name": "protected", "match": { "uid": 3 }, "mode": "force", "close": "reset", "enforce": true, "protect": true },
            { "name": "left alone" },
        ],
    })
}

#[test]
fn answers_about_rules() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut recording = Recording::new("rules");
    recording.get(&agent, "/v1/rules");
    let everything = everything(&lab.cgroup.name());
    recording.put(&agent, "/v1/rules?dry_run=true", &everything);
    recording.put(&agent, "/v1/rules", &everything);
    recording.get(&agent, "/v1/rules");
    recording.note("Generations.");
    let none = json!({ "rule": [] }).to_string();
    for generation in ["\"1\"", "*", "\"3\"", "3", "\"x\""] {
        recording.ask(&agent, "PUT", "/v1/rules", &[JSON, ("if-match", generation)], &none);
    }
    recording.ask(&agent, "PUT", "/v1/rules?dry_run=true", &[JSON, ("if-match", "\"1\"")], &none);
    recording.get(&agent, "/v1/rules");
    for guard in [json!({}), json!({ "protect_ports": [] }), json!({ "percent_per_minute": 1 })] {
        recording.put(&agent, "/v1/rules", &json!({ "guard": guard, "rule": [] }));
        recording.get(&agent, "/v1/rules");
    }
    recording.check();
}

#[test]
fn answers_about_trials() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    stage.listen("127.0.0.1:5060");
    for port in 7001..=7007 {
        stage.outbound(&format!("127.0.0.1:{port}"));
    }
    agent.keepalive("2", 30, 3, 3);
    agent.delete("/v1/connections/5/lifetime").ok();
    let elsewhere = NetNs::new();
    let (mut program, mut outsider) = (Peer::start(&elsewhere, Some(&lab.cgroup), 0), Peer::start(&elsewhere, None, 0));
    program.connect(outsider.listen_with(&json!({ "host": "127.0.0.1", "port": 7004 })).local);
    let mut recording = Recording::new("trials");
    recording.note("What would change; one connection is where no walk comes by.");
    recording.put(&agent, "/v1/rules?dry_run=true", &rules());
    recording.put(&agent, "/v1/rules", &rules());
    recording.put(&agent, "/v1/rules?dry_run=true", &json!({ "rule": [] }));
    recording.note("An override wins over the rules.");
    recording.get(&agent, "/v1/connections/2");
    recording.get(&agent, "/v1/connections/5");
    recording.note("A connection that knows no rules yet, and one that no walk freed of a rule that is gone.");
    recording.get(&agent, "/v1/connections/9");
    let (mut late, door) = (Peer::start(&elsewhere, Some(&lab.cgroup), 0), ([127, 0, 0, 1], 7004));
    late.connect(door.into());
    recording.put(&agent, "/v1/rules", &json!({ "rule": [] }));
    recording.get(&agent, "/v1/connections/10");
    recording.note("A cgroup that is gone: nobody knows what was above it.");
    let child = lab.cgroup.child("gone");
    let mut short = Peer::start(&lab.ns, Some(&child), 0);
    let (sock, _far) = stage.outbound_of(&mut short, "127.0.0.1:7001");
    let _kept = short.copy_of(sock);
    drop((short, child));
    let above = json!({ "name": "above", "match": { "cgroup": lab.cgroup.name() }, "lifetime": { "idle": "1h" } });
    recording.put(&agent, "/v1/rules?dry_run=true", &json!({ "rule": [above] }));
    recording.check();
}

#[test]
fn answers_to_rules_that_cannot_be() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut recording = Recording::new("invalid_rules");
    let keepalive = r#""keepalive":{"idle":"60s","count":5,"interval":"5s"}"#;
    for body in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        r#"{"rule":{}}"#,
        r#"{"rule":[],"more":1}"#,
        r#"{"rule":[]}{}"#,
        r#"{"rule":[{}]}"#,
        r#"{"rule":[["a"]]}"#,
        r#"{"rule":[{"name":""}]}"#,
        r#"{"rule":[{"name":"a"},{"name":"a"}]}"#,
        r#"{"rule":[{"name":"a","match":{"colour":"red"}}]}"#,
        r#"{"rule":[{"name":"a","match":null}]}"#,
        r#"{"rule":[{"name":"a","match":{"direction":"up"}}]}"#,
        r#"{"rule":[{"name":"a","match":{"direction":[]}}]}"#,
        r#"{"rule":[{"name":"a","match":{"family":"unix"}}]}"#,
        r#"{"rule":[{"name":"a","match":{"origin":1}}]}"#,
        r#"{"rule":[{"name":"a","match":{"remote":"10.0.0.1/8"}}]}"#,
        r#"{"rule":[{"name":"a","match":{"local":"somewhere"}}]}"#,
        r#"{"rule":[{"name":"a","match":{"local_port":"9-1"}}]}"#,
        r#"{"rule":[{"name":"a","match":{"remote_port":65536}}]}"#,
        r#"{"rule":[{"name":"a","match":{"uid":-1}}]}"#,
        r#"{"rule":[{"name":"a","match":{"uid":"root"}}]}"#,
        r#"{"rule":[{"name":"a","match":{"cgroup":"relative"}}]}"#,
        r#"{"rule":[{"name":"a","match":{"cgroup":"/no/such/cgroup"}}]}"#,
        r#"{"rule":[{"name":"a","mode":"loose"}]}"#,
        r#"{"rule":[{"name":"a","keepalive":"on"}]}"#,
        r#"{"rule":[{"name":"a","keepalive":{"idle":"60s"}}]}"#,
        r#"{"rule":[{"name":"a","keepalive":{"idle":"0s","count":5,"interval":"5s"}}]}"#,
        r#"{"rule":[{"name":"a","keepalive":{"idle":"60s","count":128,"interval":"5s"}}]}"#,
        r#"{"rule":[{"name":"a","keepalive":{"idle":"60s","count":5,"interval":5}}]}"#,
        r#"{"rule":[{"name":"a","user_timeout":"auto"}]}"#,
        r#"{"rule":[{"name":"a","user_timeout":"later"}]}"#,
        &format!(r#"{{"rule":[{{"name":"a","mode":"floor",{keepalive},"user_timeout":"off"}}]}}"#),
        r#"{"rule":[{"name":"a","lifetime":{}}]}"#,
        r#"{"rule":[{"name":"a","lifetime":"off"}]}"#,
        r#"{"rule":[{"name":"a","lifetime":{"idle":"100000d"}}]}"#,
        r#"{"rule":[{"name":"a","lifetime":{"deadline":"2001-01-01T00:00:00Z"}}]}"#,
        r#"{"rule":[{"name":"a","lifetime":{"deadline":"tomorrow"}}]}"#,
        r#"{"rule":[{"name":"a","lifetime":{"jitter":"10%"}}]}"#,
        r#"{"rule":[{"name":"a","lifetime":{"idle":"1m","jitter":"101%"}}]}"#,
        r#"{"rule":[{"name":"a","lifetime":{"idle":"1m"},"close":"abort"}]}"#,
        r#"{"rule":[{"name":"a","lifetime":{"idle":"1m"},"grace":"5s"}]}"#,
        r#"{"rule":[{"name":"a","enforce":"no"}]}"#,
        r#"{"rule":[{"name":"a","protect":1}]}"#,
        r#"{"guard":null,"rule":[]}"#,
        r#"{"guard":{"closes_per_second":0},"rule":[]}"#,
        r#"{"guard":{"percent_per_minute":"0%"},"rule":[]}"#,
        r#"{"guard":{"protect_ports":22},"rule":[]}"#,
        r#"{"guard":{"more":1},"rule":[]}"#,
    ] {
        recording.ask(&agent, "PUT", "/v1/rules", &[JSON], body);
    }
    recording.note("A fault that only a look at this host finds has its place, also in a trial.");
    let body = r#"{"rule":[{"name":"a"},{"name":"b","match":{"cgroup":"/no/such/cgroup"}}]}"#;
    recording.ask(&agent, "PUT", "/v1/rules?dry_run=true", &[JSON], body);
    recording.get(&agent, "/v1/rules");
    recording.check();
}
