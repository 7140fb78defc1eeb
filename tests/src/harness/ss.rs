//! What `ss` shows.

use std::collections::BTreeMap;
use std::process::Command;

use super::netns::NetNs;
use super::require;

/// A line of `ss -tnaeO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SsSocket {
    /// Such as `ESTAB`.
    pub(crate) state: String,
    /// This end, as `ss` writes it.
    pub(crate) local: String,
    /// The other end.
    pub(crate) remote: String,
    /// The timer that runs: its kind (`keepalive`, `on`, `timewait`, `persist`) and how long it has to go.
    pub(crate) timer: Option<(String, String)>,
    /// The cookie.
    pub(crate) cookie: u64,
}

impl SsSocket {
    /// The kind of the timer that runs.
    pub(crate) fn timer_kind(&self) -> Option<&str> {
        self.timer.as_ref().map(|(kind, _)| kind.as_str())
    }
}

/// Every TCP socket of the namespace that has a cookie of its own, by cookie.
pub(crate) fn sockets(namespace: &NetNs) -> BTreeMap<u64, SsSocket> {
    let text = namespace.stdout_of(Command::new(require::tool("ss")).args(["-tnaoeOH"]));
    text.lines().filter_map(parse).map(|socket| (socket.cookie, socket)).collect()
}

/// The socket with `cookie`.
pub(crate) fn socket(namespace: &NetNs, cookie: u64) -> Option<SsSocket> {
    sockets(namespace).remove(&cookie)
}

fn parse(line: &str) -> Option<SsSocket> {
    let mut words = line.split_whitespace();
    let state = words.next()?.to_owned();
    let (local, remote) = (words.nth(2)?.to_owned(), words.next()?.to_owned());
    let rest: Vec<_> = words.collect();
    let value = |name: &str| rest.iter().find_map(|word| word.strip_prefix(name));
    let timer = value("timer:(").and_then(|timer| {
        let mut parts = timer.trim_end_matches(')').split(',');
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    });
    let cookie = u64::from_str_radix(value("sk:")?, 16).expect("cookies are hexadecimal");
    Some(SsSocket { state, local, remote, timer, cookie })
}

#[test]
fn a_line_is_understood() {
    let line = "ESTAB 0      0          127.0.0.1:45174    127.0.0.1:8080  timer:(keepalive,59sec,0) ino:31 sk:1f cgroup:/x <->";
    let expected = SsSocket {
        state: "ESTAB".to_owned(),
        local: "127.0.0.1:45174".to_owned(),
        remote: "127.0.0.1:8080".to_owned(),
        timer: Some(("keepalive".to_owned(), "59sec".to_owned())),
        cookie: 31,
    };
    assert_eq!(parse(line), Some(expected));
}
