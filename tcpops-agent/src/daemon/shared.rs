//! What the loop and the requests both use: the kernel's side of things, for reading and for writing one entry.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use tcpops_common::conn::{ConnKey, Connection};
use tokio::sync::Semaphore;

use crate::convert::connections::Clocks;
use crate::kernel::clock::now_wall_and_boot_ns;
use crate::kernel::connections::Connections;
use crate::kernel::netns::Namespaces;
use crate::kernel::overrides::Overrides;
use crate::kernel::switches::Switches;
use crate::kernel::walk::Walker;
use crate::kernel::{KernelError, Result};

/// How many requests read the whole map at a time; others wait.
const SCANS: usize = 2;

/// The names of rules by id.
pub(crate) type RuleNames = HashMap<u32, String>;

/// Shared between the loop, its jobs and the requests.
pub(crate) struct Shared {
    pub(crate) connections: Connections,
    pub(crate) overrides: Overrides,
    pub(crate) switches: Switches,
    pub(crate) namespaces: Namespaces,
    pub(crate) walker: Walker,
    pub(crate) facts: Facts,
    rule_names: RwLock<Arc<RuleNames>>,
    /// What this kernel lacks or cannot do, and what that means.
    limitations: RwLock<Vec<String>>,
    /// Bounds how much of the CPU callers can spend on reading the whole map.
    scans: Arc<Semaphore>,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) started: Timestamp,
    pub(crate) kernel: String,
    /// The root of the cgroup2 hierarchy.
    pub(crate) cgroup_mount: PathBuf,
    /// The directory that the program is attached to.
    pub(crate) cgroup: PathBuf,
    pub(crate) pins: PathBuf,
    pub(crate) resumed: bool,
    pub(crate) max_connections: u32,
    pub(crate) rules_file: Option<PathBuf>,
}

impl Shared {
    pub(crate) fn new(
        connections: Connections,
        overrides: Overrides,
        switches: Switches,
        namespaces: Namespaces,
        walker: Walker,
        facts: Facts,
    ) -> Self {
        Self {
            connections,
            overrides,
            switches,
            namespaces,
            walker,
            facts,
            limitations: RwLock::default(),
            rule_names: RwLock::default(),
            scans: Arc::new(Semaphore::new(SCANS)),
        }
    }

    /// What this kernel lacks or cannot do.
    pub(crate) fn limitations(&self) -> Vec<String> {
        self.limitations.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add_limitations(&self, found: Vec<String>) {
        self.limitations.write().unwrap_or_else(PoisonError::into_inner).extend(found);
    }

    /// The names of the rules in force.
    pub(crate) fn rule_names(&self) -> Arc<RuleNames> {
        Arc::clone(&self.rule_names.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_rule_names(&self, names: RuleNames) {
        *self.rule_names.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    /// The connections that `wanted` picks, by rising conid. Half a microsecond an entry, off the loop; a few at a time.
    pub(crate) async fn scan(
        shared: &Arc<Self>,
        wanted: impl Fn(ConnKey, &Connection) -> bool + Send + 'static,
    ) -> Result<Vec<(ConnKey, Connection)>> {
        let scanning = Arc::clone(&shared.scans).acquire_owned().await;
        let shared = Arc::clone(shared);
        blocking(move || {
            let _until_done = scanning;
            let mut found = Vec::new();
            shared.connections.for_each_batch(|batch| {
                found.extend(batch.iter().filter(|(key, connection)| wanted(*key, connection)));
                true
            })?;
            // A connection that the map moved meanwhile may have been visited twice.
            found.sort_unstable_by_key(|(key, _)| key.conid);
            found.dedup_by_key(|(key, _)| key.conid);
            Ok(found)
        })
        .await
    }
}

/// The clocks now, for turning the maps' times into dates and back.
pub fn clocks() -> Clocks {
    let (wall_ns, boot_ns) = now_wall_and_boot_ns();
    Clocks { wall_ns, boot_ns }
}

/// Runs something that blocks, off the loop.
pub(crate) async fn blocking<T: Send + 'static>(action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(action)
        .await
        .unwrap_or_else(|error| Err(KernelError::Missing(format!("a task of the agent failed: {error}"))))
}
