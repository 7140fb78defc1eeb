//! A place for one test: a network namespace, a cgroup, a directory.

use serde_json::json;

use super::cgroup::Cgroup;
use super::directory::Directory;
use super::netns::NetNs;
use super::peer::{Peer, Sock};

/// The agent works in the namespace and is attached to the cgroup; programs under test are in both.
#[derive(Debug)]
pub(crate) struct Lab {
    // Dropped in this order: what runs in the cgroup ends first.
    pub(crate) cgroup: Cgroup,
    pub(crate) ns: NetNs,
    pub(crate) directory: Directory,
}

/// A connection of a program under test.
#[derive(Debug)]
pub(crate) struct Line {
    /// The program under test.
    pub(crate) program: Peer,
    /// Its socket.
    pub(crate) sock: Sock,
    /// The other side, which no agent sees.
    pub(crate) outsider: Peer,
    /// The other side's socket.
    pub(crate) far: Sock,
}

impl Lab {
    /// Makes one.
    pub(crate) fn new() -> Self {
        Self { ns: NetNs::new(), cgroup: Cgroup::new(), directory: Directory::new() }
    }

    /// A program under test.
    pub(crate) fn program(&self) -> Peer {
        Peer::start(&self.ns, Some(&self.cgroup), 0)
    }

    /// A program under test of another user.
    pub(crate) fn program_of(&self, uid: u32) -> Peer {
        Peer::start(&self.ns, Some(&self.cgroup), uid)
    }

    /// A program that is in the namespace but not in the cgroup.
    pub(crate) fn outsider(&self) -> Peer {
        Peer::start(&self.ns, None, 0)
    }

    /// A program under test that has connected to an outsider over `host`, an address of the loopback.
    pub(crate) fn outbound(&self, host: &str) -> Line {
        let (mut program, mut outsider) = (self.program(), self.outsider());
        let listener = outsider.listen(host);
        let sock = program.connect(listener.local);
        let far = outsider.accept(listener);
        Line { program, sock, outsider, far }
    }

    /// A program under test to which an outsider has connected.
    pub(crate) fn inbound(&self, host: &str) -> Line {
        let (mut program, mut outsider) = (self.program(), self.outsider());
        let listener = program.listen(host);
        let far = outsider.connect(listener.local);
        let sock = program.accept(listener);
        Line { program, sock, outsider, far }
    }

    /// One more connection of the program under test, from the port that the system gives.
    pub(crate) fn another(line: &mut Line) -> (Sock, Sock) {
        let listener = line.outsider.listen_with(&json!({ "host": line.sock.local.ip() }));
        let sock = line.program.connect(listener.local);
        (sock, line.outsider.accept(listener))
    }
}
