//! The configuration file: TOML, whose keys are the long options of `tcpops agent`, and a table `[hook]`.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Adopt, EbpfLog, LogFormat, MAX_CONNECTIONS, NetnsScope};
use crate::api::rules::{RuleFileError, in_toml};
use crate::api::values::LifetimeDuration;
use crate::convert::events::kinds;
use crate::model::history::record::Kinds;

/// How many programs the hook may run at a time at the most.
const MAX_RUNNING: usize = 64;
/// How long one may take at the most, seconds.
const MAX_TIMEOUT_SECONDS: u64 = 3600;

/// What a file says; an option that is not there is as the command line has it, or as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct File {
    /// `--rules`.
    pub(crate) rules: Option<PathBuf>,
    /// `--cgroup`.
    pub(crate) cgroup: Option<PathBuf>,
    /// `--socket`.
    pub(crate) socket: Option<PathBuf>,
    /// `--pins`.
    pub(crate) pins: Option<PathBuf>,
    /// `--max-connections`.
    #[serde(deserialize_with = "max_connections")]
    pub(crate) max_connections: Option<u32>,
    /// `--netns`.
    pub(crate) netns: Option<NetnsScope>,
    /// `--adopt`.
    pub(crate) adopt: Option<Adopt>,
    /// `--ebpf-log`.
    pub(crate) ebpf_log: Option<EbpfLog>,
    /// `--log-format`.
    pub(crate) log_format: Option<LogFormat>,
    /// The program that is run with events.
    pub(crate) hook: Option<FileHook>,
}

/// The table `[hook]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileHook {
    /// The program: `--hook`.
    pub(crate) program: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Types of events: `--hook-type`.
    #[serde(default, deserialize_with = "types")]
    pub(crate) types: Option<Kinds>,
    /// How many run at a time.
    #[serde(default, deserialize_with = "max_running")]
    pub(crate) max_running: Option<usize>,
    /// How long one may take, such as `"10s"`.
    #[serde(default, deserialize_with = "timeout")]
    pub(crate) timeout: Option<Duration>,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read; with the place of what cannot be understood.
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
    let found = i64::deserialize(deserializer)?;
    let number = u32::try_from(found).ok().filter(|number| MAX_CONNECTIONS.contains(&i64::from(*number)));
    let (first, last) = (MAX_CONNECTIONS.start(), MAX_CONNECTIONS.end());
    number.map(Some).ok_or_else(|| D::Error::custom(format!("expected {first} to {last}, found {found}")))
}

fn types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Kinds>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(D::Error::custom("expected at least one type of events, found none"));
    }
    kinds(&names.join(",")).map(Some).map_err(D::Error::custom)
}

fn max_running<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let found = i64::deserialize(deserializer)?;
    let number = usize::try_from(found).ok().filter(|number| (1..=MAX_RUNNING).contains(number));
    number.map(Some).ok_or_else(|| D::Error::custom(format!("expected 1 to {MAX_RUNNING}, found {found}")))
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = LifetimeDuration::from_str(&text).ok();
    duration
        .map(|duration| Duration::from_millis(duration.as_millis()))
        .filter(|duration| *duration <= Duration::from_secs(MAX_TIMEOUT_SECONDS))
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("expected a duration of 1s to 1h such as \"10s\", found {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::history::record::Kind;

    #[test]
    fn every_option_has_its_key() {
        let text = r#"
            rules = "/etc/tcpops/rules.toml"
            cgroup = "/sys/fs/cgroup/a"
            socket = "/run/s"
            pins = "/sys/fs/bpf/p"
            max-connections = 5000
            netns = "host"
            adopt = "off"
            ebpf-log = "debug"
            log-format = "json"
            [hook]
            program = "/usr/local/bin/told"
            args = ["-v"]
            types = ["closed", "expiring"]
            max_running = 2
            timeout = "3s"
        "#;
        let file = File::parse(text, "f").unwrap();
        assert_eq!(
            (file.max_connections, file.netns, file.adopt),
            (Some(5000), Some(NetnsScope::Host), Some(Adopt::Off))
        );
        assert_eq!((file.ebpf_log, file.log_format), (Some(EbpfLog::Debug), Some(LogFormat::Json)));
        let hook = file.hook.unwrap();
        assert_eq!(hook.types, Some(Kinds::NONE.with(Kind::Closed).with(Kind::Expiring)));
        assert_eq!((hook.max_running, hook.timeout), (Some(2), Some(Duration::from_secs(3))));
        assert_eq!(File::parse("", "f").unwrap(), File::default());
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
            let error = File::parse(text, "f").unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
