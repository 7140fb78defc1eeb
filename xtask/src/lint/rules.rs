//! The table of the rules about who may use what. ARCHITECTURE.md says why the parts are cut this way.

/// A rule about what some files must not do.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// The files that it applies to, as stems: `tcpops-agent/src/model` is `model.rs` and everything under `model/`.
    pub(crate) inside: &'static [&'static str],
    /// The exceptions among those files, as stems.
    pub(crate) outside: &'static [&'static str],
    pub(crate) forbids: Forbids,
    /// The reason, in a sentence.
    pub(crate) why: &'static str,
    pub(crate) instead: &'static str,
}

/// The things that a rule can forbid.
pub(crate) enum Forbids {
    /// These crates.
    Crates(&'static [&'static str]),
    /// Crates whose names begin with this.
    CratesStartingWith(&'static str),
    /// Every dependency of the package except these.
    CratesExcept(&'static [&'static str]),
    /// Every module of the crate except these.
    ModulesExcept(&'static [&'static str]),
    /// These paths and everything under them.
    Paths(&'static [&'static str]),
    /// Both of these paths in one file.
    Both(&'static str, &'static str),
    /// Deriving these traits.
    Derives(&'static [&'static str]),
    /// The keyword `unsafe`.
    Unsafe,
    /// The absence of this attribute.
    Lacking(&'static str),
}
use Forbids::{Both, Crates, CratesExcept, CratesStartingWith, Derives, Lacking, ModulesExcept, Paths, Unsafe};

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "common-is-a-leaf",
        inside: &["tcpops-common/src"],
        outside: &[],
        forbids: Crates(&["tcpops_agent", "tcpops_tests", "xtask", "aya", "aya_ebpf", "std"]),
        why: "the kernel programs are made of tcpops-common too, and everything of ours rests on it",
        instead: "move what needs it into the crate that uses it",
    },
    Rule {
        name: "common-forbids-unsafe",
        inside: &["tcpops-common/src/lib"],
        outside: &[],
        forbids: Lacking("#![forbid(unsafe_code)]"),
        why: "types and pure logic need no unsafe code",
        instead: "put the attribute back at the head of the file",
    },
    Rule {
        name: "ebpf-unsafe-in-kernel",
        inside: &["tcpops-ebpf/src"],
        outside: &[
            "tcpops-ebpf/src/kernel",
            "tcpops-ebpf/src/matching",
            "tcpops-ebpf/src/iter_tcp",
            "tcpops-ebpf/src/main",
        ],
        forbids: Unsafe,
        why: "what the kernel's helpers demand is kept in one small place, where it can be read as a whole",
        instead: "add a safe function under tcpops-ebpf/src/kernel, with the invariant that makes it sound, and call that",
    },
    Rule {
        name: "model-crates",
        inside: &["tcpops-agent/src/model"],
        outside: &[],
        forbids: CratesExcept(&["tcpops_common", "ipnet", "strum", "thiserror"]),
        why: "the model decides and does nothing: it can be tested with no kernel, runtime, clock or file",
        instead: "take what is needed as an argument, and return an Effect for what is to be done",
    },
    Rule {
        name: "model-modules",
        inside: &["tcpops-agent/src/model"],
        outside: &[],
        forbids: ModulesExcept(&["model"]),
        why: "the model knows neither the kernel nor the protocol; they change for other reasons",
        instead: "convert at the border (convert, daemon), and let the model have types of its own",
    },
    Rule {
        name: "model-std",
        inside: &["tcpops-agent/src/model"],
        outside: &[],
        forbids: Paths(&[
            "std::env",
            "std::fs",
            "std::io",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::ToSocketAddrs",
            "std::net::UdpSocket",
            "std::os",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
        ]),
        why: "the model has no clock and no I/O, so that the same inputs always give the same effects",
        instead: "take the time as an argument (`now_boot_ns`), and leave I/O to daemon and kernel",
    },
    Rule {
        name: "api-is-a-leaf",
        inside: &["tcpops-agent/src/api"],
        outside: &[],
        forbids: ModulesExcept(&["api"]),
        why: "the protocol is a contract; what is inside must be free to change under it",
        instead: "convert in tcpops-agent/src/convert",
    },
    Rule {
        name: "kernel-without-model",
        inside: &["tcpops-agent/src/kernel"],
        outside: &[],
        forbids: Paths(&["crate::model"]),
        why: "the kernel side does what it is told; decisions are made in the model",
        instead: "take types of tcpops-common, and let daemon translate",
    },
    Rule {
        name: "only-the-daemon-knows-both",
        inside: &["tcpops-agent/src"],
        outside: &["tcpops-agent/src/daemon", "tcpops-agent/src/main", "tcpops-agent/src/lib"],
        forbids: Both("crate::model", "crate::kernel"),
        why: "there is one place where decisions become actions, so that their order can be read",
        instead: "send an input to the daemon, or let it carry out an Effect",
    },
    Rule {
        name: "agent-unsafe-in-kernel",
        inside: &["tcpops-agent/src"],
        outside: &["tcpops-agent/src/kernel"],
        forbids: Unsafe,
        why: "unsafe code is kept in one small place, where it can be read as a whole",
        instead: "add a safe function under tcpops-agent/src/kernel, or take one of rustix",
    },
    Rule {
        name: "agent-system-in-kernel",
        inside: &["tcpops-agent/src"],
        outside: &["tcpops-agent/src/kernel"],
        forbids: Crates(&["aya", "aya_log", "aya_obj", "libc"]),
        why: "only the kernel side depends on how the kernel is spoken to",
        instead: "add a function under tcpops-agent/src/kernel with types of tcpops-common",
    },
    Rule {
        name: "agent-netlink-in-kernel",
        inside: &["tcpops-agent/src"],
        outside: &["tcpops-agent/src/kernel"],
        forbids: CratesStartingWith("netlink_"),
        why: "only the kernel side depends on how the kernel is spoken to",
        instead: "add a function under tcpops-agent/src/kernel with types of tcpops-common",
    },
    Rule {
        name: "serialization-is-a-border",
        inside: &["tcpops-agent/src"],
        outside: &["tcpops-agent/src/api", "tcpops-agent/src/config"],
        forbids: Derives(&["Serialize", "Deserialize"]),
        why: "a type that is serialized is a contract, and a type of the kernel border must never become one by accident",
        instead: "define the type in api (or config), and convert",
    },
    Rule {
        name: "xtask-forbids-unsafe",
        inside: &["xtask/src/main"],
        outside: &[],
        forbids: Lacking("#![forbid(unsafe_code)]"),
        why: "the tasks need no unsafe code",
        instead: "put the attribute back at the head of the file",
    },
];
