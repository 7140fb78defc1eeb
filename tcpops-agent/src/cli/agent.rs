//! The arguments of `tcpops agent`.

use std::env;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::context::non_empty;
use crate::config::{Config, LogLevel, Reach};
use crate::daemon;

pub(super) const EXAMPLES: &str = "\
With no rules the agent only watches: it changes nothing. It needs root. SIGHUP reads the rules file again; SIGTERM \
ends the agent and leaves its programs in place, so that rules still apply at handshakes: `tcpops detach` removes them.

Examples:
  tcpops agent
  tcpops agent --rules /etc/tcpops/rules.toml
  tcpops agent --cgroup /sys/fs/cgroup/system.slice --netns host --socket /tmp/tcpops.sock";

/// The arguments of `agent`.
#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    /// Apply the rules of this file (TOML), and read it again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// See the sockets of this cgroup2 directory and everything below it [default: the root of the hierarchy]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Pin maps and programs in this directory of a BPF file system [default: tcpops in the one that is mounted]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// Track so many connections at the most, 1 to 16777216
    #[arg(long, value_name = "N", default_value_t = 1_048_576, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_connections: u32,
    /// Reach into all network namespaces to change and close connections, or only into the agent's own
    #[arg(long, value_enum, value_name = "all|host", default_value_t)]
    pub netns: NetnsScope,
    /// At the start take in the connections that are open already, or only see those that come
    #[arg(long, value_enum, value_name = "on|off", default_value_t)]
    pub adopt: Adopt,
    /// Log what the kernel programs do, for debugging
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    pub ebpf_log: EbpfLog,
    /// Write the log as lines of text or of JSON
    #[arg(long, value_enum, value_name = "text|json", default_value_t)]
    pub log_format: LogFormat,
    /// Load the kernel programs from this file rather than from the binary [env: TCPOPS_BPF_OBJECT]
    #[arg(long, value_name = "FILE", hide = true)]
    pub object: Option<PathBuf>,
    /// The socket to listen on: the global option, as [`GlobalArgs::socket`](super::context::GlobalArgs::socket) has it.
    #[arg(skip)]
    pub socket: PathBuf,
}

/// The file with the kernel programs that the environment names, instead of the ones in the binary.
pub(super) fn object() -> Option<PathBuf> {
    non_empty(env::var_os("TCPOPS_BPF_OBJECT"))
}

/// Into which network namespaces the agent reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NetnsScope {
    /// All that can be found.
    #[default]
    All,
    /// The agent's own.
    Host,
}

/// Whether connections that are open already are taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Adopt {
    /// They are.
    #[default]
    On,
    /// They are not.
    Off,
}

/// From which level on the kernel programs log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EbpfLog {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text for each event.
    #[default]
    Text,
    /// A JSON object in a line for each event.
    Json,
}

/// Runs the agent until it is told to end.
///
/// # Errors
/// Whatever keeps the agent from starting, or ends it.
pub(super) fn run(args: AgentArgs) -> anyhow::Result<()> {
    log_to_stderr(args.log_format)?;
    // One thread for the loop and the socket; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(daemon::run(Config {
        object: args.object.or_else(object),
        rules: args.rules,
        cgroup: args.cgroup,
        socket: args.socket,
        pins: args.pins,
        max_connections: args.max_connections,
        reach: match args.netns {
            NetnsScope::All => Reach::All,
            NetnsScope::Host => Reach::Own,
        },
        adopt: args.adopt == Adopt::On,
        ebpf_log: match args.ebpf_log {
            EbpfLog::Off => LogLevel::Off,
            EbpfLog::Error => LogLevel::Error,
            EbpfLog::Warn => LogLevel::Warn,
            EbpfLog::Info => LogLevel::Info,
            EbpfLog::Debug => LogLevel::Debug,
            EbpfLog::Trace => LogLevel::Trace,
        },
    }))
}

/// Logs from `info` upward, the kernel programs' log as far as they write it; `RUST_LOG` says otherwise.
fn log_to_stderr(format: LogFormat) -> anyhow::Result<()> {
    let filter = match non_empty(env::var_os("RUST_LOG")) {
        Some(_) => EnvFilter::try_from_default_env()?,
        None => EnvFilter::new("info,tcpops::sockops=trace,tcpops::adopt=trace"),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
