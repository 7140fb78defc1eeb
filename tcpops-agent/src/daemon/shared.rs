//! The state that the loop, its jobs and the requests share: the maps, the namespaces, the rules in force.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tcpops_common::conn::{ConnKey, Connection};
use tokio::sync::{Semaphore, oneshot};

use crate::daemon::counters::AgentCounters;
use crate::daemon::index::{KEPT, KeptIndex};
use crate::daemon::pace::Pace;
use crate::daemon::socket_file::SocketFile;
use crate::events::EventLog;
use crate::kernel::attached::Attached;
use crate::kernel::cgroup::Lineages;
use crate::kernel::connections::Connections;
use crate::kernel::follow::Follow;
use crate::kernel::netns::Namespaces;
use crate::kernel::overrides::Overrides;
use crate::kernel::pins::Pins;
use crate::kernel::probes::Probes;
use crate::kernel::settings::Settings;
use crate::kernel::walk::Walker;
use crate::kernel::{KernelError, Result};
use crate::model::expiry::connections::Input;
use crate::model::requests::index::Index;
use crate::model::rules::in_force::InForce;

/// The most requests that read the whole map at a time, of those who may do everything, and of all others; more wait.
const SCANS: [usize; 2] = [2, 1];

/// Shared between the loop, its jobs and the requests.
pub(crate) struct Shared {
    pub(crate) connections: Connections,
    pub(crate) overrides: Overrides,
    pub(crate) probes: Probes,
    pub(crate) settings: Settings,
    pub(crate) namespaces: Namespaces,
    pub(crate) walker: Walker,
    pub(crate) attached: Attached,
    pub(crate) facts: Facts,
    pub(crate) socket_file: SocketFile,
    pub(crate) event_log: Arc<EventLog>,
    pub(crate) lineages: Lineages,
    pub(crate) counters: AgentCounters,
    pub(crate) pace: Mutex<Pace>,
    in_force: RwLock<Arc<InForce>>,
    /// Sentences about what this kernel lacks or cannot do.
    limitations: RwLock<Vec<String>>,
    /// Sentences about what the last adoption left out, and why.
    left_out: RwLock<Vec<String>>,
    /// Sentences about programs of others that run for the same sockets.
    neighbours: RwLock<Vec<String>>,
    /// Sentences about what was taken from the agent and could not be put back.
    amiss: RwLock<Vec<String>>,
    /// The serial that the last override got.
    override_serial: AtomicU32,
    index: KeptIndex,
    /// Bounds how much of the CPU callers can spend on reading the whole map.
    scans: [Arc<Semaphore>; 2],
}

/// Facts that do not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) started: Timestamp,
    pub(crate) kernel: String,
    /// The root of the cgroup2 hierarchy.
    pub(crate) cgroup_mount: PathBuf,
    /// The directory that the program is attached to.
    pub(crate) cgroup: PathBuf,
    pub(crate) pins: PathBuf,
    /// The agent's socket.
    pub(crate) socket: PathBuf,
    /// True if what is open already is taken in.
    pub(crate) adopts: bool,
    pub(crate) resumed: bool,
    /// The way in which adopted connections are followed.
    pub(crate) follow: Follow,
    pub(crate) max_connections: u32,
    pub(crate) rules_file: Option<PathBuf>,
    /// True if the kernel frees a socket that is destroyed when no program has it any more (Linux 6.11).
    pub(crate) can_destroy_orphans: bool,
}

impl Shared {
    /// Opens the pinned maps.
    pub(crate) fn open(
        pins: &Pins,
        namespaces: Namespaces,
        walker: Walker,
        attached: Attached,
        facts: Facts,
    ) -> Result<Self> {
        // Before 1970 there was no tcpops.
        let first_seq = u64::try_from(facts.started.as_microsecond()).unwrap_or(0);
        Ok(Self {
            lineages: Lineages::new(facts.cgroup_mount.clone()),
            counters: AgentCounters::default(),
            pace: Mutex::default(),
            event_log: Arc::new(EventLog::new(first_seq)),
            connections: Connections::open(pins)?,
            overrides: Overrides::open(pins)?,
            probes: Probes::open(pins)?,
            settings: Settings::open(pins)?,
            namespaces,
            walker,
            attached,
            socket_file: SocketFile::new(facts.socket.clone()),
            facts,
            limitations: RwLock::default(),
            in_force: RwLock::default(),
            left_out: RwLock::default(),
            neighbours: RwLock::default(),
            amiss: RwLock::default(),
            override_serial: AtomicU32::default(),
            index: KeptIndex::default(),
            scans: SCANS.map(|scans| Arc::new(Semaphore::new(scans))),
        })
    }

