//! The arguments of `tcpops agent`.

use std::env;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use strum::VariantArray as _;
use tracing_subscriber::EnvFilter;

use super::context::non_empty;
use crate::agent;
use crate::config::{
    Adopt, Config, DEFAULT_MAX_CONNECTIONS, DEFAULT_SOCKET, EbpfLog, File, FileHook, Follow, HOOK_MAX_RUNNING,
    HOOK_TIMEOUT, HookConfig, LogFormat, LogLevel, MAX_CONNECTIONS, NetnsScope, Reach,
};
use crate::convert::events::kinds;
use crate::model::history::record::{Kind, Kinds};

pub(crate) const EXAMPLES: &str = "\
With no rules the agent only watches: it changes nothing. It needs root. SIGHUP reads the rules file again; SIGTERM \
ends the agent and leaves its programs in place, so that rules still apply at handshakes: `tcpops detach` removes them.

Examples:
  tcpops agent
  tcpops agent --rules /etc/tcpops/rules.toml
  tcpops agent --cgroup /sys/fs/cgroup/system.slice --netns host --socket /tmp/tcpops.sock";

/// The arguments of `agent`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// Take options from this file (TOML); those of the command line go before it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Apply the rules of this file (TOML), and read it again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// See the sockets of this cgroup2 directory and everything below it [default: the root of the hierarchy]
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Pin maps and programs in this directory of a BPF file system [default: tcpops in the one that is mounted]
    #[arg(long, value_name = "DIR")]
    pub(crate) pins: Option<PathBuf>,
    /// Track so many connections at the most, 1 to 16777216 [default: 1048576]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(MAX_CONNECTIONS))]
    pub(crate) max_connections: Option<u32>,
    /// Reach into all network namespaces to change and close connections, or only into the agent's own [default: all]
    #[arg(long, value_enum, value_name = "all|host")]
    pub(crate) netns: Option<NetnsScope>,
    /// At the start take in the connections that are open already, or only see those that come [default: on]
    #[arg(long, value_enum, value_name = "on|off")]
    pub(crate) adopt: Option<Adopt>,
    /// Follow what was taken in by its state callbacks or by the tracepoint, whatever the kernel can do
    #[arg(long, value_enum, value_name = "callbacks|tracepoint", hide = true)]
    pub(crate) follow: Option<FollowBy>,
    /// Run this program with each event, as a line of JSON on its standard input
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) hook: Option<PathBuf>,
    /// Run it with events of these types only, separated by commas [default: closed]
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = types())]
    pub(crate) hook_type: Vec<String>,
    /// Log what the kernel programs do, for debugging [default: off]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) ebpf_log: Option<EbpfLog>,
    /// Write the log as lines of text or of JSON [default: text]
    #[arg(long, value_enum, value_name = "text|json")]
    pub(crate) log_format: Option<LogFormat>,
    /// Let the ring buffer have so many bytes: a power of two, and whole pages
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(4096..))]
    pub(crate) events_bytes: Option<u32>,
    /// Load the kernel programs from this file rather than from the binary [env: TCPOPS_BPF_OBJECT]
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) object: Option<PathBuf>,
    /// The socket to listen on: the global option, or what the environment says.
    #[arg(skip)]
    pub(crate) socket: Option<PathBuf>,
}

/// Takes the name of a type of events.
fn types() -> PossibleValuesParser {
    PossibleValuesParser::new(Kind::VARIANTS.iter().map(|kind| kind.name()))
}

/// The file with the kernel programs that the environment names, instead of the ones in the binary.
pub(crate) fn object() -> Option<PathBuf> {
    non_empty(env::var_os("TCPOPS_BPF_OBJECT"))
}

/// How connections are followed that were open already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FollowBy {
    /// By their state callbacks.
    Callbacks,
    /// By the tracepoint.
    Tracepoint,
}

/// Runs the agent until it is told to end.
///
/// # Errors
/// Whatever keeps the agent from starting, or ends it.
pub(crate) fn run(args: AgentArgs) -> anyhow::Result<()> {
    let file = args.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
    log_to_stderr(args.log_format.or(file.log_format).unwrap_or_default())?;
    // One thread for the loop and the socket; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(agent::run(config(args, file)?))
}

