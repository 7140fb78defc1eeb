//! What runs off the loop: one job of each kind at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use tcpops_common::conn::ConnKey;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::close::{self, BATCH, Closing, Inspected};
use super::push::{self, Pending, Walked};
use super::reevaluate::reevaluate;
use super::shared::Shared;
use crate::api::problem::Problem;
use crate::api::rules_result::RulesResult;
use crate::kernel::Result;
use crate::model::connections::CloseReason;
use crate::model::lifetimes::Subject;

/// All connections, with what matters of those that have a lifetime.
pub(super) type Everything = Vec<(ConnKey, Option<Subject>)>;

/// The jobs that run, and those that wait. The queues are bounded by the number of tracked connections: each is in a
/// queue once for each reason to look at it.
#[derive(Default)]
pub(super) struct Jobs {
    to_inspect: VecDeque<(ConnKey, bool)>,
    to_close: VecDeque<(ConnKey, CloseReason)>,
    to_walk: Option<Vec<Pending>>,
    to_resync: bool,
    to_reevaluate: Vec<RulesAnswer>,
    inspecting: Job<Vec<Inspected>>,
    closing: Job<Vec<(ConnKey, CloseReason, Closing)>>,
    walking: Job<(Walked, Vec<Pending>)>,
    resyncing: Job<Result<Everything>>,
    reevaluating: Job<(Result<u64>, Vec<RulesAnswer>)>,
}

/// Who waits for other rules to be in force on every connection, and what the answer is so far; nobody after SIGHUP.
pub(super) type RulesAnswer = (RulesResult, Option<oneshot::Sender<Result<RulesResult, Problem>>>);

/// A job that ended.
pub(super) enum Done {
    Inspected(Vec<Inspected>),
    Closed(Vec<(ConnKey, CloseReason, Closing)>),
    Walked(Walked, Vec<Pending>),
    Resynced(Result<Everything>),
    /// How many connections changed, and who waits for it.
    Reevaluated(Result<u64>, Vec<RulesAnswer>),
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
    pub(super) fn inspect(&mut self, key: ConnKey, look: bool) {
        self.to_inspect.push_back((key, look));
    }

    pub(super) fn close(&mut self, key: ConnKey, reason: CloseReason) {
        self.to_close.push_back((key, reason));
    }

    pub(super) fn walk(&mut self, pending: Vec<Pending>) {
        self.to_walk = Some(pending);
    }

    pub(super) fn walking(&self) -> bool {
        self.walking.runs() || self.to_walk.is_some()
    }

    pub(super) fn resync(&mut self) {
        self.to_resync = true;
    }

    /// Judges every connection anew, and then answers.
    pub(super) fn reevaluate(&mut self, answer: RulesAnswer) {
        self.to_reevaluate.push(answer);
    }

    pub(super) fn resyncing(&self) -> bool {
        self.to_resync || self.resyncing.runs()
    }

    /// Starts what waits, where nothing of its kind runs.
    pub(super) fn start(&mut self, shared: &Arc<Shared>) {
        if !self.inspecting.runs() && !self.to_inspect.is_empty() {
            let keys: Vec<_> = self.to_inspect.drain(..BATCH.min(self.to_inspect.len())).collect();
            let shared = Arc::clone(shared);
            self.inspecting.start(move || close::inspect(&shared, &keys));
        }
        if !self.closing.runs() && !self.to_close.is_empty() {
            let targets: Vec<_> = self.to_close.drain(..BATCH.min(self.to_close.len())).collect();
            let shared = Arc::clone(shared);
            self.closing.start(move || close::close(&shared, targets));
        }
        if let Some(pending) = self.to_walk.take() {
            let shared = Arc::clone(shared);
            self.walking.start(move || (push::walk(&shared, &pending), pending));
        }
        if !self.reevaluating.runs() && !self.to_reevaluate.is_empty() {
            let answers = std::mem::take(&mut self.to_reevaluate);
            let shared = Arc::clone(shared);
            self.reevaluating.start(move || (reevaluate(&shared), answers));
        }
        if self.to_resync && !self.resyncing.runs() {
            self.to_resync = false;
            let shared = Arc::clone(shared);
            self.resyncing.start(move || everything(&shared).map(|(all, _)| all));
        }
    }

    /// The next job that ends.
    pub(super) async fn next(&mut self) -> Done {
        tokio::select! {
            inspected = self.inspecting.ended() => Done::Inspected(inspected),
            closed = self.closing.ended() => Done::Closed(closed),
            (walked, pending) = self.walking.ended() => Done::Walked(walked, pending),
            all = self.resyncing.ended() => Done::Resynced(all),
            (changed, answers) = self.reevaluating.ended() => Done::Reevaluated(changed, answers),
        }
    }
}

/// Reads all connections, and the highest number of a push that was applied to one. Blocks.
pub(super) fn everything(shared: &Shared) -> Result<(Everything, u32)> {
    let mut all = Vec::new();
    let mut serial = 0;
    shared.connections.for_each_batch(|batch| {
        for (key, connection) in batch {
            all.push((*key, Subject::of(*key, connection)));
            serial = serial.max(connection.policy.serial);
        }
        true
    })?;
    Ok((all, serial))
}
