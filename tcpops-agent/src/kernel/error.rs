//! The errors of `kernel`.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// The result of everything in `kernel`.
pub(crate) type Result<T, E = KernelError> = std::result::Result<T, E>;

/// Each says what was expected, what was found and what to do; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("{call} failed on {what}")]
    Syscall { call: &'static str, what: String, source: io::Error },
    #[error("cannot use the map {name}")]
    Map { name: &'static str, source: aya::maps::MapError },
    /// A BPF map holds a value that this program does not understand.
    #[error("the map {name} holds a value that is none of this version's")]
    Value { name: &'static str },
    #[error("cannot load the kernel programs")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the object has no program {name}; it is not of this version")]
    NoProgram { name: &'static str },
    #[error("sock_diag: expected {expected}, found {found}")]
    Diag { expected: &'static str, found: String },
    #[error("cannot enter the network namespace with cookie {cookie}")]
    Namespace { cookie: u64, source: EnterError },
    /// The agent cannot read the cookie of its own network namespace (Linux 5.14).
    #[error("cannot tell the agent's own network namespace")]
    OwnNamespace(#[source] EnterError),
    #[error("a task of the agent failed")]
    Task(#[source] tokio::task::JoinError),

    #[error("Linux {found} is too old: expected {}.{} or later (iter/tcp with bpf_setsockopt)", .expected.0, .expected.1)]
    TooOld {
        found: String,
        /// Major and minor.
        expected: (u32, u32),
    },
    #[error("the agent needs {missing}, and uid {uid} has not; run it as root")]
    Capabilities { missing: String, uid: u32 },
    #[error(
        "cannot tell the host's CLOCK_BOOTTIME, by which the kernel programs tell time: {found}; start the agent outside of \
         any time namespace"
    )]
    UnknownClock { found: String },
    #[error("cannot read {path}; a kernel built with CONFIG_DEBUG_INFO_BTF is needed, and /sys mounted")]
    NoBtf { path: &'static str, source: io::Error },
    #[error(
        "no cgroup2 file system in /proc/self/mountinfo; expected one such as /sys/fs/cgroup: mount it with \
         `mount -t cgroup2 none /sys/fs/cgroup`"
    )]
    NoCgroup2,
    #[error("fd: needs Linux 6.5 or later (SO_PEERPIDFD)")]
    NoPeerPidfd,

    #[error("cannot pin below {base}: not in a bpf file system; expected a directory such as {bpffs}/tcpops")]
    NotBpffs { base: PathBuf, bpffs: PathBuf },
    /// Other users can put something in the place of what the agent makes.
    #[error(transparent)]
    Exposed(Exposed),
    #[error(
        "cannot pin in {base}; expected a directory of root's in which nobody else can make anything: `tcpops detach --force \
         --pins {base}` removes what is there, or give another --pins"
    )]
    ForeignPins { base: PathBuf, source: Box<Self> },
    #[error("the pins below {base} are in use by another agent; stop it, or give this one other --pins and --socket")]
    PinsInUse { base: PathBuf },
    #[error(
        "the pins are not whole, or not of this version: there is no {path}; run `tcpops detach` of the version that made \
         them, or `tcpops detach --force`"
    )]
    NoPin { path: PathBuf },
    #[error("the pin {path} cannot be used; run `tcpops detach --force`")]
    BrokenPin { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "the pinned map {path} is not of this version (found {found}, expected {expected}); run `tcpops detach` of the \
         version that made it, or `tcpops detach --force`"
    )]
    PinnedShape { path: PathBuf, found: String, expected: String },
    #[error(
        "the pinned map {path} holds {found} connections, and --max-connections asks for {expected}; run `tcpops \
         detach` first to change it, or start with --max-connections {found}"
    )]
    PinnedCapacity { path: PathBuf, found: u32, expected: u32 },
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

    #[error("expected an absolute path without \"..\" such as \"/system.slice\", found \"{found}\"")]
    CgroupPath { found: String },
    #[error("no cgroup \"{path}\": {directory}")]
    NoCgroup {
        path: String,
        /// The directory that does not exist.
        directory: PathBuf,
        source: io::Error,
    },
}

/// Why others can put something in the place of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {why}", path.display())]
pub(crate) struct Exposed {
    pub(crate) path: PathBuf,
    pub(crate) why: Exposure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exposure {
    #[error("belongs to uid {0}")]
    Owner(u32),
    #[error("can be written to by others (mode {0:o})")]
    Mode(u32),
    #[error("is not a directory")]
    NotDirectory,
    #[error("leads on through too many links")]
    Links,
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
    /// The error of a system call, for `map_err`.
    pub(crate) fn syscall<E: Into<io::Error>>(call: &'static str, what: impl Display) -> impl FnOnce(E) -> Self {
        move |source| Self::Syscall { call, what: what.to_string(), source: source.into() }
    }

    /// The kernel answered a call about a socket with this errno.
    pub(crate) fn refused(call: &'static str, errno: i32) -> Self {
        Self::syscall(call, "the socket")(io::Error::from_raw_os_error(errno))
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
