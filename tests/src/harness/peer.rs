//! Programs with TCP connections, which know nothing of tcpops.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::{Value, json};

use super::cgroup::Cgroup;
use super::command::{Log, Running};
use super::http::Response;
use super::netns::NetNs;
use super::options::{Options, copy_of, options_of};
use super::pidns::PidNs;
use super::require;
use super::wait::patient;

const PROGRAM: &str = include_str!("peer.py");
/// Longer than the program itself waits for anything.
const ANSWERS_WITHIN: Duration = Duration::from_secs(40);

/// `IPPROTO_MPTCP`.
pub(crate) const MPTCP: i32 = 262;
/// `SOL_SOCKET` and `SO_KEEPALIVE`.
pub(crate) const KEEPALIVE: [i32; 2] = [1, 9];
/// `IPPROTO_TCP` and `TCP_KEEPIDLE`.
pub(crate) const KEEPIDLE: [i32; 2] = [6, 4];
/// `IPPROTO_TCP` and `TCP_USER_TIMEOUT`.
pub(crate) const USER_TIMEOUT: [i32; 2] = [6, 18];

/// A python program that makes and uses sockets as it is told; killed with this value.
#[derive(Debug)]
pub(crate) struct Peer {
    running: Running,
    stdin: ChildStdin,
    answers: Receiver<String>,
    log: Log,
}

/// A socket of a [`Peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sock {
    name: u64,
    /// The descriptor, in the program.
    pub(crate) fd: i32,
    /// `SO_COOKIE`.
    pub(crate) cookie: u64,
    /// `SO_NETNS_COOKIE`.
    pub(crate) netns_cookie: u64,
    /// Its own end.
    pub(crate) local: SocketAddr,
    /// The other end, where it is connected.
    pub(crate) remote: Option<SocketAddr>,
}

/// What came of a crowd that was disconnected and connected again.
#[derive(Debug)]
pub(crate) struct Dodged {
    /// Which of the new connections did not live any more, some time later; those that bound their port are even.
    pub(crate) hit: Vec<usize>,
    /// How many have the endpoints that they had.
    pub(crate) same: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Many sockets of a [`Peer`].
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    name: u64,
    /// For each the times since boot, nanoseconds, between which it was established.
    pub(crate) established: Vec<(u64, u64)>,
}

/// What a call failed with, such as `ECONNRESET`.
pub(crate) type Errno = String;

impl Peer {
    /// Starts it in a namespace; where `cgroup` is given in that, and under `uid`.
    pub(crate) fn start(namespace: &NetNs, cgroup: Option<&Cgroup>, uid: u32) -> Self {
        if uid != 0 {
            return Self::start_in_groups(namespace, cgroup, uid, "--clear-groups");
        }
        let mut command = in_cgroup(cgroup, &require::tool("python3"));
        command.args(["-I", "-S", "-c", PROGRAM]);
        Self::spawn(&mut command, |command| namespace.spawn(command))
    }

