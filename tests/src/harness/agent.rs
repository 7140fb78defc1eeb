//! The agent under test, and its client.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::bpftool;
use super::command::{Log, Running, ended, succeeded, text};
use super::http::{self, Response};
use super::lab::Lab;
use super::name::unique;
use super::peer::Sock;
use super::pidns::PidNs;
use super::stream::Stream;
use super::wait::{SOON, patient, wait_for, wait_until};
use super::{mounts, require};

/// How long the agent may take to serve.
const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// How an agent is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Setup<'lab> {
    lab: &'lab Lab,
    socket: PathBuf,
    pins: PathBuf,
    rules: Option<PathBuf>,
    more: Vec<String>,
    hidden: bool,
    pids: Option<&'lab PidNs>,
    confined: bool,
    script: Option<String>,
    unread: bool,
    wrapper: Vec<String>,
}

/// A running agent; it is killed and its pins are removed with this value.
#[derive(Debug)]
pub(crate) struct Agent<'lab> {
    setup: Setup<'lab>,
    running: Option<Running>,
    log: Log,
}

impl Lab {
    /// An agent, to be started.
    pub(crate) fn agent(&self) -> Setup<'_> {
        Setup {
            lab: self,
            socket: self.directory.path().join("tcpops.sock"),
            pins: mounts::bpffs().join(unique()),
            rules: None,
            more: Vec::new(),
            hidden: false,
            pids: None,
            confined: false,
            script: None,
            unread: false,
            wrapper: Vec::new(),
        }
    }
}

impl<'lab> Setup<'lab> {
    /// With a rules file of this text.
    pub(crate) fn rules(mut self, text: &str) -> Self {
        self.rules = Some(self.lab.directory.write("rules.toml", text));
        self
    }

    /// With these arguments too.
    pub(crate) fn arguments(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// In a pid namespace of its own, where it sees no other process: with `--netns all` it enters the namespaces that
    /// have a name, and the first one has none.
    pub(crate) fn seeing_no_process(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Among the processes of a pid namespace: with `--netns all` it enters their namespaces too.
    pub(crate) fn among(mut self, pids: &'lab PidNs) -> Self {
        self.pids = Some(pids);
        self
    }

    /// Without CAP_SYS_ADMIN, so that it enters no namespace.
    pub(crate) fn without_sys_admin(mut self) -> Self {
        self.confined = true;
        self
    }

    /// Through a shell that does this first, such as `ulimit -n 64`, in a mount namespace of its own.
    pub(crate) fn after(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }

    /// With a standard error that is a pipe, and stays with the process: nothing reads it.
    pub(crate) fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    /// Started by this command, which becomes the agent.
    pub(crate) fn started_by(mut self, tool: &str, arguments: &[&str]) -> Self {
        self.wrapper = vec![require::tool(tool).to_str().expect("paths of tools are text").to_owned()];
        self.wrapper.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// With the socket at another path.
    pub(crate) fn socket(mut self, path: PathBuf) -> Self {
        self.socket = path;
        self
    }

    /// With the pins in another directory.
    pub(crate) fn pins(mut self, path: PathBuf) -> Self {
        self.pins = path;
        self
    }

    /// The arguments that go with it.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let path = |path: &Path| path.to_str().expect("paths of tests are text").to_owned();
        let mut line = vec!["agent".to_owned(), "--cgroup".to_owned(), path(self.lab.cgroup.path())];
        line.extend(["--socket".to_owned(), path(&self.socket), "--pins".to_owned(), path(&self.pins)]);
        if !self.more.iter().any(|argument| argument == "--max-connections") {
            // The default takes tens of megabytes for each of many agents.
            line.extend(["--max-connections", "4096"].map(str::to_owned));
        }
        if !self.more.iter().any(|argument| argument == "--netns") {
            // The agent is to leave other namespaces alone, the first one above all.
            line.extend(["--netns", "host"].map(str::to_owned));
        }
        if let Some(rules) = &self.rules {
            line.extend(["--rules".to_owned(), path(rules)]);
        }
        line.extend(self.more.iter().cloned());
        line
    }

    fn spawn(&self, log: &Log) -> Running {
        let mut line: Vec<OsString> = Vec::new();
        if self.hidden {
            line.push(require::tool("unshare").into());
            line.extend(["--pid", "--fork", "--kill-child", "--mount-proc"].map(OsString::from));
        }
        if self.pids.is_some() {
            line.push(require::tool("unshare").into());
            line.push("--mount-proc".into());
        }
        if self.confined {
            line.push(require::tool("setpriv").into());
            line.push("--bounding-set=-sys_admin".into());
        }
        if let Some(script) = &self.script {
            line.extend([require::tool("unshare").into(), "--mount".into(), require::tool("sh").into()]);
            line.extend(["-ec".to_owned(), format!("{script}\nexec \"$0\" \"$@\"")].map(OsString::from));
        }
        line.extend(self.wrapper.iter().map(OsString::from));
        line.push(require::tcpops().into());
        line.extend(self.command_line().into_iter().map(OsString::from));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match self.pids {
            Some(pids) => pids.spawn(&self.lab.ns, &mut command),
            None => self.lab.ns.spawn(&mut command),
        };
        if !self.unread {
            log.collect(child.stderr.take().expect("it is piped"));
        }
        log.collect(child.stdout.take().expect("it is piped"));
        Running(child)
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Agent<'lab> {
        let mut agent = self.begin();
        agent.wait_until_ready();
        agent
    }

    /// Starts it, and does not wait.
    pub(crate) fn begin(self) -> Agent<'lab> {
        let log = Log::default();
        let running = Some(self.spawn(&log));
        Agent { setup: self, running, log }
    }

    /// Starts it, which must fail with exit status 1 and change nothing; returns what it said.
    pub(crate) fn fails(&self) -> String {
        let mut command = Command::new(require::tcpops());
        self.fails_as(command.args(self.command_line()))
    }

    /// As [`fails`](Self::fails), with a command that starts it in a way of its own.
    pub(crate) fn fails_as(&self, command: &mut Command) -> String {
        let (pinned, attached) = (self.pins.exists(), bpftool::attached(self.lab.cgroup.path()));
        let (status, said) = self.ends_as(command);
        assert_eq!(status.code(), Some(1), "{said}");
        let leaves = self.pins.exists() && !pinned;
        if leaves {
            fs::remove_dir_all(&self.pins).expect("pins can be removed");
        }
        assert!(!leaves, "{} is left after: {said}", self.pins.display());
        assert_eq!(bpftool::attached(self.lab.cgroup.path()), attached, "{said}");
        said
    }

    /// Starts it in the way that was asked for, and waits for its end.
    pub(crate) fn runs_to_its_end(&self) -> ExitStatus {
        self.spawn(&Log::default()).wait(SOON)
    }

    /// Starts it and waits for its end.
    pub(crate) fn ends(&self) -> (ExitStatus, String) {
        let mut command = Command::new(require::tcpops());
        self.ends_as(command.args(self.command_line()))
    }

    fn ends_as(&self, command: &mut Command) -> (ExitStatus, String) {
        ended(self.lab.ns.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped())))
    }
}

