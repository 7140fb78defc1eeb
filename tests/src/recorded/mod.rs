//! Every answer of the socket, byte for byte, against a recorded one in `tests/recorded`: the code of the agent may
//! change, its answers may not. Values that differ from run to run are masked in the text. Nothing is parsed, so the
//! order of fields, the form of numbers and every space count.
//!
//! `TCPOPS_RECORD=1` records anew. `git diff` then shows what has changed in the protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::{env, fs};

use serde_json::{Value, json};
use similar::TextDiff;

use crate::harness::agent::Agent;
use crate::harness::http::{Response, exchange, with_headers};
use crate::harness::lab::Lab;
use crate::harness::peer::{Peer, Sock};

mod agent;
mod batch;
mod causes;
mod changes;
mod command;
mod connections;
mod coverage;
mod descriptors;
mod events;
mod list;
mod mask;
mod problems;
mod rules;

/// The headers that tell a client something.
const HEADERS: [&str; 5] = ["content-type", "etag", "allow", "cache-control", "retry-after"];
const JSON: (&str, &str) = ("content-type", "application/json");

/// Questions and answers, in the order in which they were.
struct Recording {
    name: &'static str,
    text: String,
}

impl Recording {
    /// Begins the recording of this name.
    fn new(name: &'static str) -> Self {
        Self { name, text: String::new() }
    }

    /// Says what comes next.
    fn note(&mut self, what: &str) {
        self.text += &format!("# {what}\n");
    }

    fn get(&mut self, agent: &Agent, path: &str) -> Response {
        self.ask(agent, "GET", path, &[], "")
    }

    fn delete(&mut self, agent: &Agent, path: &str) -> Response {
        self.ask(agent, "DELETE", path, &[], "")
    }

    fn put(&mut self, agent: &Agent, path: &str, body: &Value) -> Response {
        self.ask(agent, "PUT", path, &[JSON], &body.to_string())
    }

    fn post(&mut self, agent: &Agent, path: &str, body: &Value) -> Response {
        self.ask(agent, "POST", path, &[JSON], &body.to_string())
    }

    /// Makes a request of any form.
    fn ask(&mut self, agent: &Agent, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let request = with_headers(method, path, headers, body);
        let response = exchange(agent.socket(), request.as_bytes());
        let response = response.unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"));
        // A body is JSON where nothing else is said.
        let headers = headers.iter().filter(|header| **header != JSON);
        let headers: String = headers.map(|(name, value)| format!("> {name}: {value}\n")).collect();
        let body = if body.is_empty() { String::new() } else { format!("> {body}\n") };
        self.answered(&format!("{method} {path}"), &(headers + &body), &response);
        response
    }

    /// Makes a request in the name of a program.
    fn ask_as(&mut self, peer: &mut Peer, agent: &Agent, method: &str, path: &str, body: Option<&Value>) -> Response {
        let response = peer.http(agent.socket(), method, path, body);
        let body = body.map_or_else(String::new, |body| format!("> {body}\n"));
        self.answered(&format!("{method} {path}"), &body, &response);
        response
    }

    /// An answer, with what was asked; `more` are whole lines.
    fn answered(&mut self, asked: &str, more: &str, response: &Response) {
        self.head(asked, more, response);
        self.printed(&response.text());
    }

    /// An answer without its body.
    fn head(&mut self, asked: &str, more: &str, response: &Response) {
        self.text += &format!("> {asked}\n{more}< {}\n", response.status);
        for name in HEADERS {
            if let Some(value) = response.header(name) {
                self.text += &format!("< {name}: {value}\n");
            }
        }
    }

    /// Text as it came, up to an empty line.
    fn printed(&mut self, text: &str) {
        self.text += text;
        self.text += if text.is_empty() || text.ends_with('\n') { "\n" } else { "\n\n" };
    }

    /// Compares with what was recorded, or records.
    fn check(self) {
        let path = directory().join(self.name).with_extension("txt");
        let found = mask::lines(&mask::values(&self.text));
        if env::var_os("TCPOPS_RECORD").is_some() {
            fs::write(&path, found).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
            return;
        }
        let recorded = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; TCPOPS_RECORD=1 records it", path.display()));
        let diff = TextDiff::from_lines(&recorded, &found);
        let diff = diff.unified_diff().header("recorded", "found").to_string();
        assert!(diff.is_empty(), "{} is not what the agent says (TCPOPS_RECORD=1 records anew):\n{diff}", self.name);
    }
}

/// Where the recordings are.
fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded")
}

/// A program under test and its peer. They listen on ports that the test chooses, which are shown; ports that the system
/// chooses are masked.
struct Stage {
    program: Peer,
    outsider: Peer,
    doors: BTreeMap<SocketAddr, Sock>,
}

impl Stage {
    fn new(lab: &Lab) -> Self {
        Self { program: lab.program(), outsider: lab.outsider(), doors: BTreeMap::new() }
    }

    /// The outsider's listener at an endpoint, made when it is first needed.
    fn door(&mut self, to: &str) -> Sock {
        let to: SocketAddr = to.parse().expect("it is an endpoint");
        let Self { outsider, doors, .. } = self;
        *doors.entry(to).or_insert_with(|| outsider.listen_with(&json!({ "host": to.ip(), "port": to.port() })))
    }

    /// Both ends of a connection that the program makes to the outsider.
    fn outbound(&mut self, to: &str) -> (Sock, Sock) {
        self.outbound_with(to, &json!([]))
    }

    /// As [`outbound`](Self::outbound), with options that the program sets before.
    fn outbound_with(&mut self, to: &str, options: &Value) -> (Sock, Sock) {
        let door = self.door(to);
        let sock = self.program.connect_with(door.local, &json!({ "options": options })).expect("it connects");
        (sock, self.outsider.accept(door))
    }

    /// As [`outbound`](Self::outbound), by another program.
    fn outbound_of(&mut self, program: &mut Peer, to: &str) -> (Sock, Sock) {
        let door = self.door(to);
        (program.connect(door.local), self.outsider.accept(door))
    }

    /// Both ends of a connection that the outsider makes to the program's listener.
    fn inbound(&mut self, listener: Sock, to: SocketAddr) -> (Sock, Sock) {
        let far = self.outsider.connect(to);
        (self.program.accept(listener), far)
    }

    /// The program listens there.
    fn listen(&mut self, on: &str) -> Sock {
        let on: SocketAddr = on.parse().expect("it is an endpoint");
        let dual = on.ip().is_unspecified();
        self.program.listen_with(&json!({ "host": on.ip(), "port": on.port(), "dual": dual }))
    }
}
