//! How far an agent is that starts, for whoever asks meanwhile.

use std::sync::{Arc, OnceLock};

use tcpops_common::counters::Counter;

use crate::api::problem::{Code, Problem};
use crate::daemon::shared::Shared;

/// How far the start is.
#[derive(Default)]
pub(crate) struct Progress(OnceLock<Adopting>);

/// Open connections are taken in.
struct Adopting {
    shared: Arc<Shared>,
    /// How many had been taken in before that, by earlier agents.
    adopted_before: u64,
}

impl Progress {
    /// The programs are loaded and attached; what is open is taken in from here on.
    pub(crate) fn adopting(&self, shared: &Arc<Shared>) {
        let adopted_before = shared.settings.counter(Counter::Adopted).unwrap_or(0);
        let _is_once = self.0.set(Adopting { shared: Arc::clone(shared), adopted_before });
    }

    /// The answer to requests that do not wait for the end of the start.
    pub(crate) fn problem(&self) -> Problem {
        let what = match self.0.get() {
            None => "loading the kernel programs".to_owned(),
            Some(Adopting { shared, adopted_before }) => {
                let adopted = shared.settings.counter(Counter::Adopted).unwrap_or(0).saturating_sub(*adopted_before);
                format!("taking in open connections, {adopted} so far")
            }
        };
        Problem::new(Code::Starting, format!("the agent is starting: {what}"))
    }
}
