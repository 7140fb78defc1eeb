//! What the agent was told, on its command line and in its configuration file.

mod file;
mod hook;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;

pub(crate) use file::{File, FileHook};
pub(crate) use hook::{HOOK_MAX_RUNNING, HOOK_TIMEOUT, HookConfig};

pub(crate) use crate::kernel::follow::Follow;
pub(crate) use crate::kernel::load::LogLevel;
pub(crate) use crate::kernel::netns::Reach;

/// Where the socket is unless it is said otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/tcpops/tcpops.sock";

/// How many connections can be tracked unless it is said otherwise.
pub(crate) const DEFAULT_MAX_CONNECTIONS: u32 = 1_048_576;
/// How many it can be told to track.
pub(crate) const MAX_CONNECTIONS: RangeInclusive<i64> = 1..=16_777_216;

/// The configuration of the agent.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The rules file, read at the start and on SIGHUP.
    pub(crate) rules: Option<PathBuf>,
    /// The cgroup2 directory to attach to; the root of the hierarchy if none is given.
    pub(crate) cgroup: Option<PathBuf>,
    /// The unix socket.
    pub(crate) socket: PathBuf,
    /// The directory of the pins; `<bpffs>/tcpops` if none is given.
    pub(crate) pins: Option<PathBuf>,
    /// How many connections can be tracked.
    pub(crate) max_connections: u32,
    /// Which network namespaces to enter.
    pub(crate) reach: Reach,
    /// Whether to take in the connections that are open at the start.
    pub(crate) adopt: bool,
    /// How the connections are followed that were open at the start; the best way that the kernel offers if it is not said.
    pub(crate) follow: Option<Follow>,
    /// How much the kernel programs log.
    pub(crate) ebpf_log: LogLevel,
    /// Kernel programs instead of the built-in ones.
    pub(crate) object: Option<PathBuf>,
    /// The bytes of the ring buffer, for tests: a power of two, and whole pages.
    pub(crate) events_bytes: Option<u32>,
    /// What is run with events, if anything is.
    pub(crate) hook: Option<HookConfig>,
}

/// Into which network namespaces the agent reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetnsScope {
    /// All that can be found.
    #[default]
    All,
    /// The agent's own.
    Host,
}

/// Whether connections that are open already are taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Adopt {
    /// They are.
    #[default]
    On,
    /// They are not.
    Off,
}

/// From which level on the kernel programs log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EbpfLog {
    /// Nothing.
    #[default]
    Off,
    /// Errors.
    Error,
    /// Warnings too.
    Warn,
    /// What happens to connections too.
    Info,
    /// Decisions too.
    Debug,
    /// Everything.
    Trace,
}

/// The form of the agent's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line of text for each event.
    #[default]
    Text,
    /// A JSON object in a line for each event.
    Json,
}
