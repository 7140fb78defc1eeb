//! What runs off the loop: one job of each kind at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Direction};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::api::problem::Problem;
use crate::api::rules_result::RulesResult;
use crate::daemon::expiry::close::{self, CloseAttempt};
use crate::daemon::expiry::inspect;
use crate::daemon::policy::overrides::{self, Pending, Walked};
use crate::daemon::shared::Shared;
use crate::daemon::walks::adopt::adopt;
use crate::daemon::walks::reevaluate::reevaluate;
use crate::daemon::walks::sweep::sweep;
use crate::kernel::Result;
use crate::kernel::clock::now_boot_ns;
use crate::model::expiry::connections::Known;
use crate::model::expiry::enforcer::{CloseOrder, Inspection};
use crate::model::expiry::lifetimes::{Candidate, judge};

/// The jobs that run, and those that wait. The queues are bounded by the number of tracked connections: each is in a
/// queue once for each reason to look at it.
#[derive(Default)]
pub(crate) struct Jobs {
    to_inspect: VecDeque<ConnKey>,
    to_close: VecDeque<CloseOrder>,
    to_walk: Option<Vec<Pending>>,
    to_resync: bool,
    to_reevaluate: Vec<RulesAnswer>,
    to_adopt: bool,
    to_sweep: bool,
    to_judge: bool,
    inspecting: Job<Vec<(ConnKey, Option<Inspection>)>>,
    closing: Job<Vec<CloseAttempt>>,
    walking: Job<(Walked, Vec<Pending>)>,
    resyncing: Job<Result<Vec<Known>>>,
    reevaluating: Job<(Result<u64>, Vec<RulesAnswer>)>,
    adopting: Job<Result<u64>>,
    sweeping: Job<Result<usize>>,
    judging: Job<Result<Vec<Known>>>,
}

/// Who waits for other rules to be in force on every connection, and what the answer is so far; nobody after SIGHUP.
pub(crate) type RulesAnswer = (RulesResult, Option<oneshot::Sender<Result<RulesResult, Problem>>>);

/// A job that ended.
pub(crate) enum Done {
    Inspected(Vec<(ConnKey, Option<Inspection>)>),
    Closed(Vec<CloseAttempt>),
    Walked(Walked, Vec<Pending>),
    Resynced(Result<Vec<Known>>),
    /// How many connections changed, and who waits for it.
    Reevaluated(Result<u64>, Vec<RulesAnswer>),
    /// How many connections were taken in.
    Adopted(Result<u64>),
    /// How many entries were removed.
    Swept(Result<usize>),
    /// What is known of every connection by the rules in force.
    Judged(Result<Vec<Known>>),
}

struct Job<T>(Option<JoinHandle<T>>);

impl<T> Default for Job<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Job<T> {
    fn start(&mut self, work: impl FnOnce() -> T + Send + 'static) {
        self.0 = Some(spawn_blocking(work));
    }

    fn runs(&self) -> bool {
        self.0.is_some()
    }

