//! What the agent was told on its command line.

use std::path::PathBuf;

pub use crate::kernel::load::LogLevel;
pub use crate::kernel::netns::Reach;

/// Where the socket is unless it is said otherwise.
pub const DEFAULT_SOCKET: &str = "/run/tcpops/tcpops.sock";

/// The configuration of the agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The rules file, read at the start and on SIGHUP.
    pub rules: Option<PathBuf>,
    /// The cgroup2 directory to attach to; the root of the hierarchy if none is given.
    pub cgroup: Option<PathBuf>,
    /// The unix socket.
    pub socket: PathBuf,
    /// The directory of the pins; `<bpffs>/tcpops` if none is given.
    pub pins: Option<PathBuf>,
    /// How many connections can be tracked.
    pub max_connections: u32,
    /// Which network namespaces to enter.
    pub reach: Reach,
    /// Whether to take in the connections that are open at the start.
    pub adopt: bool,
    /// How much the kernel programs log.
    pub ebpf_log: LogLevel,
    /// Kernel programs instead of the built-in ones.
    pub object: Option<PathBuf>,
}
