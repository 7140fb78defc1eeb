//! Work that blocks runs off the loop: one piece of each kind at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::daemon::shared::Shared;

/// One kind of work. What is wanted while a piece runs waits for the next piece, and many wishes share one piece.
///
/// The queue has no bound of its own: connections are in it once for each reason to look at them, and requests are bounded
/// by the number of clients.
pub(crate) struct Job<I, T> {
    /// Does the work for some items; the file of its road says what.
    run: fn(&Arc<Shared>, Vec<I>) -> T,
    /// The most items of one piece.
    batch: usize,
    wanted: VecDeque<I>,
    running: Option<JoinHandle<T>>,
}

impl<I: Send + 'static, T: Send + 'static> Job<I, T> {
    /// A kind of work that takes all that is wanted in one piece.
    pub(crate) fn new(run: fn(&Arc<Shared>, Vec<I>) -> T) -> Self {
        Self::in_batches(usize::MAX, run)
    }

    /// A kind of work that takes up to `batch` items in one piece.
    pub(crate) fn in_batches(batch: usize, run: fn(&Arc<Shared>, Vec<I>) -> T) -> Self {
        Self { run, batch, wanted: VecDeque::new(), running: None }
    }

    /// Asks for an item to be worked on.
    pub(crate) fn want(&mut self, item: I) {
        self.wanted.push_back(item);
    }

    /// True if nothing is wanted and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.running.is_none()
    }

    /// Starts what is wanted, unless a piece of this kind runs.
    pub(crate) fn start(&mut self, shared: &Arc<Shared>) {
        if self.running.is_none() && !self.wanted.is_empty() {
            let items = self.wanted.drain(..self.batch.min(self.wanted.len())).collect();
            let (run, shared) = (self.run, Arc::clone(shared));
            self.running = Some(spawn_blocking(move || run(&shared, items)));
        }
    }

    /// The result of the piece that runs, when it ends; waits for ever where none runs. Cancel safe.
    pub(crate) async fn finished(&mut self) -> T {
        let Some(handle) = &mut self.running else { return std::future::pending().await };
        let result = handle.await;
        self.running = None;
        match result {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
