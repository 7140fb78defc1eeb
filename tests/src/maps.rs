//! The maps as people see them with bpftool, compared with what the agent says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::ss;
use crate::harness::wait::{SOON, wait_to_see, wait_until};

const RULES: &str = r#"
[[rule]]
name = "outbound"
match = { direction = "outbound" }
keepalive = { idle = "60s", count = 5, interval = "7s" }
user_timeout = "95s"
lifetime = { idle = "1h", max_age = "2h" }
"#;

/// Bytes of an address as bpftool shows them.
fn address(bytes: &Value) -> IpAddr {
    let bytes: Vec<u8> = bytes
        .as_array()
        .unwrap_or_else(|| panic!("expected bytes, found {bytes}"))
        .iter()
        .map(|byte| match byte {
            Value::Number(number) => number.as_u64().and_then(|number| u8::try_from(number).ok()).expect("a byte"),
            Value::String(text) => {
                u8::from_str_radix(text.trim_start_matches("0x"), 16).expect("a byte in hexadecimal")
            }
            other => panic!("expected a byte, found {other}"),
        })
        .collect();
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("sixteen bytes")).to_canonical()
}

fn endpoint(entry: &Value, side: &str) -> String {
    let port = entry[format!("{side}_port")].as_u64().expect("ports are numbers");
    SocketAddr::new(address(&entry[format!("{side}_addr")]), u16::try_from(port).unwrap()).to_string()
}

/// `Established` as `established`, `FinWait1` as `fin-wait-1`.
fn kebab(variant: &Value) -> String {
    let mut name = String::new();
    for char in variant.as_str().unwrap_or_else(|| panic!("expected the name of a variant, found {variant}")).chars() {
        if char.is_ascii_uppercase() || char.is_ascii_digit() {
            name.push('-');
        }
        name.push(char.to_ascii_lowercase());
    }
    name.trim_start_matches('-').to_owned()
}

/// Compares an entry of `CONNECTIONS`, field by field, with what the agent says of the connection.
fn assert_same(entry: &Value, said: &Value) {
    let at = format!("map: {entry}\nagent: {said}");
    let listener = entry["direction"] == "Listen";
    let number = |field: &str| entry[field].as_u64().unwrap_or_else(|| panic!("no {field}\n{at}"));
    assert_eq!(kebab(&entry["state"]), said["state"], "{at}");
    assert_eq!(kebab(&entry["direction"]), said["direction"], "{at}");
    assert_eq!(kebab(&entry["origin"]), said["origin"], "{at}");
    let family = match entry["family"].as_str() {
        Some("Inet") => "ipv4",
        Some("Inet6") => "ipv6",
        other => panic!("{other:?}\n{at}"),
    };
    assert_eq!(family, said["family"], "{at}");
    assert_eq!(endpoint(entry, "local"), said["local"], "{at}");
    assert_eq!(said.get("remote"), (!listener).then(|| json!(endpoint(entry, "remote"))).as_ref(), "{at}");
    for field in ["netns_cookie", "uid", "cgroup_id"] {
        assert_eq!(number(field), said[field], "{field}\n{at}");
    }
    assert_eq!(number("established_boot_ns") != 0, said.get("established").is_some(), "{at}");

    let (policy, said) = (&entry["policy"], &said["policy"]);
    assert_eq!(number("rule") != 0, said.get("rule").is_some(), "{at}");
    for (variant, field) in [
        ("keepalive_source", "keepalive_source"),
        ("user_timeout_source", "user_timeout_source"),
        ("lifetime_source", "lifetime_source"),
    ] {
        let source = match entry[variant].as_str() {
            Some("None") => None,
            Some(name) => Some(json!(name.to_lowercase())),
            None => panic!("{variant}\n{at}"),
        };
        assert_eq!(source.as_ref(), said.get(field), "{at}");
    }
    let options = &policy["options"];
    assert_eq!(options["keepalive"] == "Set", said["wanted"]["keepalive"] == true, "{at}");
    if options["keepalive"] == "Set" {
        for (theirs, ours) in
            [("keepidle_s", "idle_seconds"), ("keepcnt", "count"), ("keepintvl_s", "interval_seconds")]
        {
            assert_eq!(options[theirs], said["wanted"][ours], "{theirs}\n{at}");
        }
    }
    let seconds = |ns: &Value| ns.as_u64().map(|ns| ns as f64 / 1e9).filter(|seconds| *seconds > 0.0);
    if policy["lifetime_setting"] == "Set" {
        assert_eq!(seconds(&policy["lifetime"]["idle_ns"]), said["lifetime"]["idle_seconds"].as_f64(), "{at}");
        assert_eq!(seconds(&policy["lifetime"]["max_age_ns"]), said["lifetime"]["max_age_seconds"].as_f64(), "{at}");
    } else {
        assert_eq!(said.get("lifetime"), None, "{at}");
    }
    if entry["outcome"] == "Untouched" {
        assert_eq!(said.get("result"), None, "{at}");
    } else {
        assert_eq!(
            entry["outcome"].as_str().map(str::to_lowercase).as_deref(),
            said["result"]["outcome"].as_str(),
            "{at}"
        );
        for side in ["original", "in_force"] {
            let (theirs, ours) = (&entry[side], &said["result"][side]);
            assert_eq!(theirs["keepalive"] == 1, ours["keepalive"] == true, "{at}");
            let names = [
                ("keepidle_s", "idle_seconds"),
                ("keepcnt", "count"),
                ("keepintvl_s", "interval_seconds"),
                ("user_timeout_ms", "user_timeout_ms"),
            ];
            for (theirs_name, ours_name) in names {
                assert_eq!(theirs[theirs_name], ours[ours_name], "{side} {theirs_name}\n{at}");
            }
        }
    }
}

