//! The errors of `kernel`.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// The result of everything in `kernel`.
pub(crate) type Result<T, E = KernelError> = std::result::Result<T, E>;

/// Each says what was expected, what was found and what to do; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// A system call failed.
    #[error("{call} failed on {what}")]
    Syscall {
        call: &'static str,
        what: String,
        #[source]
        source: io::Error,
    },
    /// A BPF map could not be used.
    #[error("cannot use the map {name}")]
    Map {
        name: &'static str,
        #[source]
        source: aya::maps::MapError,
    },
    /// A BPF map holds a value that this program does not understand.
    #[error("the map {name} holds a value that is none of this version's")]
    Value { name: &'static str },
    /// Loading the kernel programs failed.
    #[error("cannot load the kernel programs")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object lacks something that the agent uses.
    #[error("the object has no {kind} {name}; it is not of this version")]
    NotInObject {
        /// A program or a map.
        kind: &'static str,
        name: &'static str,
    },
    /// sock_diag sent something else than the answer to a request.
    #[error("sock_diag: expected {expected}, found {found}")]
    Diag { expected: &'static str, found: String },
    /// A network namespace could not be entered.
    #[error("cannot enter the network namespace with cookie {cookie}")]
    Namespace {
        cookie: u64,
        #[source]
        source: EnterError,
    },
    /// The agent cannot read the cookie of its own network namespace (Linux 5.14).
    #[error("cannot tell the agent's own network namespace")]
    OwnNamespace(#[source] EnterError),
    /// A task of the agent panicked.
    #[error("a task of the agent failed")]
    Task(#[source] tokio::task::JoinError),

    /// The kernel is older than the programs need.
    #[error("Linux {found} is too old: expected {}.{} or later (iter/tcp with bpf_setsockopt)", .expected.0, .expected.1)]
    TooOld {
        /// The release of the running kernel.
        found: String,
        /// The oldest that does, major and minor.
        expected: (u32, u32),
    },
    /// The agent lacks capabilities.
    #[error("the agent needs {missing}, and uid {uid} has not; run it as root")]
    Capabilities { missing: String, uid: u32 },
    /// The kernel's BTF cannot be read.
    #[error("cannot read {path}; a kernel built with CONFIG_DEBUG_INFO_BTF is needed, and /sys mounted")]
    NoBtf {
        path: &'static str,
        #[source]
        source: io::Error,
    },
    /// cgroup2 is not mounted.
    #[error(
        "no cgroup2 file system in /proc/self/mountinfo; expected one such as /sys/fs/cgroup: mount it with \
         `mount -t cgroup2 none /sys/fs/cgroup`"
    )]
    NoCgroup2,
    /// The kernel gives no pidfd of a peer.
    #[error("fd: needs Linux 6.5 or later (SO_PEERPIDFD)")]
    NoPeerPidfd,

    /// The directory for the pins is not in a bpf file system.
    #[error("cannot pin below {base}: not in a bpf file system; expected a directory such as {bpffs}/tcpops")]
    NotBpffs { base: PathBuf, bpffs: PathBuf },
    /// Another agent holds the lock of the pins.
    #[error("the pins below {base} are in use by another agent; stop it, or give this one other --pins and --socket")]
    PinsInUse { base: PathBuf },
    /// A map that this version has is not among the pins.
    #[error("the pins are not of this version: there is no {path}; run `tcpops detach` of the version that made them")]
    NoPin { path: PathBuf },
    /// A pinned map differs from the one in the object.
    #[error(
        "the pinned map {path} is not of this version (found {found}, expected {expected}); run `tcpops detach` of the \
         version that made it"
    )]
    PinnedShape { path: PathBuf, found: String, expected: String },
    /// The capacity of a pinned map is not the one asked for.
    #[error(
        "the pinned map {path} holds {found} connections, and --max-connections asks for {expected}; run `tcpops \
         detach` first to change it, or start with --max-connections {found}"
    )]
    PinnedCapacity { path: PathBuf, found: u32, expected: u32 },
    /// A pinned link is attached to another cgroup.
    #[error(
        "the pinned program is attached to the cgroup with id {found}, and {cgroup} has id {expected}; run `tcpops \
         detach` first to attach it elsewhere"
    )]
    AttachedElsewhere {
        /// The id of the cgroup of the link.
        found: u64,
        cgroup: PathBuf,
        expected: u64,
    },

    /// The path of a cgroup is not one from the root of the hierarchy.
    #[error("expected an absolute path without \"..\" such as \"/system.slice\", found \"{found}\"")]
    CgroupPath { found: String },
    /// There is no such cgroup.
    #[error("no cgroup \"{path}\": {directory}")]
    NoCgroup {
        path: String,
        /// The directory that does not exist.
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Why a network namespace could not be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnterError {
    #[error("the agent was started with --netns host")]
    NotAllowed,
    #[error("no process and no name in /run/netns leads to it, or the agent may not enter it")]
    NotFound,
    /// A name whose mount cannot be seen from here is a plain file.
    #[error("it is no network namespace in the agent's mount namespace")]
    NotNamespace,
    #[error("{call}: {errno}")]
    Syscall { call: &'static str, errno: Errno },
    #[error("the thread that entered it panicked")]
    Panicked,
}

impl KernelError {
    pub(crate) fn syscall(call: &'static str, what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Syscall { call, what: what.into(), source: source.into() }
    }

    /// The kernel answered a call about a socket with this errno.
    pub(crate) fn refused(call: &'static str, errno: i32) -> Self {
        Self::syscall(call, "the socket", io::Error::from_raw_os_error(errno))
    }

    /// The errno of a system call that failed.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Syscall { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    pub(crate) fn load(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Load(error.into())
    }

    pub(crate) fn map(name: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { name, source }
    }
}
