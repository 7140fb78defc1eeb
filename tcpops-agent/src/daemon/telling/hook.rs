//! The hook: a program that is run with each event of some types. It has a thread of its own, since starting programs takes
//! time that the loop has not.

mod run;

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::run::{Ended, run};
use crate::clocks::Clocks;
use crate::config::HookConfig;
use crate::convert::events::event;
use crate::daemon::counters::AgentCounter;
use crate::daemon::shared::{Shared, blocking};
use crate::events::{Reader, Start};
use crate::model::history::record::{Record, What};

/// Events that wait for a program to end; what comes beyond is dropped for the hook, and counted.
const QUEUE: usize = 1024;

/// The hook while it runs.
pub(crate) struct Hook {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Hook {
    /// Checks that the program can be run.
    ///
    /// # Errors
    /// Says what was expected of it.
    pub(crate) fn check(config: &HookConfig) -> anyhow::Result<()> {
        let shown = config.program.display();
        anyhow::ensure!(config.program.is_absolute(), "the hook: expected an absolute path, found {shown}");
        let metadata =
            fs::metadata(&config.program).map_err(|error| anyhow::anyhow!("cannot run the hook {shown}: {error}"))?;
        anyhow::ensure!(
            metadata.is_file() && metadata.permissions().mode() & 0o111 != 0,
            "cannot run the hook {shown}: expected an executable file"
        );
        Ok(())
    }

    /// Runs the program with every event from now on that it is for.
    pub(crate) fn start(config: HookConfig, socket: &Path, shared: Arc<Shared>) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let reader = shared.event_log.read_from(Start::Now, None);
        let socket = Arc::from(socket);
        let thread = std::thread::Builder::new().name("hook".to_owned()).spawn(move || {
            let queue = Queue { config: Arc::new(config), socket, shared, waiting: VecDeque::new(), dropped: 0 };
            runtime.block_on(queue.serve(reader, &stopping));
        })?;
        Ok(Self { stop, thread })
    }

    /// Kills the programs that run, and ends.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let joined = blocking(move || Ok(self.thread.join().is_ok())).await;
        if !matches!(joined, Ok(true)) {
            tracing::error!("the hook's thread failed");
        }
    }
}

/// The events that the hook is for.
struct Queue {
    config: Arc<HookConfig>,
    /// The agent's socket, which the program may ask.
    socket: Arc<Path>,
    shared: Arc<Shared>,
    waiting: VecDeque<Record>,
    /// The number dropped since the queue was last full.
    dropped: u64,
}

impl Queue {
    async fn serve(mut self, mut reader: Reader, stop: &CancellationToken) {
        let mut running = JoinSet::new();
        let mut records = Vec::new();
        loop {
            while running.len() < self.config.max_running {
                let Some(record) = self.waiting.pop_front() else { break };
                running.spawn(run(Arc::clone(&self.config), Arc::clone(&self.socket), self.line(&record)));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = running.join_next() => self.ended(ended.unwrap_or(Ended::Failed)),
                more = reader.more() => {
                    if !more {
                        break;
                    }
                    reader.take(Clocks::read().boot_ns, &mut records);
                    records.drain(..).for_each(|record| self.take(record));
                }
            }
        }
        // The programs that run are killed with the set.
        running.shutdown().await;
    }

    fn take(&mut self, record: Record) {
        if let What::Lost(Some(count), _) = record.what {
            self.dropped(count);
        }
        if !self.config.kinds.has(record.what.kind()) {
            return;
        }
        if self.waiting.len() < QUEUE {
            self.waiting.push_back(record);
        } else {
            self.dropped(1);
        }
    }

    fn dropped(&mut self, count: u64) {
        if self.dropped == 0 {
            tracing::warn!(target: "tcpops::hook", waiting = self.waiting.len(), "the hook is too slow: events are dropped for it");
        }
        self.dropped += count;
        self.shared.counters.add_many(AgentCounter::HookDropped, count);
    }

    fn ended(&mut self, ended: Ended) {
        self.shared.counters.add(match ended {
            Ended::Done => AgentCounter::HookDone,
            Ended::Failed => AgentCounter::HookFailed,
            Ended::Killed => AgentCounter::HookKilled,
        });
        if self.waiting.is_empty() && self.dropped > 0 {
            tracing::warn!(target: "tcpops::hook", dropped = self.dropped, "the hook has caught up");
            self.dropped = 0;
        }
    }

    /// The event as a line of JSON.
    fn line(&self, record: &Record) -> Vec<u8> {
        let event = event(record, &self.shared.event_log.names(), Clocks::read());
        let mut line = serde_json::to_vec(&event).expect("an event has no map with keys that JSON lacks");
        line.push(b'\n');
        line
    }
}