/// A listener, connections of both directions and families, one with overrides, one half closed.
fn populate(lab: &Lab, agent: &Agent) -> [crate::harness::lab::Line; 4] {
    let mut lines = [lab.outbound("127.0.0.1"), lab.outbound("::1"), lab.inbound("127.0.0.1"), lab.inbound("::1")];
    agent.keepalive(&lines[3].sock.id(), 33, 3, 3);
    agent.lifetime(&lines[3].sock.id(), &json!({ "idle_seconds": 1000, "deadline": "2035-01-01T00:00:00Z" })).ok();
    lines[1].outsider.shutdown(lines[1].far);
    wait_to_see("the code", &-2, || agent.code(&lines[1].sock.id()));
    lines
}

#[test]
fn connections_and_conids_are_what_the_agent_lists() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let lines = populate(&lab, &agent);
    let map = agent.map();
    let listed: BTreeMap<u64, Value> =
        agent.list("").into_iter().map(|one| (one["conid"].as_u64().unwrap(), one)).collect();
    // Four connections and the two listeners of the inbound ones.
    assert_eq!(map.len(), 6, "{map:?}");
    assert_eq!(map.keys().collect::<Vec<_>>(), listed.keys().collect::<Vec<_>>());
    for (conid, (cookie, entry)) in &map {
        assert_eq!(listed[conid]["cookie"], *cookie);
        assert_same(entry, &listed[conid]);
    }
    let cookies: BTreeMap<u64, u64> = map.iter().map(|(conid, (cookie, _))| (*conid, *cookie)).collect();
    assert_eq!(bpftool::cookies_of_conids(agent.pins()), cookies.values().copied().collect());
    assert_eq!(bpftool::conids(agent.pins()), cookies);
    for line in &lines {
        let (_, entry) = map.values().find(|(cookie, _)| *cookie == line.sock.cookie).expect("the map has it");
        assert_eq!(entry["netns_cookie"], line.sock.netns_cookie);
        assert_eq!(entry["cgroup_id"], lab.cgroup.id());
    }
}

#[test]
fn the_list_ss_and_bpftool_agree() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let _lines = populate(&lab, &agent);
    let map = agent.map();
    let listed = agent.cli_json(&["conn", "list"]);
    let listed = listed["connections"].as_array().expect("it lists connections");
    let sockets = ss::sockets(&lab.ns);
    assert_eq!(listed.len(), map.len());
    for one in listed {
        let cookie = one["cookie"].as_u64().unwrap();
        let socket = sockets.get(&cookie).unwrap_or_else(|| panic!("ss does not show {one}"));
        assert_eq!(socket.local, one["local"].as_str().unwrap());
        assert_eq!(Some(socket.remote.as_str()).filter(|remote| !remote.ends_with(":*")), one["remote"].as_str());
        let state = match socket.state.as_str() {
            "ESTAB" => "established".to_owned(),
            other => other.to_lowercase(),
        };
        assert_eq!(state, one["state"]);
        let keepalive = one["policy"]["wanted"]["keepalive"] == true;
        assert_eq!(socket.timer_kind(), keepalive.then_some("keepalive"), "{one}");
        assert_eq!(map[&one["conid"].as_u64().unwrap()].0, cookie);
    }
    // The table has a row for each, and the NDJSON a line.
    let table = agent.cli_stdout(&["conn", "list"]);
    assert_eq!(table.lines().count(), 1 + map.len(), "{table}");
    for (conid, row) in map.keys().zip(table.lines().skip(1)) {
        assert_eq!(row.split_whitespace().next(), Some(conid.to_string().as_str()), "{table}");
    }
    let lines = agent.cli_stdout(&["conn", "list", "-o", "ndjson"]);
    let mut conids: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a document in each line")["conid"].as_u64().unwrap())
        .collect();
    conids.sort_unstable();
    assert_eq!(conids, map.into_keys().collect::<Vec<_>>());
}

