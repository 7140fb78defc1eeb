//! What the tests stand on: namespaces, cgroups, programs with connections, the agent. Each value cleans up what it made
//! when it is dropped, also when a test panics.

pub(crate) mod agent;
pub(crate) mod bpftool;
pub(crate) mod cgroup;
pub(crate) mod command;
pub(crate) mod directory;
pub(crate) mod http;
pub(crate) mod lab;
pub(crate) mod mounts;
pub(crate) mod name;
pub(crate) mod neighbour;
pub(crate) mod netns;
pub(crate) mod options;
pub(crate) mod peer;
pub(crate) mod pidns;
pub(crate) mod require;
pub(crate) mod ss;
pub(crate) mod stream;
pub(crate) mod wait;

mod tests;
