//! The program that is run with events.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::values::within;
use crate::api::values::LifetimeDuration;
use crate::convert::events::kinds;
use crate::model::history::record::{Kind, Kinds};

/// The program that is run with each event of some kinds: the table `[hook]` of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookConfig {
    /// The path of the program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// The kinds of events it is run with.
    #[serde(rename = "types", default = "default_kinds", deserialize_with = "kinds_of_names")]
    pub(crate) kinds: Kinds,
    /// The number that run at a time.
    #[serde(default = "default_max_running", deserialize_with = "max_running")]
    pub(crate) max_running: usize,
    /// The time after which one is killed.
    #[serde(default = "default_timeout", deserialize_with = "timeout")]
    pub(crate) timeout: Duration,
}

impl HookConfig {
    /// A program without arguments, and the defaults for everything else.
    pub(crate) fn new(program: PathBuf) -> Self {
        let (kinds, max_running, timeout) = (default_kinds(), default_max_running(), default_timeout());
        Self { program, args: Vec::new(), kinds, max_running, timeout }
    }
}

fn default_kinds() -> Kinds {
    Kinds::NONE.with(Kind::Closed)
}

fn default_max_running() -> usize {
    4
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn kinds_of_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kinds, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(D::Error::custom("expected at least one type of events, found none"));
    }
    kinds(&names.join(",")).map_err(D::Error::custom)
}

fn max_running<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, &(1..=64))
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = text.parse().map(|duration: LifetimeDuration| Duration::from_millis(duration.as_millis())).ok();
    let fits = duration.filter(|duration| *duration <= Duration::from_secs(3600));
    fits.ok_or_else(|| D::Error::custom(format!("expected a duration of 1s to 1h such as \"10s\", found {text:?}")))
}