#[test]
fn overrides_hold_an_override_until_the_connection_ends() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let mut lines = populate(&lab, &agent);
    let conid = agent.conid(&lines[3].sock.id());
    let overrides = bpftool::overrides(agent.pins());
    assert_eq!(overrides.keys().collect::<Vec<_>>(), [&conid]);
    let options = &overrides[&conid]["options"];
    assert_eq!(options["keepalive"], "Set");
    assert_eq!(
        (&options["keepidle_s"], &options["keepcnt"], &options["keepintvl_s"]),
        (&json!(33), &json!(3), &json!(3))
    );
    assert_eq!(overrides[&conid]["lifetime_setting"], "Set");
    assert_eq!(overrides[&conid]["lifetime"]["idle_ns"], 1_000_000_000_000_u64);
    assert_eq!(overrides[&conid]["by_uid"], 0);
    let line = &mut lines[3];
    line.program.reset(line.sock);
    wait_to_see("the overrides", &0, || bpftool::overrides(agent.pins()).len());
    assert!(!bpftool::conids(agent.pins()).contains_key(&conid));
}

#[test]
fn the_list_is_filtered_and_paged() {
    let lab = Lab::new();
    let agent = lab.agent().rules(RULES).start();
    let lines = populate(&lab, &agent);
    let cookies = |query: &str| {
        let mut cookies: Vec<_> = agent.list(query).iter().map(|one| one["cookie"].as_u64().unwrap()).collect();
        cookies.sort_unstable();
        cookies
    };
    let of = |picked: &[usize]| {
        let mut cookies: Vec<_> = picked.iter().map(|index| lines[*index].sock.cookie).collect();
        cookies.sort_unstable();
        cookies
    };
    assert_eq!(cookies("?rule=outbound"), of(&[0, 1]));
    assert_eq!(cookies("?state=close-wait"), of(&[1]));
    assert_eq!(cookies("?state=established&remote=127.0.0.0/8"), of(&[0, 2]));
    assert_eq!(cookies(&format!("?remote_port={}", lines[0].far.local.port())), of(&[0]));
    let port = lines[2].sock.local.port();
    assert_eq!(cookies(&format!("?local_port={port}-{port}&state=established")), of(&[2]));
    assert_eq!(cookies("?local=::1&state=established"), of(&[3]));
    assert_eq!(cookies("?uid=1"), of(&[]));
    assert_eq!(cookies("?uid=0").len(), 6);
    assert_eq!(cookies(&format!("?cgroup={}", lab.cgroup.name())).len(), 6);
    let beside = lab.cgroup.child("beside");
    assert_eq!(cookies(&format!("?cgroup={}", beside.name())), of(&[]));

    let mut conids = Vec::new();
    let mut query = "?limit=4".to_owned();
    loop {
        let page = agent.get(&format!("/v1/connections{query}")).ok();
        let page_of = page["connections"].as_array().unwrap();
        assert!(page_of.len() <= 4);
        conids.extend(page_of.iter().map(|one| one["conid"].as_u64().unwrap()));
        match page.get("next") {
            Some(next) => query = format!("?limit=4&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(conids, agent.map().into_keys().collect::<Vec<_>>());

    for bad in [
        "state=open",
        "local=x",
        "remote=1.2.3.4/33",
        "local_port=70000",
        "limit=0",
        "limit=10001",
        "uid=-1",
        "colour=red",
        "cgroup=/nowhere-at-all",
        "rule=unheard-of",
    ] {
        agent.get(&format!("/v1/connections?{bad}")).problem(400, "invalid_request");
    }
}

#[test]
fn pages_are_whole_where_most_connections_have_ended() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (first, mut program) = ([lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1")], lab.program());
    // More than are tried one after another.
    program.churn("127.0.0.1", 5000);
    let last = [lab.outbound("127.0.0.1"), lab.outbound("127.0.0.1")];
    let conids: Vec<u64> = first.iter().chain(&last).map(|line| agent.conid(&line.sock.id())).collect();
    assert!(conids[2] - conids[1] > 4096, "{conids:?}");
    wait_until("the others are gone", SOON, || agent.list("").len() == 4);
    let page = |query: &str| {
        let page = agent.get(&format!("/v1/connections?{query}")).ok();
        let conids: Vec<u64> =
            page["connections"].as_array().unwrap().iter().map(|one| one["conid"].as_u64().unwrap()).collect();
        (conids, page["next"].as_u64())
    };
    // Twice: the second time there is an index.
    for _ in 0..2 {
        assert_eq!(page("limit=3"), (conids[..3].to_vec(), Some(conids[2])));
        assert_eq!(page(&format!("limit=3&cursor={}", conids[2])), (conids[3..].to_vec(), None));
        assert_eq!(page(&format!("limit=1&cursor={}", conids[0])), (conids[1..2].to_vec(), Some(conids[1])));
        assert_eq!(page(&format!("limit=2&cursor={}", conids[1])), (conids[2..].to_vec(), None));
        assert_eq!(page("limit=3&state=close-wait"), (Vec::new(), None));
        assert_eq!(page(&format!("cursor={}", conids[3])), (Vec::new(), None));
        assert_eq!(page(&format!("cursor={}", u64::MAX)), (Vec::new(), None));
    }
}