impl Agent<'_> {
    /// Starts the agent that is not running, with the same arguments, and waits until it is ready.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it is running");
        self.running = Some(self.setup.spawn(&self.log));
        self.wait_until_ready();
    }

    /// Waits until it is ready.
    pub(crate) fn wait_until_ready(&mut self) {
        let (start, timeout) = (Instant::now(), patient(READY_WITHIN));
        while !self.is_ready() {
            let running = self.running.as_mut().expect("it was started");
            let ended = running.0.try_wait().expect("a child that was not waited for can be");
            assert!(ended.is_none(), "the agent ended with {ended:?} instead of serving");
            assert!(start.elapsed() < timeout, "the agent does not serve within {timeout:?}");
            thread::sleep(POLL);
        }
    }

    fn is_ready(&self) -> bool {
        let request = http::request_text("GET", "/readyz", None);
        http::exchange(self.socket(), request.as_bytes()).is_ok_and(|response| response.status == 200)
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.setup.socket
    }

    /// The directory that was given for its pins.
    pub(crate) fn pins(&self) -> &Path {
        &self.setup.pins
    }

    /// What it has said so far, those before it included.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has said this: what it writes is read by a thread of its own.
    pub(crate) fn wait_to_say(&self, part: &str) {
        wait_until(&format!("it says {part:?}"), SOON, || self.log().contains(part));
    }

    /// From now on what it says is read, where nothing read it so far.
    pub(crate) fn read_log(&mut self) {
        let log = self.log.clone();
        log.collect(self.take_stderr());
    }

    /// The end of its standard error that nothing reads.
    pub(crate) fn take_stderr(&mut self) -> std::process::ChildStderr {
        self.running().0.stderr.take().expect("nothing has it")
    }

    /// A counter of the agent's own.
    pub(crate) fn own_counter(&self, name: &str) -> u64 {
        let status = self.get("/v1/status").ok();
        status["agent_counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {status}"))
    }

    /// Its process.
    pub(crate) fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("it is running")
    }

    /// Makes a request.
    pub(crate) fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        self.raw(&http::request_text(method, path, body))
    }

    /// Sends text as it is.
    pub(crate) fn raw(&self, text: &str) -> Response {
        http::exchange(self.socket(), text.as_bytes())
            .unwrap_or_else(|error| panic!("no answer to {text:.200}: {error}"))
    }

    /// `GET`.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.api("GET", path, None)
    }

    /// `PUT`.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Response {
        self.api("PUT", path, Some(body))
    }

    /// `DELETE`.
    pub(crate) fn delete(&self, path: &str) -> Response {
        self.api("DELETE", path, None)
    }

    /// Everything known of a connection.
    pub(crate) fn connection(&self, id: &str) -> Value {
        self.get(&format!("/v1/connections/{id}")).ok()
    }

    /// The conid of a connection.
    pub(crate) fn conid(&self, id: &str) -> u64 {
        self.connection(id)["conid"].as_u64().expect("every connection has a conid")
    }

    /// The answer to the question for the state.
    pub(crate) fn state(&self, id: &str) -> Value {
        self.get(&format!("/v1/connections/{id}/state")).ok()
    }

    /// The code of the state.
    pub(crate) fn code(&self, id: &str) -> i64 {
        self.state(id)["code"].as_i64().expect("every state has a code")
    }

    /// The list of connections under a query such as `?uid=0`.
    pub(crate) fn list(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/connections{query}")).ok();
        answer["connections"].as_array().unwrap_or_else(|| panic!("no list in {answer}")).clone()
    }

    /// What happens from now on, or as the query says, such as `?since=0`.
    pub(crate) fn events(&self, query: &str) -> Stream {
        Stream::open(self.socket(), &format!("/v1/events{query}"), &[])
    }

    /// What has happened, as far as it is held, under a query such as `&type=closed`.
    pub(crate) fn history(&self, query: &str) -> Vec<Value> {
        let response = self.get(&format!("/v1/events?follow=false{query}"));
        assert_eq!(response.status, 200, "{}", response.text());
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        response.text().lines().map(parse).collect()
    }

    /// The last event of the socket's connection, once it is there.
    pub(crate) fn closed(&self, sock: Sock) -> Value {
        wait_for("its end", SOON, || {
            let closed = self.history("&type=closed");
            closed.into_iter().rfind(|event| event["cookie"] == sock.cookie)
        })
    }

    /// A counter.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let status = self.get("/v1/status").ok();
        status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {status}"))
    }

    /// Sets keepalive (idle, count, interval) and returns the options in force.
    pub(crate) fn keepalive(&self, id: &str, idle_s: u64, count: u64, interval_s: u64) -> Value {
        let body = json!({ "idle_seconds": idle_s, "count": count, "interval_seconds": interval_s });
        self.put(&format!("/v1/connections/{id}/keepalive"), &body).ok()
    }

    /// Sets lifetimes.
    pub(crate) fn lifetime(&self, id: &str, body: &Value) -> Response {
        self.put(&format!("/v1/connections/{id}/lifetime"), body)
    }

    /// Runs the client.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(require::tcpops());
        command.args(arguments).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
    }

    /// Runs the client, which must succeed, and returns what it printed.
    pub(crate) fn cli_stdout(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        succeeded(&arguments, &output);
        text(&output.stdout)
    }

    /// Runs the client with `-o json`, which must succeed.
    pub(crate) fn cli_json(&self, arguments: &[&str]) -> Value {
        let printed = self.cli_stdout(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    }

    /// The entries of `CONNECTIONS`, by conid, as bpftool shows them.
    pub(crate) fn map(&self) -> std::collections::BTreeMap<u64, (u64, Value)> {
        bpftool::connections(self.pins())
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        let mut running = self.running.take().expect("it is running");
        running.signal(signal);
        running.wait(SOON)
    }
}

impl Agent<'_> {
    /// After it has ended by itself: so that it can be started again.
    pub(crate) fn forget(&mut self) {
        self.running = None;
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the agent said:\n{}", self.log());
        }
        self.running = None;
        if self.pins().exists()
            && let Err(error) = fs::remove_dir_all(self.pins())
        {
            eprintln!("cannot remove {}: {error}", self.pins().display());
        }
    }
}
