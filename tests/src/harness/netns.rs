//! Network namespaces.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command::{stdout_of, succeeded};
use super::name::unique;
use super::require;

/// A named network namespace with its loopback up; removed with this value.
#[derive(Debug)]
pub(crate) struct NetNs {
    name: String,
}

/// An address of each family on each side of a cable between two namespaces.
pub(crate) const LEFT: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// The other side.
pub(crate) const RIGHT: [&str; 2] = ["10.77.0.2", "fd77::2"];

/// The value of `net.ipv4.tcp_fastopen` for both sides, with no cookie asked for and every listener ready for it: an
/// accepted socket then exists before the handshake is complete.
pub(crate) const FAST_OPEN: &str = "1543";

impl NetNs {
    /// Makes one.
    pub(crate) fn new() -> Self {
        require::root();
        let namespace = Self { name: unique() };
        stdout_of(Command::new(require::tool("ip")).args(["netns", "add", &namespace.name]));
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Two of them with a cable between: [`LEFT`] and [`RIGHT`].
    pub(crate) fn pair() -> (Self, Self) {
        let (left, right) = (Self::new(), Self::new());
        left.ip(&["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &right.name]);
        for (namespace, [v4, v6]) in [(&left, LEFT), (&right, RIGHT)] {
            namespace.ip(&["address", "add", &format!("{v4}/24"), "dev", "cable"]);
            namespace.ip(&["address", "add", &format!("{v6}/64"), "dev", "cable", "nodad"]);
            namespace.ip(&["link", "set", "cable", "up"]);
        }
        (left, right)
    }

    /// The file that stands for it.
    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `f` in it, on a thread of its own; a panic there goes on here.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.file()).expect("the namespace has its file while this value lives");
        let inside = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
            f()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts `command` in it. Unlike `ip netns exec`, this leaves /sys in sight.
    pub(crate) fn spawn(&self, command: &mut Command) -> Child {
        self.run(|| command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
    }

    /// Runs `command` in it, which must succeed.
    pub(crate) fn stdout_of(&self, command: &mut Command) -> String {
        self.run(|| stdout_of(command))
    }

    /// Runs `ip` on it.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        stdout_of(Command::new(require::tool("ip")).args(["-netns", &self.name]).args(arguments));
    }

    /// Sets a sysctl of the namespace, such as `net.ipv4.tcp_fastopen`.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        self.run(|| std::fs::write(&file, value).unwrap_or_else(|error| panic!("cannot write {file}: {error}")));
    }

    /// From now on, packets that come in meet these rules of nft, such as `tcp dport 80 drop`, and no others.
    pub(crate) fn filter(&self, rules: &[&str]) {
        let rules = rules.join("\n");
        let script = format!(
            "table inet filter\ndelete table inet filter\ntable inet filter {{\nchain input {{\n\
             type filter hook input priority 0; policy accept;\n{rules}\n}}\n}}\n"
        );
        let mut nft = Command::new(require::tool("nft"));
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut nft);
        child.stdin.take().expect("it is piped").write_all(script.as_bytes()).expect("nft reads its script");
        succeeded(&script, &child.wait_with_output().expect("nft ends"));
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _gone = Command::new(require::tool("ip")).args(["netns", "delete", &self.name]).output();
    }
}
