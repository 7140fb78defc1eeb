//! Judging every connection anew after the rules have changed.

use std::collections::BTreeSet;

use tcpops_common::counters::Counter;

use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::Result;

/// Walks over every namespace with a connection. Blocks. Returns how many connections changed.
///
/// # Errors
/// Where the maps cannot be read; a namespace that cannot be entered is logged, and its connections stay as they are.
pub(crate) fn reevaluate(shared: &Shared) -> Result<u64> {
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