    /// The number of the next override, from 1, by which a walk knows what it has applied.
    pub(crate) fn next_override_serial(&self) -> u32 {
        let next = |last: u32| last.wrapping_add(1).max(1);
        let last = self.override_serial.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }

    /// Serials go on after this one, which an earlier agent gave.
    pub(crate) fn set_last_override_serial(&self, last: u32) {
        self.override_serial.store(last, Ordering::Relaxed);
    }

    /// Sentences about what this kernel lacks or cannot do, and about what was left out.
    pub(crate) fn limitations(&self) -> Vec<String> {
        let mut all = self.limitations.read().clone();
        all.extend_from_slice(&self.left_out.read());
        all.extend_from_slice(&self.neighbours.read());
        all.extend_from_slice(&self.amiss.read());
        all
    }

    /// Sentences about what was taken from the agent and could not be put back; it is ready where there are none.
    pub(crate) fn amiss(&self) -> Vec<String> {
        self.amiss.read().clone()
    }

    /// Replaces what is known of programs of others; returns what is new.
    pub(crate) fn set_neighbours(&self, found: Vec<String>) -> Vec<String> {
        replace(&self.neighbours, found)
    }

    /// Replaces what is amiss; returns what is new.
    pub(crate) fn set_amiss(&self, found: Vec<String>) -> Vec<String> {
        replace(&self.amiss, found)
    }

    pub(crate) fn add_limitations(&self, found: Vec<String>) {
        self.limitations.write().extend(found);
    }

    /// Replaces what the adoption before left out.
    pub(crate) fn set_left_out(&self, found: Vec<String>) {
        *self.left_out.write() = found;
    }

    /// The rules in force: their names, and what they say about closing.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read())
    }

    pub(crate) fn set_in_force(&self, in_force: InForce) {
        self.event_log.learn_names(in_force.names());
        *self.in_force.write() = Arc::new(in_force);
    }

    /// What the model is to know of the rules in force.
    pub(crate) fn rules_changed(&self) -> Input {
        let in_force = self.in_force();
        Input::RulesChanged { guard: in_force.guard().clone(), shortest_untold_ns: in_force.shortest_untold_ns() }
    }

    /// Reads the index of connections. Blocks. Within a tokio runtime.
    pub(crate) fn read_index<T>(shared: &Arc<Self>, read: impl FnOnce(&Index) -> T) -> Result<T> {
        let begun = || {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(KEPT).await;
                    let shared = Arc::clone(&shared);
                    // Off the loop, which must not wait for a reading of the map.
                    if blocking(move || Ok(shared.index.drop_if_unused())).await.unwrap_or(true) {
                        return;
                    }
                }
            });
        };
        shared.index.read(&shared.connections, begun, read)
    }

    /// True while there is an index of connections.
    pub(crate) fn has_index(&self) -> bool {
        self.index.is_there()
    }

    /// Hands every connection to `visit`, until that answers false, together with `state`, which comes back. A connection
    /// that the map moves meanwhile may be visited twice. Half a microsecond an entry, off the loop; a few at a time, those
    /// of callers who may do everything apart from others.
    pub(crate) async fn fold<T: Send + 'static>(
        shared: &Arc<Self>,
        privileged: bool,
        mut state: T,
        mut visit: impl FnMut(&mut T, ConnKey, &Connection) -> bool + Send + 'static,
    ) -> Result<T> {
        Self::scanning(shared, privileged, move |shared| {
            shared
                .connections
                .for_each_batch(|batch| batch.iter().all(|(key, connection)| visit(&mut state, *key, connection)))?;
            Ok(state)
        })
        .await
    }

    /// Runs something that may read the whole map, off the loop; a few at a time, likewise.
    pub(crate) async fn scanning<T: Send + 'static>(
        shared: &Arc<Self>,
        privileged: bool,
        action: impl FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let scanning = Arc::clone(&shared.scans[usize::from(!privileged)]).acquire_owned().await;
        let shared = Arc::clone(shared);
        blocking(move || {
            let _until_done = scanning;
            action(&shared)
        })
        .await
    }
}

/// Replaces sentences; returns those that were not among them.
fn replace(sentences: &RwLock<Vec<String>>, found: Vec<String>) -> Vec<String> {
    let mut sentences = sentences.write();
    let new = found.iter().filter(|sentence| !sentences.contains(sentence)).cloned().collect();
    *sentences = found;
    new
}

/// Runs something that blocks, off the loop.
pub(crate) async fn blocking<T: Send + 'static>(action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(action).await.unwrap_or_else(|error| Err(KernelError::Task(error)))
}

/// Sends an answer; a caller that has gone does not wait for it.
pub(crate) fn reply<T>(answer: oneshot::Sender<T>, value: T) {
    let _gone = answer.send(value);
}