    /// Its result when it ends; never, if it does not run. Safe to abandon and call again.
    async fn ended(&mut self) -> T {
        let Some(handle) = &mut self.0 else { return std::future::pending().await };
        let result = handle.await;
        self.0 = None;
        match result {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Jobs {
    pub(crate) fn inspect(&mut self, key: ConnKey) {
        self.to_inspect.push_back(key);
    }

    pub(crate) fn close(&mut self, order: CloseOrder) {
        self.to_close.push_back(order);
    }

    pub(crate) fn walk(&mut self, pending: Vec<Pending>) {
        self.to_walk = Some(pending);
    }

    pub(crate) fn walking(&self) -> bool {
        self.walking.runs() || self.to_walk.is_some()
    }

    pub(crate) fn resync(&mut self) {
        self.to_resync = true;
    }

    /// Judges every connection anew, and then answers.
    pub(crate) fn reevaluate(&mut self, answer: RulesAnswer) {
        self.to_reevaluate.push(answer);
    }

    /// Takes in what has no entry.
    pub(crate) fn adopt(&mut self) {
        self.to_adopt = true;
    }

    /// Removes entries that no socket has any more.
    pub(crate) fn sweep(&mut self) {
        self.to_sweep = true;
    }

    pub(crate) fn resyncing(&self) -> bool {
        self.to_resync || self.resyncing.runs()
    }

    /// Looks at the limits of every connection by what the rules in force say about closing, which is not in the entries.
    pub(crate) fn judge(&mut self) {
        self.to_judge = true;
    }

    /// Whether that was done since every connection has its policy by the rules in force.
    pub(crate) fn settled(&self) -> bool {
        let reevaluated = self.to_reevaluate.is_empty() && !self.reevaluating.runs();
        reevaluated && !self.to_judge && !self.judging.runs()
    }

    /// Starts what waits, where nothing of its kind runs.
    pub(crate) fn start(&mut self, shared: &Arc<Shared>) {
        if !self.inspecting.runs() && !self.to_inspect.is_empty() {
            let keys: Vec<_> = self.to_inspect.drain(..inspect::BATCH.min(self.to_inspect.len())).collect();
            let shared = Arc::clone(shared);
            self.inspecting.start(move || inspect::inspect(&shared, &keys));
        }
        if !self.closing.runs() && !self.to_close.is_empty() {
            let orders: Vec<_> = self.to_close.drain(..close::BATCH.min(self.to_close.len())).collect();
            let shared = Arc::clone(shared);
            self.closing.start(move || close::close(&shared, orders));
        }
        if let Some(pending) = self.to_walk.take() {
            let shared = Arc::clone(shared);
            self.walking.start(move || (overrides::walk(&shared, &pending), pending));
        }
        if !self.reevaluating.runs() && !self.to_reevaluate.is_empty() {
            let answers = std::mem::take(&mut self.to_reevaluate);
            let shared = Arc::clone(shared);
            self.reevaluating.start(move || (reevaluate(&shared), answers));
        }
        if self.to_adopt && !self.adopting.runs() {
            self.to_adopt = false;
            let shared = Arc::clone(shared);
            self.adopting.start(move || adopt(&shared));
        }
        if self.to_sweep && !self.sweeping.runs() {
            self.to_sweep = false;
            let shared = Arc::clone(shared);
            self.sweeping.start(move || sweep(&shared));
        }
        if self.to_judge && !self.judging.runs() {
            self.to_judge = false;
            let shared = Arc::clone(shared);
            self.judging.start(move || everything(&shared).map(|(all, _)| all));
        }
        if self.to_resync && !self.resyncing.runs() {
            self.to_resync = false;
            let shared = Arc::clone(shared);
            self.resyncing.start(move || everything(&shared).map(|(all, _)| all));
        }
    }

    /// The next job that ends.
    pub(crate) async fn next(&mut self) -> Done {
        tokio::select! {
            inspected = self.inspecting.ended() => Done::Inspected(inspected),
            closed = self.closing.ended() => Done::Closed(closed),
            (walked, pending) = self.walking.ended() => Done::Walked(walked, pending),
            all = self.resyncing.ended() => Done::Resynced(all),
            (changed, answers) = self.reevaluating.ended() => Done::Reevaluated(changed, answers),
            adopted = self.adopting.ended() => Done::Adopted(adopted),
            swept = self.sweeping.ended() => Done::Swept(swept),
            all = self.judging.ended() => Done::Judged(all),
        }
    }
}

/// Reads all connections, and the highest number of a push that was applied to one. Blocks.
pub(crate) fn everything(shared: &Shared) -> Result<(Vec<Known>, u32)> {
    let in_force = shared.in_force();
    let mut all = Vec::new();
    let mut serial = 0;
    shared.connections.for_each_batch(|batch| {
        let now_boot_ns = now_boot_ns();
        for (key, connection) in batch {
            let candidate = Candidate::of(*key, connection, in_force.closing(connection.rule));
            all.push(Known {
                key: *key,
                listens: connection.direction == Direction::Listen,
                verdict: candidate.map(|candidate| judge(&candidate, None, now_boot_ns)),
            });
            serial = serial.max(connection.policy.serial);
        }
        true
    })?;
    Ok((all, serial))
}
