//! Who may do what: root everything, others only what their uid owns.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::options::Options;
use crate::harness::require;
use crate::harness::wait::patient;

const NOBODY: u32 = 65534;

/// Lets every uid reach the socket.
pub(crate) fn open_to_all(agent: &Agent) {
    fs::set_permissions(agent.socket(), fs::Permissions::from_mode(0o666)).unwrap();
}

#[test]
fn the_socket_is_for_root_and_the_group() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let socket = fs::metadata(agent.socket()).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid()), (0o660, 0));
}

#[test]
fn another_uid_sees_and_touches_only_its_own_connections() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (mut nobody, mut root, mut outsider) = (lab.program_of(NOBODY), lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let (own, other) = (nobody.connect(listener.local), root.connect(listener.local));
    let (own_conid, other_conid) = (agent.conid(&own.id()), agent.conid(&other.id()));
    let mut ask =
        |method: &str, path: &str, body: Option<Value>| nobody.http(agent.socket(), method, path, body.as_ref());

    let listed = ask("GET", "/v1/connections", None).ok();
    let conids: Vec<_> = listed["connections"].as_array().unwrap().iter().map(|one| one["conid"].clone()).collect();
    assert_eq!(conids, [json!(own_conid)], "root's are not listed");

    let keepalive = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let lifetime = json!({ "idle_seconds": 1 });
    // Endpoints are looked for among what the caller may see only.
    let by_endpoint = format!("local:{}", other.local);
    for id in [other_conid.to_string(), other.id(), by_endpoint.clone()] {
        for (method, part, body) in [
            ("GET", "", None),
            ("GET", "/state", None),
            ("PUT", "/keepalive", Some(&keepalive)),
            ("DELETE", "/keepalive", None),
            ("PUT", "/lifetime", Some(&lifetime)),
            ("DELETE", "/lifetime", None),
            ("DELETE", "", None),
        ] {
            let answer = ask(method, &format!("/v1/connections/{id}{part}"), body.cloned());
            match (id == by_endpoint, part) {
                (false, _) => drop(answer.problem(403, "forbidden")),
                (true, "/state") => assert_eq!(answer.ok()["code"], -1),
                (true, _) => drop(answer.problem(404, "no_such_connection")),
            }
        }
    }
    assert_eq!(root.options(other), Options::DEFAULT);
    assert!(root.is_quiet(other));

    let mut names = vec![own_conid.to_string(), own.id()];
    if require::has_descriptors_of_peers() {
        names.push(format!("fd:{}", own.fd));
    }
    for id in names {
        let path = |part: &str| format!("/v1/connections/{id}{part}");
        assert_eq!(ask("GET", &path(""), None).ok()["conid"], own_conid);
        assert_eq!(ask("GET", &path("/state"), None).ok()["code"], 1);
        assert_eq!(ask("PUT", &path("/keepalive"), Some(keepalive.clone())).ok()["keepalive"], true);
        assert_eq!(ask("PUT", &path("/lifetime"), Some(json!({ "idle_seconds": 60 }))).ok()["conid"], own_conid);
        assert_eq!(ask("DELETE", &path("/lifetime"), None).ok(), json!({ "conid": own_conid }));
    }
    ask("DELETE", &format!("/v1/connections/{own_conid}"), None).ok();
    assert_eq!(nobody.receive(own).unwrap_err(), "ECONNABORTED");
}

#[test]
fn endpoints_fit_only_what_the_caller_may_see() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (mut nobody, mut root, mut outsider) = (lab.program_of(NOBODY), lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let (own, other) = (nobody.connect(listener.local), root.connect(listener.local));
    let path = format!("/v1/connections/remote:{}", listener.local);
    // For root there are two.
    agent.get(&path).problem(409, "ambiguous");
    let answer = nobody.http(agent.socket(), "GET", &path, None);
    assert!(!answer.text().contains(&other.local.to_string()), "{}", answer.text());
    assert_eq!(answer.ok()["cookie"], own.cookie);
}

#[test]
fn another_uid_changes_neither_rules_nor_the_agent() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let before = agent.get("/v1/rules").ok();
    let mut nobody = lab.program_of(NOBODY);
    nobody.http(agent.socket(), "PUT", "/v1/rules", Some(&before)).problem(403, "forbidden");
    nobody.http(agent.socket(), "POST", "/v1/detach", None).problem(403, "forbidden");
    assert_eq!(agent.get("/v1/rules").ok(), before);
    assert_eq!(agent.get("/readyz").status, 200);
}

#[test]
fn a_batch_is_judged_change_by_change() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (mut nobody, mut root, mut outsider) = (lab.program_of(NOBODY), lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let (own, other) = (nobody.connect(listener.local), root.connect(listener.local));
    let changes = json!({ "changes": [
        { "id": other.id(), "action": "close" },
        { "id": own.id(), "action": "close" },
    ] });
    let answer = nobody.http(agent.socket(), "POST", "/v1/policies:batch", Some(&changes)).ok();
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(1), &json!(1)), "{answer}");
    assert_eq!(answer["results"][0]["problem"]["code"], "forbidden");
    assert!(root.is_quiet(other));
    assert_eq!(nobody.receive(own).unwrap_err(), "ECONNABORTED");
}

#[test]
fn another_uid_cannot_lock_others_out() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let mut nobody = lab.program_of(NOBODY);
    // Far more clients that say nothing than anybody needs.
    nobody.hold(agent.socket(), 600);
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(agent.get("/v1/status").status, 200);
    }
    assert!(start.elapsed() < patient(Duration::from_secs(2)), "root waited {:?}", start.elapsed());
}
