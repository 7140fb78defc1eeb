//! What is run with events.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::history::record::Kinds;

/// How many programs the hook runs at a time unless it is said otherwise.
pub(crate) const HOOK_MAX_RUNNING: usize = 4;
/// How long one may take unless it is said otherwise.
pub(crate) const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A program that is run with each event of some kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookConfig {
    /// Its absolute path.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Which events.
    pub(crate) kinds: Kinds,
    /// How many run at a time.
    pub(crate) max_running: usize,
    /// How long one may take before it is killed.
    pub(crate) timeout: Duration,
}
