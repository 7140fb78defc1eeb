//! The configuration of the agent: its options, as the command line and the configuration file give them, and what
//! follows from both.

mod hook;
mod options;
mod values;

pub(crate) use hook::HookConfig;
pub(crate) use options::{Adopt, LogFormat, Options, Recorded, SocketDirectory};

use std::path::PathBuf;

use tcpops_common::maps::DEFAULT_MAX_CONNECTIONS;

use crate::kernel::follow::Follow;
use crate::kernel::load::LogLevel;
use crate::kernel::netns::Reach;

/// The agent's unix socket, where no other is named.
pub(crate) const DEFAULT_SOCKET: &str = "/run/tcpops/tcpops.sock";

/// The configuration of the agent, with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The rules file, read at the start and on SIGHUP.
    pub(crate) rules: Option<PathBuf>,
    /// The cgroup2 directory to attach to; the root of the hierarchy if none is given.
    pub(crate) cgroup: Option<PathBuf>,
    /// The unix socket.
    pub(crate) socket: PathBuf,
    /// True: others may be able to put something in the place of the socket.
    pub(crate) shared_socket_directory: bool,
    /// The directory of the pins; `<bpffs>/tcpops` if none is given.
    pub(crate) pins: Option<PathBuf>,
    /// The number of connections that can be tracked.
    pub(crate) max_connections: u32,
    /// The network namespaces that are entered.
    pub(crate) reach: Reach,
    /// True: the connections that are open at the start are adopted.
    pub(crate) adopt: bool,
    /// The way in which adopted connections are followed; the best that the kernel offers if none is given.
    pub(crate) follow: Option<Follow>,
    /// The log level of the kernel programs.
    pub(crate) ebpf_log: LogLevel,
    /// An object file with the kernel programs, instead of the built-in ones.
    pub(crate) object: Option<PathBuf>,
    /// The size of the ring buffer in bytes: a power of two, and whole pages.
    pub(crate) events_bytes: Option<u32>,
    /// What is recorded while nobody reads events.
    pub(crate) record: Recorded,
    /// The program that is run with events, if there is one.
    pub(crate) hook: Option<HookConfig>,
}

impl Config {
    /// The configuration that follows from the options of the command line and those of the file, which yield to them.
    pub(crate) fn new(line: Options, file: Options, hook: Option<HookConfig>) -> Self {
        Self {
            rules: line.rules.or(file.rules),
            cgroup: line.cgroup.or(file.cgroup),
            socket: line.socket.or(file.socket).unwrap_or_else(|| DEFAULT_SOCKET.into()),
            shared_socket_directory: line.socket_directory.or(file.socket_directory).unwrap_or_default()
                == SocketDirectory::Shared,
            pins: line.pins.or(file.pins),
            max_connections: line.max_connections.or(file.max_connections).unwrap_or(DEFAULT_MAX_CONNECTIONS),
            reach: line.netns.or(file.netns).unwrap_or_default(),
            adopt: line.adopt.or(file.adopt).unwrap_or_default() == Adopt::On,
            follow: line.follow,
            ebpf_log: line.ebpf_log.or(file.ebpf_log).unwrap_or_default(),
            object: line.object,
            events_bytes: line.events_bytes,
            record: line.record.or(file.record).unwrap_or_default(),
            hook,
        }
    }
}
