//! Judging every connection anew after the rules have changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use tcpops_common::counters::Counter;
use tokio::sync::oneshot;

use crate::api::problem::Problem;
use crate::api::rules_result::RulesResult;
use crate::daemon::refusal;
use crate::daemon::shared::{Shared, reply};
use crate::kernel::Result as KernelResult;

/// Who waits for other rules to be in force on every connection, and what the answer is so far; nobody after SIGHUP.
pub(crate) type RulesAnswer = (RulesResult, Option<oneshot::Sender<Result<RulesResult, Problem>>>);

/// As [`reevaluate`], for all that wait.
pub(crate) fn run(shared: &Arc<Shared>, answers: Vec<RulesAnswer>) -> KernelResult<()> {
    let changed = reevaluate(shared)?;
    tracing::info!(changed, "connections judged anew by the rules");
    for (result, answer) in answers {
        if let Some(answer) = answer {
            reply(answer, Ok(RulesResult { changed, ..result }));
        }
    }
    Ok(())
}

/// Walks over every namespace with a connection. Blocks. Returns how many connections changed.
///
/// # Errors
/// Fails if the maps cannot be read; a namespace that cannot be entered is logged, and its connections stay as they are.
pub(crate) fn reevaluate(shared: &Shared) -> KernelResult<u64> {
    let before = shared.settings.counter(Counter::Reevaluated)?;
    let mut namespaces = BTreeSet::new();
    shared.connections.for_each_batch(|batch| {
        namespaces.extend(batch.iter().map(|(_, connection)| connection.netns_cookie));
        true
    })?;
    shared.settings.set_reevaluating(true)?;
    for cookie in namespaces {
        let walked = shared.namespaces.find(cookie).and_then(|namespace| shared.walker.walk_all(&namespace));
        if let Err(error) = walked {
            let error = refusal::chain(&error);
            tracing::warn!(netns_cookie = cookie, error, "connections there keep the policy that they had");
        }
    }
    shared.settings.set_reevaluating(false)?;
    Ok(shared.settings.counter(Counter::Reevaluated)? - before)
}
