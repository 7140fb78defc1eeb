//! `tcpops agent`: runs the daemon.

use std::env;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use strum::VariantArray as _;
use tracing_subscriber::EnvFilter;

use super::context::non_empty;
use super::exit::{Exit, Failure};
use super::words::words;
use crate::agent;
use crate::config::{Config, HookConfig, LogFormat, Options};
use crate::logging::Log;
use crate::model::history::record::{Kind, Kinds};

pub(crate) const EXAMPLES: &str = "\
With no rules the agent only watches: it changes nothing. It needs root. SIGHUP reads the rules file again; SIGTERM \
ends the agent and leaves its programs in place, so that rules still apply at handshakes: `tcpops detach` removes them.

Examples:
  tcpops agent
  tcpops agent --rules /etc/tcpops/rules.toml
  tcpops agent --cgroup /sys/fs/cgroup/system.slice --netns host --socket /run/tcpops/slice.sock";

#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// Take options from this file (TOML); those of the command line go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
    /// Run this program with each event, as a line of JSON on its standard input
    #[arg(long, value_name = "PROGRAM")]
    hook: Option<PathBuf>,
    /// Run it with events of these types only, separated by commas [default: closed]
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = words(Kind::VARIANTS, Kind::name))]
    hook_type: Vec<Kind>,
}

/// The object file with the kernel programs that the environment names, in place of the built-in one.
pub(crate) fn object() -> Option<PathBuf> {
    non_empty(env::var_os("TCPOPS_BPF_OBJECT"))
}

/// Runs the agent until it is told to end.
pub(crate) fn run(args: AgentArgs) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| Failure::Agent(error.into());
    let (config, format) = config(args).map_err(failed)?;
    // One thread for the loop and the socket; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    let log = runtime.block_on(async { log_to_stderr(format) }).map_err(failed)?;
    let result = runtime.block_on(agent::run(config)).map_err(failed);
    // Also what still runs may say something.
    drop(runtime);
    match result {
        Ok(()) => Ok(Exit::Done),
        Err(failure) => {
            // By the same way as what was said before it, which a reader may not have taken yet.
            log.lines().push(&failure.message());
            Ok(failure.exit())
        }
    }
}

/// The configuration, and the form of the log.
fn config(mut args: AgentArgs) -> anyhow::Result<(Config, LogFormat)> {
    let mut file = args.config.as_deref().map(Options::read).transpose()?.unwrap_or_default();
    let format = args.options.log_format.or(file.log_format).unwrap_or_default();
    args.options.object = args.options.object.or_else(object);
    let hook = hook(args.hook, &args.hook_type, file.hook.take())?;
    Ok((Config::new(args.options, file, hook), format))
}

/// The hook that the command line and the file ask for. A program that the command line names gets no arguments from the
/// file.
fn hook(program: Option<PathBuf>, types: &[Kind], file: Option<HookConfig>) -> anyhow::Result<Option<HookConfig>> {
    let mut hook = match (program, file) {
        (Some(program), Some(file)) => HookConfig { program, args: Vec::new(), ..file },
        (Some(program), None) => HookConfig::new(program),
        (None, Some(file)) => file,
        (None, None) => {
            anyhow::ensure!(types.is_empty(), "expected --hook with --hook-type, found none");
            return Ok(None);
        }
    };
    if !types.is_empty() {
        hook.kinds = types.iter().copied().fold(Kinds::NONE, Kinds::with);
    }
    Ok(Some(hook))
}

/// Logs to standard error from level `info` up, and all that the kernel programs log, unless `RUST_LOG` asks for something
/// else. Within a tokio runtime.
fn log_to_stderr(format: LogFormat) -> anyhow::Result<Log> {
    let filter = match non_empty(env::var_os("RUST_LOG")) {
        Some(_) => EnvFilter::try_from_default_env()?,
        None => EnvFilter::new("info,tcpops::sockops=trace,tcpops::adopt=trace,tcpops::track=trace"),
    };
    let log = Log::start()?;
    let lines = log.lines();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
    match format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_hook_of_the_command_line_goes_before_that_of_the_file() {
        let in_file = HookConfig {
            args: vec!["-v".to_owned()],
            kinds: Kinds::NONE.with(Kind::Opened),
            timeout: Duration::from_secs(3),
            ..HookConfig::new("/in/file".into())
        };
        let file = || Some(in_file.clone());
        assert_eq!(hook(None, &[], None).unwrap(), None);
        assert!(hook(None, &[Kind::Closed], None).unwrap_err().to_string().contains("--hook"));
        assert_eq!(hook(None, &[], file()).unwrap(), file());
        let by_line = hook(Some("/p".into()), &[Kind::Expiring], file()).unwrap().unwrap();
        assert_eq!((by_line.program.to_str(), by_line.args.len()), (Some("/p"), 0));
        assert_eq!((by_line.kinds, by_line.timeout), (Kinds::NONE.with(Kind::Expiring), Duration::from_secs(3)));
        let plain = hook(Some("/p".into()), &[], None).unwrap().unwrap();
        assert_eq!((plain.kinds, plain.timeout), (Kinds::NONE.with(Kind::Closed), Duration::from_secs(10)));
        assert_eq!(plain.max_running, 4);
    }
}
