//! The options of the agent. The configuration file is TOML, its keys are the long options, and it has a table `[hook]`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer};

use super::hook::HookConfig;
use super::values::{within, word};
use crate::api::rules::{RuleFileError, in_toml};
use crate::kernel::follow::Follow;
use crate::kernel::load::LogLevel;
use crate::kernel::netns::Reach;

/// The range of `--max-connections`.
const MAX_CONNECTIONS: RangeInclusive<i64> = 1..=16_777_216;

/// The options that the command line or the configuration file gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Options {
    /// Apply the rules of this file (TOML), and read it again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// See the sockets of this cgroup2 directory and everything below it [default: the root of the hierarchy]
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// The socket to listen on. On the command line it is a global option.
    #[arg(skip)]
    pub(crate) socket: Option<PathBuf>,
    /// Put the socket only where nobody but root can put something in its place, or anywhere [default: own]
    #[arg(long, value_enum, value_name = "own|shared")]
    #[serde(deserialize_with = "word")]
    pub(crate) socket_directory: Option<SocketDirectory>,
    /// Pin maps and programs in this directory of a BPF file system [default: tcpops in the one that is mounted]
    #[arg(long, value_name = "DIR")]
    pub(crate) pins: Option<PathBuf>,
    /// Track at most this many connections, 1 to 16777216 [default: 262144]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(MAX_CONNECTIONS))]
    #[serde(deserialize_with = "max_connections")]
    pub(crate) max_connections: Option<u32>,
    /// Reach into all network namespaces to change and close connections, or only into the agent's own [default: all]
    #[arg(long, value_enum, value_name = "all|host")]
    #[serde(deserialize_with = "word")]
    pub(crate) netns: Option<Reach>,
    /// At the start adopt the connections that are open already, or only see those that come [default: on]
    #[arg(long, value_enum, value_name = "on|off")]
    #[serde(deserialize_with = "word")]
    pub(crate) adopt: Option<Adopt>,
    /// Follow adopted connections by their state callbacks or by the tracepoint, whatever the kernel can do
    #[arg(long, value_enum, value_name = "callbacks|tracepoint", hide = true)]
    #[serde(skip)]
    pub(crate) follow: Option<Follow>,
    /// While nobody reads events, record only how connections end, or all that happens to them [default: ends]
    #[arg(long, value_enum, value_name = "ends|all")]
    #[serde(deserialize_with = "word")]
    pub(crate) record: Option<Recorded>,
    /// Log what the kernel programs do, for debugging [default: off]
    #[arg(long, value_enum, value_name = "LEVEL")]
    #[serde(deserialize_with = "word")]
    pub(crate) ebpf_log: Option<LogLevel>,
    /// Write the log as lines of text or of JSON [default: text]
    #[arg(long, value_enum, value_name = "text|json")]
    #[serde(deserialize_with = "word")]
    pub(crate) log_format: Option<LogFormat>,
    /// The size of the ring buffer in bytes: a power of two, and whole pages
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(4096..))]
    #[serde(skip)]
    pub(crate) events_bytes: Option<u32>,
    /// Load the kernel programs from this file rather than from the binary [env: TCPOPS_BPF_OBJECT]
    #[arg(long, value_name = "FILE", hide = true)]
    #[serde(skip)]
    pub(crate) object: Option<PathBuf>,
    /// The hook of the file.
    #[arg(skip)]
    pub(crate) hook: Option<HookConfig>,
}

/// The choice of `--socket-directory`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SocketDirectory {
    /// One of root's, which is checked with all above it
    #[default]
    Own,
    /// Any
    Shared,
}

/// The choice of `--adopt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Adopt {
    /// They are adopted
    #[default]
    On,
    /// They are not
    Off,
}

/// The choice of `--record`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recorded {
    /// How each ends, and what the agent does
    #[default]
    Ends,
    /// All
    All,
}

/// The form of the agent's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each event
    #[default]
    Text,
    /// A JSON object in a line for each event
    Json,
}

impl Options {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or the place of what cannot be understood.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("cannot read {shown}: {error}"))?;
        Ok(Self::parse(&text, &shown.to_string())?)
    }

    fn parse(text: &str, file: &str) -> Result<Self, RuleFileError> {
        toml::from_str(text).map_err(|error| in_toml(&error, text, file))
    }
}

fn max_connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    within(deserializer, &MAX_CONNECTIONS).map(Some)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::convert::events::kinds;

    #[test]
    fn every_option_has_its_key() {
        let text = r#"
            rules = "/etc/tcpops/rules.toml"
            cgroup = "/sys/fs/cgroup/a"
            socket = "/run/s"
            socket-directory = "shared"
            pins = "/sys/fs/bpf/p"
            max-connections = 5000
            netns = "host"
            adopt = "off"
            record = "all"
            ebpf-log = "debug"
            log-format = "json"
            [hook]
            program = "/usr/local/bin/told"
            args = ["-v"]
            types = ["closed", "expiring"]
            max_running = 2
            timeout = "3s"
        "#;
        let file = Options::parse(text, "f").unwrap();
        assert_eq!((file.max_connections, file.netns, file.adopt), (Some(5000), Some(Reach::Host), Some(Adopt::Off)));
        assert_eq!((file.ebpf_log, file.log_format), (Some(LogLevel::Debug), Some(LogFormat::Json)));
        assert_eq!((file.record, file.socket_directory), (Some(Recorded::All), Some(SocketDirectory::Shared)));
        let hook = file.hook.unwrap();
        assert_eq!(hook.kinds, kinds("closed,expiring").unwrap());
        assert_eq!((hook.max_running, hook.timeout), (2, Duration::from_secs(3)));
        assert_eq!(Options::parse("", "f").unwrap(), Options::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, message) in [
            ("rules = \"r\"\nrule = \"r\"", "f:2:1: unknown field `rule`, expected one of `rules`"),
            ("netns = \"none\"", "f:1:9: unknown variant `none`, expected `all` or `host`"),
            ("\nmax-connections = 0", "f:2:19: expected 1 to 16777216, found 0"),
            ("[hook]\nargs = []", "f:1:1: missing field `program`"),
            ("[hook]\nprogram = \"/p\"\nprogramme = 1", "f:3:1: unknown field `programme`"),
            ("[hook]\nprogram = \"/p\"\ntypes = [\"open\"]", "f:3:9: type: expected some of opened, adopted"),
            ("[hook]\nprogram = \"/p\"\ntypes = []", "f:3:9: expected at least one type"),
            ("[hook]\nprogram = \"/p\"\nmax_running = 65", "f:3:15: expected 1 to 64, found 65"),
            ("[hook]\nprogram = \"/p\"\ntimeout = \"2h\"", "f:3:11: expected a duration of 1s to 1h"),
            ("rules = ", "f:1:9: "),
        ] {
            let error = Options::parse(text, "f").unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
