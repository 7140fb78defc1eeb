//! The kernel: the only place where aya, netlink, libc and `unsafe` are used. It knows nothing of the model.

pub(crate) mod load;
pub(crate) mod pins;
pub(crate) mod probe;
pub(crate) mod probes;
pub(crate) mod program_log;

pub(crate) mod connections;
pub(crate) mod events;
pub(crate) mod overrides;
pub(crate) mod rules;
pub(crate) mod settings;

pub(crate) mod descriptor;
pub(crate) mod destroy;
pub(crate) mod diag;
pub(crate) mod netns;
pub(crate) mod owner;
pub(crate) mod walk;

pub(crate) mod cgroup;
pub(crate) mod cgroup_watch;
pub(crate) mod clock;
pub(crate) mod mounts;

pub(crate) mod follow;

mod bpf;
mod btf;
mod memory;

#[cfg(test)]
mod layout_test;

pub(crate) use memory::release_memory;

use std::io;

/// What the kernel, or the way to it, refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// A system call failed.
    #[error("{call} failed on {what}")]
    Syscall {
        /// The call.
        call: &'static str,
        /// What it was about.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A BPF map could not be used.
    #[error("cannot use the map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// A BPF map holds a value that this program does not understand.
    #[error("the map {name} holds a value that is none of this version's")]
    Value {
        /// The map.
        name: &'static str,
    },
    /// Something that the program needs is missing; the text says what, and what to do.
    #[error("{0}")]
    Missing(String),
    /// Loading the kernel programs failed.
    #[error("cannot load the kernel programs")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The network namespace with this cookie could not be entered.
    #[error("cannot enter the network namespace with cookie {cookie}: {why}")]
    Namespace {
        /// Its cookie.
        cookie: u64,
        /// Why not.
        why: String,
    },
    /// sock_diag answered with an error, or not as expected.
    #[error("sock_diag: {0}")]
    Diag(String),
}

impl KernelError {
    fn syscall(call: &'static str, what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Syscall { call, what: what.into(), source: source.into() }
    }

    /// The kernel answered a call about a socket with this errno.
    pub(crate) fn refused(call: &'static str, errno: i32) -> Self {
        Self::syscall(call, "the socket", io::Error::from_raw_os_error(errno))
    }

    fn map(name: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { name, source }
    }
}

/// The result of a removal, for which it is enough that the element is not there.
fn removed(name: &'static str, result: std::result::Result<(), aya::maps::MapError>) -> Result<()> {
    use aya::maps::MapError;
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map_err(KernelError::map(name)),
    }
}

/// The result of everything here.
pub(crate) type Result<T, E = KernelError> = std::result::Result<T, E>;