/// What the command line says goes before what the file says.
fn config(args: AgentArgs, file: File) -> anyhow::Result<Config> {
    Ok(Config {
        hook: hook(args.hook, &args.hook_type, file.hook)?,
        object: args.object.or_else(object),
        rules: args.rules.or(file.rules),
        cgroup: args.cgroup.or(file.cgroup),
        socket: args.socket.or(file.socket).unwrap_or_else(|| DEFAULT_SOCKET.into()),
        pins: args.pins.or(file.pins),
        max_connections: args.max_connections.or(file.max_connections).unwrap_or(DEFAULT_MAX_CONNECTIONS),
        reach: match args.netns.or(file.netns).unwrap_or_default() {
            NetnsScope::All => Reach::All,
            NetnsScope::Host => Reach::Own,
        },
        adopt: args.adopt.or(file.adopt).unwrap_or_default() == Adopt::On,
        follow: args.follow.map(|by| match by {
            FollowBy::Callbacks => Follow::Callbacks,
            FollowBy::Tracepoint => Follow::Tracepoint,
        }),
        ebpf_log: match args.ebpf_log.or(file.ebpf_log).unwrap_or_default() {
            EbpfLog::Off => LogLevel::Off,
            EbpfLog::Error => LogLevel::Error,
            EbpfLog::Warn => LogLevel::Warn,
            EbpfLog::Info => LogLevel::Info,
            EbpfLog::Debug => LogLevel::Debug,
            EbpfLog::Trace => LogLevel::Trace,
        },
        events_bytes: args.events_bytes,
    })
}

/// The hook: a program that the command line names takes no arguments from the file.
fn hook(program: Option<PathBuf>, types: &[String], file: Option<FileHook>) -> anyhow::Result<Option<HookConfig>> {
    let (in_file, named) = match file {
        Some(FileHook { program, args, types, max_running, timeout }) => {
            ((types, max_running, timeout), Some((program, args)))
        }
        None => Default::default(),
    };
    let (file_types, max_running, timeout) = in_file;
    let Some((program, args)) = program.map(|program| (program, Vec::new())).or(named) else {
        anyhow::ensure!(types.is_empty(), "expected --hook with --hook-type, found none");
        return Ok(None);
    };
    let given = if types.is_empty() { None } else { Some(kinds(&types.join(",")).map_err(anyhow::Error::msg)?) };
    Ok(Some(HookConfig {
        program,
        args,
        kinds: given.or(file_types).unwrap_or(Kinds::NONE.with(Kind::Closed)),
        max_running: max_running.unwrap_or(HOOK_MAX_RUNNING),
        timeout: timeout.unwrap_or(HOOK_TIMEOUT),
    }))
}

/// Logs from `info` upward, the kernel programs' log as far as they write it; `RUST_LOG` says otherwise.
fn log_to_stderr(format: LogFormat) -> anyhow::Result<()> {
    let filter = match non_empty(env::var_os("RUST_LOG")) {
        Some(_) => EnvFilter::try_from_default_env()?,
        None => EnvFilter::new("info,tcpops::sockops=trace,tcpops::adopt=trace,tcpops::track=trace"),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_hook_of_the_command_line_goes_before_that_of_the_file() {
        let file = || {
            Some(FileHook {
                program: "/in/file".into(),
                args: vec!["-v".to_owned()],
                types: Some(Kinds::NONE.with(Kind::Opened)),
                max_running: None,
                timeout: Some(Duration::from_secs(3)),
            })
        };
        assert_eq!(hook(None, &[], None).unwrap(), None);
        assert!(hook(None, &["closed".to_owned()], None).unwrap_err().to_string().contains("--hook"));
        let by_file = hook(None, &[], file()).unwrap().unwrap();
        assert_eq!((by_file.program.to_str(), by_file.args.len(), by_file.max_running), (Some("/in/file"), 1, 4));
        assert_eq!((by_file.kinds, by_file.timeout), (Kinds::NONE.with(Kind::Opened), Duration::from_secs(3)));
        let by_line = hook(Some("/p".into()), &["expiring".to_owned()], file()).unwrap().unwrap();
        assert_eq!((by_line.program.to_str(), by_line.args.len()), (Some("/p"), 0));
        assert_eq!((by_line.kinds, by_line.timeout), (Kinds::NONE.with(Kind::Expiring), Duration::from_secs(3)));
        let plain = hook(Some("/p".into()), &[], None).unwrap().unwrap();
        assert_eq!((plain.kinds, plain.timeout), (Kinds::NONE.with(Kind::Closed), Duration::from_secs(10)));
    }
}
