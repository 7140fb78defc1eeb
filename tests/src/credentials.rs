//! The rights of a caller are those of its process as it is now, and never more than it had when it connected.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::options::{Options, options_of};
use crate::harness::peer::Peer;
use crate::harness::require;
use crate::harness::wait::{SOON, wait_for};
use crate::permissions::open_to_all;

const NOBODY: u32 = 65534;

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn keepalive() -> Value {
    json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 })
}

/// Connects as its owner, and then acts for its caller for a while.
const LOWERED: &str = "
import os, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
os.seteuid(os.getuid())
s.sendall(b'lowered')
sys.stdin.read()
";

/// A copy of a program, root's, with this mode.
fn program_of_root(lab: &Lab, name: &str, copied: &str, mode: u32) -> PathBuf {
    let mount = statvfs(lab.directory.path()).expect("it is there");
    assert!(
        !mount.f_flag.contains(StatVfsMountFlags::NOSUID),
        "{} is mounted nosuid, where no program gets its owner's rights: set TMPDIR to another directory",
        lab.directory.path().display()
    );
    let path = lab.directory.path().join(name);
    fs::copy(require::tool(copied), &path).expect("it can be copied");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    path
}

/// Has a child of `program` connect to the agent, and then become another that connects to `to`: the pid, descriptor and uid
/// of that connection.
fn connected_child(agent: &Agent, program: &mut Peer, becomes: &[&str], to: SocketAddr) -> (Pid, i32, Value) {
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let child = program.dial_by_child(agent.socket(), &[becomes, &[&host, &port]].concat());
    let entry = wait_for("it is connected", SOON, || {
        let found = agent.list(&format!("?remote_port={port}&state=established"));
        found.into_iter().next()
    });
    let directory = format!("/proc/{}/fd", child.as_raw_nonzero());
    let mut sockets = fs::read_dir(&directory).expect("root may read it").filter_map(|place| {
        let place = place.ok()?;
        let target = fs::read_link(place.path()).ok()?;
        target.to_str()?.starts_with("socket:").then(|| place.file_name().to_str()?.parse().ok()).flatten()
    });
    let fd = sockets.next().expect("it has one");
    assert_eq!(sockets.next(), None, "it has none but the connection's");
    (child, fd, entry["uid"].clone())
}

#[test]
fn a_descriptor_of_a_program_with_other_rights_is_not_the_callers() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (own, roots) = (program_of_root(&lab, "own", "nc", 0o755), program_of_root(&lab, "roots", "nc", 0o4755));
    let mut outsider = lab.outsider();
    for (connecting, uid) in [(&own, NOBODY), (&roots, 0)] {
        let connecting = &[text(connecting)];
        for (method, part, body) in [
            ("GET", "", None),
            ("GET", "/state", None),
            ("PUT", "/keepalive", Some(keepalive())),
            ("PUT", "/lifetime", Some(json!({ "max_age_seconds": 3600 }))),
            ("DELETE", "", None),
        ] {
            let mut program = lab.program_of(NOBODY);
            let listener = outsider.listen("127.0.0.1");
            let (child, fd, of_uid) = connected_child(&agent, &mut program, connecting, listener.local);
            assert_eq!(of_uid, uid, "whose connection it is");
            let far = outsider.accept(listener);
            let answer = program.ask_on(method, &format!("/v1/connections/fd:{fd}{part}"), body.as_ref());
            if uid == NOBODY {
                answer.ok();
                continue;
            }
            answer.problem(403, "forbidden");
            assert_eq!(options_of(child, fd), Options::DEFAULT);
            let shown = agent.connection(&format!("remote:{}", listener.local));
            assert_eq!((&shown["state"], shown.get("expires")), (&json!("established"), None), "{shown}");
            assert!(outsider.is_quiet(far));
        }
    }
}

#[test]
fn rights_that_a_program_has_laid_aside_are_still_others() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let python = program_of_root(&lab, "python", "python3", 0o4755);
    let (mut program, mut outsider) = (lab.program_of(NOBODY), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let becomes = [text(&python), "-I", "-S", "-c", LOWERED];
    let (child, fd, of_uid) = connected_child(&agent, &mut program, &becomes, listener.local);
    assert_eq!(of_uid, 0);
    let far = outsider.accept(listener);
    assert_eq!(outsider.receive(far).unwrap(), "lowered");
    let changes = json!({ "changes": [
        { "id": format!("fd:{fd}"), "action": "keepalive_enable", "keepalive": keepalive() },
        { "id": format!("fd:{fd}"), "action": "close" },
    ] });
    let answer = program.ask_on("POST", "/v1/policies:batch", Some(&changes)).ok();
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(0), &json!(2)), "{answer}");
    for result in answer["results"].as_array().expect("it is a list") {
        assert_eq!(result["problem"]["code"], "forbidden", "{answer}");
    }
    assert_eq!(options_of(child, fd), Options::DEFAULT);
    assert!(outsider.is_quiet(far));
}

#[test]
fn a_process_that_may_not_be_traced_has_no_descriptor_for_others() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (mut program, mut outsider) = (lab.program_of(NOBODY), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let sock = program.connect(listener.local);
    let path = |id: &str| format!("/v1/connections/{id}/keepalive");
    let fd = format!("fd:{}", sock.fd);
    program.set_dumpable(false);
    program.http(agent.socket(), "PUT", &path(&fd), Some(&keepalive())).problem(403, "forbidden");
    assert_eq!(program.options(sock), Options::DEFAULT);
    // What is its uid's it may name in another way.
    program.http(agent.socket(), "PUT", &path(&sock.id()), Some(&keepalive())).ok();
    program.set_dumpable(true);
    program.http(agent.socket(), "DELETE", &path(&fd), None).ok();
}

#[test]
fn who_gives_up_rights_has_them_no_more() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    open_to_all(&agent);
    let (mut program, mut root, mut outsider) = (lab.program(), lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    let other = root.connect(listener.local);
    program.dial(agent.socket());
    program.become_uid(NOBODY);
    program.ask_on("DELETE", &format!("/v1/connections/{}", other.id()), None).problem(403, "forbidden");
    assert!(root.is_quiet(other));
    // On a new connection it is who it is.
    assert_eq!(program.http(agent.socket(), "GET", "/v1/connections", None).ok()["connections"], json!([]));
}