    /// Likewise, with the supplementary groups that an argument of setpriv names.
    pub(crate) fn start_in_groups(namespace: &NetNs, cgroup: Option<&Cgroup>, uid: u32, groups: &str) -> Self {
        let mut command = in_cgroup(cgroup, &require::tool("setpriv"));
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), groups]);
        command.arg(require::tool("python3"));
        command.args(["-I", "-S", "-c", PROGRAM]);
        Self::spawn(&mut command, |command| namespace.spawn(command))
    }

    /// Starts it in a cgroup, and in a network namespace of its own that has no name.
    pub(crate) fn start_unnamed(pids: &PidNs, beside: &NetNs, cgroup: &Cgroup) -> Self {
        let mut command = cgroup.command(require::tool("unshare"));
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
        command.arg(require::tool("python3")).args(["-I", "-S", "-c", PROGRAM]);
        Self::spawn(&mut command, |command| pids.spawn(beside, command))
    }

    /// Starts another in the same network namespace, in no cgroup of a test.
    pub(crate) fn start_beside(&self) -> Self {
        let mut command = Command::new(require::tool("nsenter"));
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()));
        command.arg(require::tool("python3")).args(["-I", "-S", "-c", PROGRAM]);
        let start = |command: &mut Command| command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self::spawn(&mut command, start)
    }

    fn spawn(command: &mut Command, start: impl FnOnce(&mut Command) -> Child) -> Self {
        let mut child = start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let log = Log::default();
        log.collect(child.stderr.take().expect("it is piped"));
        let stdout = child.stdout.take().expect("it is piped");
        let stdin = child.stdin.take().expect("it is piped");
        let (sender, answers) = channel();
        thread::spawn(move || {
            // Ends with the program, or when nobody listens any more.
            let _ended = BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        });
        let mut peer = Self { running: Running(child), stdin, answers, log };
        // It says an empty object when it has begun.
        peer.answer(&Value::Null);
        peer
    }

    fn answer(&mut self, request: &Value) -> Value {
        let answer = self.answers.recv_timeout(patient(ANSWERS_WITHIN));
        let answer = answer.unwrap_or_else(|_ended| panic!("no answer to {request}; it said: {}", self.log.text()));
        serde_json::from_str(&answer).expect("it answers in JSON")
    }

    fn ask(&mut self, request: &Value) -> Result<Value, Errno> {
        writeln!(self.stdin, "{request}").unwrap_or_else(|_ended| panic!("it said: {}", self.log.text()));
        let answer = self.answer(request);
        match answer.get("error") {
            Some(errno) => Err(errno.as_str().expect("errors have names").to_owned()),
            None => Ok(answer),
        }
    }

    fn done(&mut self, request: &Value) -> Value {
        self.ask(request).unwrap_or_else(|errno| panic!("{request}: {errno}"))
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.running.0.id()
    }

    /// Listens on a free port of `host`.
    pub(crate) fn listen(&mut self, host: &str) -> Sock {
        self.listen_with(&json!({ "host": host }))
    }

    /// Listens: `host`, `port`, `dual` (IPv4 too), `protocol`, `options` (level, option, value).
    pub(crate) fn listen_with(&mut self, how: &Value) -> Sock {
        Sock::new(&self.done(&with("listen", how)))
    }

    /// Connects, and waits until it is connected.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> Sock {
        self.connect_with(to, &json!({})).unwrap_or_else(|errno| panic!("cannot connect to {to}: {errno}"))
    }

    /// Connects: `bind`, `bind_port`, `wait`, `protocol`, `options`, `data` (sent with the SYN).
    pub(crate) fn connect_with(&mut self, to: SocketAddr, how: &Value) -> Result<Sock, Errno> {
        let mut request = with("connect", how);
        request["host"] = json!(to.ip());
        request["port"] = json!(to.port());
        self.ask(&request).map(|answer| Sock::new(&answer))
    }

    /// Begins to connect.
    pub(crate) fn begin_connect(&mut self, to: SocketAddr) -> Sock {
        self.connect_with(to, &json!({ "wait": false })).unwrap_or_else(|errno| panic!("cannot begin: {errno}"))
    }

    /// Waits for the end of what [`begin_connect`](Self::begin_connect) began.
    pub(crate) fn connected(&mut self, sock: Sock) -> Result<Sock, Errno> {
        self.ask(&json!({ "do": "connected", "name": sock.name })).map(|answer| Sock::new(&answer))
    }

    /// Accepts a connection.
    pub(crate) fn accept(&mut self, listener: Sock) -> Sock {
        Sock::new(&self.done(&json!({ "do": "accept", "name": listener.name })))
    }

    /// Disconnects the descriptor and connects it again.
    pub(crate) fn reconnect(&mut self, sock: Sock, to: SocketAddr) -> Sock {
        let request = json!({ "do": "reconnect", "name": sock.name, "host": to.ip(), "port": to.port() });
        Sock::new(&self.done(&request))
    }

    /// Disconnects the descriptor.
    pub(crate) fn disconnect(&mut self, sock: Sock) {
        self.done(&json!({ "do": "reconnect", "name": sock.name, "host": null, "port": null }));
    }

    /// Sends text.
    pub(crate) fn send(&mut self, sock: Sock, text: &str) {
        self.done(&json!({ "do": "send", "name": sock.name, "text": text }));
    }

    /// Receives what is there, or waits for something; empty at the end of the stream.
    pub(crate) fn receive(&mut self, sock: Sock) -> Result<String, Errno> {
        let answer = self.ask(&json!({ "do": "receive", "name": sock.name }))?;
        Ok(answer["text"].as_str().expect("it is text").to_owned())
    }

    /// Whether nothing has come, not even an end: the connection is as it was.
    pub(crate) fn is_quiet(&mut self, sock: Sock) -> bool {
        self.ask(&json!({ "do": "receive", "name": sock.name, "timeout": 0.01 })) == Err("ETIMEDOUT".to_owned())
    }

    /// Ends the stream in this direction.
    pub(crate) fn shutdown(&mut self, sock: Sock) {
        self.done(&json!({ "do": "shutdown", "name": sock.name }));
    }

    /// Closes.
    pub(crate) fn close(&mut self, sock: Sock) {
        self.done(&json!({ "do": "close", "name": sock.name }));
    }

    /// Closes with a reset (`SO_LINGER` of 0).
    pub(crate) fn reset(&mut self, sock: Sock) {
        self.done(&json!({ "do": "reset", "name": sock.name }));
    }

    /// Makes `count` connections to itself and closes them, one after another; both ends are its own.
    pub(crate) fn churn(&mut self, host: &str, count: u32) {
        self.done(&json!({ "do": "churn", "host": host, "count": count }));
    }

    /// Sets an option.
    pub(crate) fn try_set(&mut self, sock: Sock, [level, option]: [i32; 2], value: i32) -> Result<(), Errno> {
        let request =
            json!({ "do": "setsockopt", "name": sock.name, "level": level, "option": option, "value": value });
        self.ask(&request).map(drop)
    }

    /// Sets an option to `text` and zeros after it, `length` bytes in all; answers with what it is then.
    pub(crate) fn set_long(
        &mut self,
        sock: Sock,
        [level, option]: [i32; 2],
        text: &str,
        length: usize,
    ) -> Result<String, Errno> {
        let request = json!({
            "do": "set_long", "name": sock.name, "level": level, "option": option, "text": text, "length": length,
        });
        self.ask(&request).map(|answer| answer["text"].as_str().expect("it is text").to_owned())
    }

    /// As [`Peer::try_set`], and it must succeed.
    pub(crate) fn set(&mut self, sock: Sock, [level, option]: [i32; 2], value: i32) {
        self.try_set(sock, [level, option], value).unwrap_or_else(|errno| panic!("option {level} {option}: {errno}"));
    }

    /// The options that the kernel has for a socket, read from outside by a copy of its descriptor.
    pub(crate) fn options(&self, sock: Sock) -> Options {
        options_of(self.running.pid(), sock.fd)
    }

    /// Connects to `to` many times, evenly spread over `over` seconds: see [`Crowd`].
    pub(crate) fn crowd(&mut self, to: SocketAddr, count: usize, over: f64) -> Crowd {
        self.crowd_with(to, count, over, 0)
    }

    /// Likewise, `bound` of them, one in two, from a port that they keep when they are disconnected.
    pub(crate) fn crowd_with_ports(&mut self, to: SocketAddr, count: usize, bound: usize) -> Crowd {
        self.crowd_with(to, count, 0.0, bound)
    }

    fn crowd_with(&mut self, to: SocketAddr, count: usize, over: f64, bound: usize) -> Crowd {
        let request = json!({
            "do": "crowd", "host": to.ip(), "port": to.port(), "count": count, "over": over, "bound": bound
        });
        let answer = self.done(&request);
        let ns = |value: &Value| value.as_u64().expect("times are whole");
        let established = answer["established"].as_array().expect("it is a list");
        Crowd {
            name: answer["name"].as_u64().expect("it is a number"),
            established: established.iter().map(|pair| (ns(&pair[0]), ns(&pair[1]))).collect(),
        }
    }

    /// Waits until all of a crowd have ended, or so many seconds: when each was seen to end, and its error.
    pub(crate) fn ends(&mut self, crowd: &Crowd, timeout_s: f64) -> Vec<Option<(u64, Errno)>> {
        let answer = self.done(&json!({ "do": "ends", "name": crowd.name, "timeout": timeout_s }));
        let ends = answer["ends"].as_array().expect("it is a list");
        let end = |value: &Value| {
            let at = value[0].as_u64()?;
            Some((at, value[1].as_str().expect("errors have names").to_owned()))
        };
        ends.iter().map(end).collect()
    }

    /// From a moment since boot on, disconnects each of a crowd and connects it again.
    pub(crate) fn dodge(&mut self, crowd: &Crowd, to: SocketAddr, at_boot_ns: u64, settle: f64) -> Dodged {
        self.dodge_with(crowd, to, at_boot_ns, settle, false)
    }

    fn dodge_with(&mut self, crowd: &Crowd, to: SocketAddr, at_boot_ns: u64, settle: f64, bind: bool) -> Dodged {
        let request = json!({
            "do": "dodge", "name": crowd.name, "host": to.ip(), "port": to.port(), "at": at_boot_ns, "settle": settle,
            "bind": bind
        });
        let answer = self.done(&request);
        let number = |field: &str| answer[field].as_u64().unwrap_or_else(|| panic!("no {field} in {answer}"));
        let index = |number: u64| usize::try_from(number).expect("it is small");
        let hit = answer["hit"].as_array().expect("it is a list").iter().filter_map(Value::as_u64).map(index);
        Dodged { hit: hit.collect(), same: index(number("same")), took: Duration::from_nanos(number("took_ns")) }
    }

    /// As [`dodge`](Self::dodge), each from the port that it had.
    pub(crate) fn dodge_from_same_port(&mut self, crowd: &Crowd, to: SocketAddr, at_boot_ns: u64) -> Dodged {
        self.dodge_with(crowd, to, at_boot_ns, 0.1, true)
    }

    /// Closes a crowd.
    pub(crate) fn disperse(&mut self, crowd: &Crowd) {
        self.done(&json!({ "do": "disperse", "name": crowd.name }));
    }

    /// A copy of its descriptor, with which the socket outlives the program.
    pub(crate) fn copy_of(&self, sock: Sock) -> OwnedFd {
        copy_of(self.running.pid(), sock.fd)
    }

    /// Makes an HTTP request in this program's name.
    pub(crate) fn http(&mut self, socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Response {
        let text = super::http::request_text(method, path, body);
        let answer = self.done(&json!({ "do": "request", "path": socket, "text": text }));
        Response::parse(answer["text"].as_str().expect("it is text").as_bytes())
    }

    /// Connects to a unix socket, for [`ask_on`](Self::ask_on).
    pub(crate) fn dial(&mut self, socket: &Path) {
        self.done(&json!({ "do": "dial", "path": socket }));
    }

    /// Has a child connect to a unix socket, for [`ask_on`](Self::ask_on), and become another program; returns its pid.
    pub(crate) fn dial_by_child(&mut self, socket: &Path, arguments: &[&str]) -> Pid {
        let answer = self.done(&json!({ "do": "dial_by_child", "path": socket, "arguments": arguments }));
        let pid = answer["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        pid.expect("every process has a pid")
    }

    /// Makes an HTTP request on the unix socket that was connected before.
    pub(crate) fn ask_on(&mut self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let text = super::http::request_text(method, path, body);
        let answer = self.done(&json!({ "do": "ask", "text": text }));
        Response::parse(answer["text"].as_str().expect("it is text").as_bytes())
    }

    /// Gives up the rights of root for those of `uid`.
    pub(crate) fn become_uid(&mut self, uid: u32) {
        self.done(&json!({ "do": "become", "uid": uid }));
    }

    /// Lets others of its uid trace it, or not.
    pub(crate) fn set_dumpable(&mut self, dumpable: bool) {
        self.done(&json!({ "do": "dumpable", "value": i32::from(dumpable) }));
    }

    /// Connects to a unix socket `count` times, and says nothing.
    pub(crate) fn hold(&mut self, socket: &Path, count: u32) {
        self.done(&json!({ "do": "hold", "path": socket, "count": count }));
    }

    /// Connects to a unix socket and goes away, as often as it can for so many seconds; returns how often.
    pub(crate) fn flood(&mut self, socket: &Path, seconds: u32) -> u64 {
        let answer = self.done(&json!({ "do": "flood", "path": socket, "seconds": seconds }));
        answer["count"].as_u64().expect("it is a number")
    }

    /// Makes a request `count` times at once in this program's name and reads no answer: the status of each that began.
    pub(crate) fn leave(&mut self, socket: &Path, text: &str, count: u32) -> Vec<String> {
        let answer = self.done(&json!({ "do": "leave", "path": socket, "text": text, "count": count }));
        let begun = answer["begun"].as_array().expect("it is a list").iter();
        begun.map(|status| status.as_str().expect("it is text").to_owned()).collect()
    }

    /// Follows events in this program's name, `count` times.
    pub(crate) fn hold_streams(&mut self, socket: &Path, count: u32) {
        self.done(&json!({ "do": "hold_streams", "path": socket, "count": count }));
    }

    /// Goes away from all of them.
    pub(crate) fn drop_streams(&mut self) {
        self.done(&json!({ "do": "drop_streams" }));
    }

    /// Runs a program, as a child of this one, that inherits the descriptors of `socks`: its status and output.
    pub(crate) fn run(&mut self, arguments: &[&str], socks: &[Sock]) -> (i64, String, String) {
        let names: Vec<_> = socks.iter().map(|sock| sock.name).collect();
        let answer = self.done(&json!({ "do": "run", "arguments": arguments, "names": names }));
        let text = |field: &str| answer[field].as_str().expect("it is text").to_owned();
        (answer["status"].as_i64().expect("it is a number"), text("stdout"), text("stderr"))
    }
}

impl Sock {
    fn new(answer: &Value) -> Self {
        let number = |field: &str| answer[field].as_u64().unwrap_or_else(|| panic!("no {field} in {answer}"));
        Self {
            name: number("name"),
            fd: i32::try_from(number("fd")).expect("descriptors are small"),
            cookie: number("cookie"),
            netns_cookie: number("netns_cookie"),
            local: endpoint(&answer["local"]).expect("every socket has a local end"),
            remote: endpoint(&answer["remote"]),
        }
    }

    /// The other end of a socket that has one.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote.expect("it is connected")
    }

    /// The id by cookie.
    pub(crate) fn id(&self) -> String {
        format!("cookie:{}", self.cookie)
    }
}

fn endpoint(value: &Value) -> Option<SocketAddr> {
    let address = value.get(0)?.as_str()?.parse().expect("addresses are numeric");
    Some(SocketAddr::new(address, u16::try_from(value.get(1)?.as_u64()?).expect("ports have 16 bits")))
}

fn with(what: &str, how: &Value) -> Value {
    let mut request = how.clone();
    request["do"] = json!(what);
    request
}

fn in_cgroup(cgroup: Option<&Cgroup>, program: &Path) -> Command {
    cgroup.map_or_else(|| Command::new(program), |cgroup| cgroup.command(program))
}
