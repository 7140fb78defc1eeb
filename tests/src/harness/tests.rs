//! The harness itself: what the other tests rely on is true, and nothing is left behind.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::cgroup::mount_point;
use super::lab::Lab;
use super::netns::{FAST_OPEN, LEFT, NetNs, RIGHT};
use super::options::Options;
use super::peer::{KEEPALIVE, KEEPIDLE, Peer, USER_TIMEOUT};
use super::wait::{SOON, wait_until};
use super::{require, ss};

#[test]
fn a_namespace_is_apart_and_keeps_sys_in_sight() {
    let (one, other) = (NetNs::new(), NetNs::new());
    let links = |namespace: &NetNs| namespace.stdout_of(Command::new(require::tool("ip")).args(["-br", "link"]));
    assert_eq!(links(&one).lines().count(), 1, "{}", links(&one));
    let inode = |namespace: &NetNs| namespace.run(|| fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_ne!(inode(&one), inode(&other));
    assert_ne!(inode(&one), fs::read_link("/proc/self/ns/net").unwrap());
    assert!(one.run(|| mount_point().join("cgroup.procs").exists()));
}

#[test]
fn a_program_is_in_its_cgroup_and_others_are_not() {
    let lab = Lab::new();
    let program = lab.program();
    let outsider = lab.outsider();
    assert_eq!(lab.cgroup.pids(), [program.pid()]);
    let line = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(line(program.pid()).contains(&lab.cgroup.name()), "{}", line(program.pid()));
    assert!(!line(outsider.pid()).contains(&lab.cgroup.name()));
}

#[test]
fn peers_connect_talk_and_fail_as_sockets_do() {
    let lab = Lab::new();
    for host in ["127.0.0.1", "::1"] {
        let mut line = lab.outbound(host);
        assert_eq!((line.sock.remote(), line.far.remote()), (line.far.local, line.sock.local));
        assert!(line.program.is_quiet(line.sock));
        line.program.send(line.sock, "ping");
        assert_eq!(line.outsider.receive(line.far).unwrap(), "ping");
        line.outsider.reset(line.far);
        assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNRESET");

        let (sock, far) = Lab::another(&mut line);
        line.outsider.shutdown(far);
        assert_eq!(line.program.receive(sock).unwrap(), "");
        line.outsider.close(far);
        line.program.close(sock);

        let listener = line.outsider.listen(host);
        line.outsider.close(listener);
        assert_eq!(line.program.connect_with(listener.local, &json!({})).unwrap_err(), "ECONNREFUSED");
    }
}

#[test]
fn a_descriptor_connects_again_and_keeps_its_cookie() {
    let lab = Lab::new();
    let mut line = lab.outbound("127.0.0.1");
    let listener = line.outsider.listen("127.0.0.1");
    let again = line.program.reconnect(line.sock, listener.local);
    assert_eq!((again.cookie, again.fd), (line.sock.cookie, line.sock.fd));
    assert_eq!(again.remote(), listener.local);
    line.program.disconnect(again);
}

#[test]
fn a_filter_drops_and_is_lifted() {
    let lab = Lab::new();
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = outsider.listen("127.0.0.1");
    lab.ns.filter(&[&format!("tcp dport {} drop", listener.local.port())]);
    let sock = program.begin_connect(listener.local);
    assert_eq!(ss::socket(&lab.ns, sock.cookie).unwrap().state, "SYN-SENT");
    lab.ns.filter(&[]);
    assert_eq!(program.connected(sock).unwrap().remote(), listener.local);
    assert_eq!(ss::socket(&lab.ns, sock.cookie).unwrap().state, "ESTAB");
}

#[test]
fn a_handshake_stays_half_open() {
    let lab = Lab::new();
    lab.ns.sysctl("net.ipv4.tcp_fastopen", FAST_OPEN);
    let (mut program, mut outsider) = (lab.program(), lab.outsider());
    let listener = program.listen("127.0.0.1");
    lab.ns.filter(&[&format!("tcp dport {} tcp flags & syn == 0 drop", listener.local.port())]);
    outsider.connect_with(listener.local, &json!({ "data": "hello" })).unwrap();
    let sock = program.accept(listener);
    assert_eq!(ss::socket(&lab.ns, sock.cookie).unwrap().state, "SYN-RECV");
}

#[test]
fn a_cable_carries_both_families() {
    let (left, right) = NetNs::pair();
    let (mut one, mut other) = (Peer::start(&left, None, 0), Peer::start(&right, None, 0));
    for (from, to) in LEFT.into_iter().zip(RIGHT) {
        let listener = other.listen(to);
        let sock = one.connect(listener.local);
        assert_eq!(sock.local.ip(), from.parse::<std::net::IpAddr>().unwrap());
    }
}

#[test]
fn options_are_read_from_outside_and_ss_agrees() {
    let lab = Lab::new();
    let mut line = lab.outbound("127.0.0.1");
    assert_eq!(line.program.options(line.sock), Options::DEFAULT);
    assert_eq!(ss::socket(&lab.ns, line.sock.cookie).unwrap().timer, None);
    line.program.set(line.sock, KEEPIDLE, 60);
    line.program.set(line.sock, KEEPALIVE, 1);
    line.program.set(line.sock, USER_TIMEOUT, 85_000);
    assert_eq!(line.program.options(line.sock), Options { user_timeout_ms: 85_000, ..Options::on(60, 9, 75, 0) });
    let seen = ss::socket(&lab.ns, line.sock.cookie).unwrap();
    assert_eq!((seen.state.as_str(), seen.timer_kind()), ("ESTAB", Some("keepalive")));
    assert_eq!(seen.local, line.sock.local.to_string());
    assert_eq!(seen.remote, line.far.local.to_string());
}

#[test]
fn a_program_of_another_user_is_that_users() {
    let lab = Lab::new();
    let mut program = lab.program_of(65534);
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    assert!(status.lines().any(|line| line == "Uid:\t65534\t65534\t65534\t65534"), "{status}");
    assert_eq!(lab.cgroup.pids(), [program.pid()]);
    let (status, stdout, _) = program.run(&["/usr/bin/id", "-u"], &[]);
    assert_eq!((status, stdout.trim()), (0, "65534"));
}

#[test]
fn a_descriptor_is_inherited_by_what_a_program_runs() {
    let lab = Lab::new();
    let mut line = lab.outbound("127.0.0.1");
    let file = format!("/proc/self/fd/{}", line.sock.fd);
    let (status, stdout, _) = line.program.run(&["/bin/readlink", &file], &[line.sock]);
    assert_eq!(status, 0);
    assert!(stdout.starts_with("socket:"), "{stdout}");
    assert_ne!(line.program.run(&["/bin/readlink", &file], &[]).0, 0);
}

#[test]
fn nothing_is_left_behind_even_by_a_panic() {
    let mut places = Vec::new();
    let mut pids = Vec::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::new();
        let inner = lab.cgroup.child("inner");
        let program = lab.program();
        places.extend([lab.ns.file(), inner.path().to_owned(), lab.cgroup.path().to_owned()]);
        places.push(lab.directory.path().to_owned());
        pids.push(program.pid());
        let rule = "[[rule]]\nname = \"all\"\nkeepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\n";
        let agent = lab.agent().rules(rule).start();
        places.extend([agent.pins().to_owned(), agent.socket().to_owned()]);
        assert!(places.iter().all(|place| place.exists()), "{places:?}");
        panic!("this is meant");
    }));
    let message = panicked.unwrap_err();
    assert_eq!(message.downcast_ref::<&str>(), Some(&"this is meant"));
    for place in places {
        assert!(!place.exists(), "{} is left", place.display());
    }
    for pid in pids {
        // The kernel may still be taking it down.
        wait_until("the program is gone", SOON, || !Path::new(&format!("/proc/{pid}")).exists());
    }
}
