//! The kernel: the only place where aya, netlink, libc and `unsafe` are used. It knows nothing of the model.

mod error;

pub(crate) use error::{KernelError, Result};

// What the host must have, and where things are mounted and pinned.
pub(crate) mod mounts;
pub(crate) mod own_directory;
pub(crate) mod pins;
pub(crate) mod requirements;
pub(crate) mod unpin;

// Getting the programs into the kernel, attached to a cgroup.
pub(crate) mod attach_watch;
pub(crate) mod attached;
mod btf;
pub(crate) mod follow;
mod instruction;
mod link;
pub(crate) mod load;
pub(crate) mod neighbours;
mod object;
pub(crate) mod program_log;
pub(crate) mod reconnects;
pub(crate) mod setsockopt;

#[cfg(test)]
mod layout_test;

// The maps that the programs and the agent share.
pub(crate) mod connections;
pub(crate) mod events;
pub(crate) mod overrides;
pub(crate) mod probes;
pub(crate) mod rules;
pub(crate) mod settings;
mod table;

// Sockets: in which network namespace they are, what the kernel says of them, and destroying them.
pub(crate) mod descriptor;
pub(crate) mod destroy;
pub(crate) mod diag;
pub(crate) mod netns;
pub(crate) mod owner;
pub(crate) mod peer;
pub(crate) mod walk;

// The rest of the host: the clock, cgroups, and the agent's own memory.
pub(crate) mod cgroup;
pub(crate) mod cgroup_watch;
pub(crate) mod clock;
pub(crate) mod file_watch;
mod inotify;
mod memory;

// System calls that need `unsafe`: bpf(2) where aya does not have the call, and registering descriptors with tokio.
mod bpf;
mod readiness;

pub(crate) use memory::{release_memory, share_one_heap};
