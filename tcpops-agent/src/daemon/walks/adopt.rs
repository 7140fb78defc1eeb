//! Taking in the connections that were open before.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use tcpops_common::counters::Counter;

use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::netns::Unreachable;
use crate::kernel::{KernelError, Result};

/// Walks over every namespace and takes in the sockets that have no entry; returns how many. What could not be done,
/// `status` says until the next time. Blocks.
pub(crate) fn adopt(shared: &Shared) -> Result<u64> {
    let before = shared.settings.counter(Counter::Adopted)?;
    let failed = shared.settings.counter(Counter::AdoptFailed)?;
    let refused = shared.settings.counter(Counter::CallbackFailed)?;
    let mut limitations = Vec::new();
    let namespaces = shared.namespaces.all();
    for Unreachable { whereabouts, why } in shared.namespaces.unreachable() {
        tracing::warn!(?whereabouts, why, "cannot enter a network namespace; what is open there is not tracked");
    }
    shared.settings.set_adopting(Some(scope(shared)?))?;
    for namespace in &namespaces {
        if let Err(error) = shared.walker.walk_all(namespace) {
            limitations.push(format!(
                "connections that were open in the network namespace with cookie {} are not tracked: {}",
                namespace.cookie,
                refusal::chain(&error)
            ));
        }
    }
    shared.settings.set_adopting(None)?;
    if shared.settings.counter(Counter::CallbackFailed)? != refused {
        limitations.push(
            "some connections that were open before are not tracked: their state callbacks could not be turned on"
                .to_owned(),
        );
    }
    if shared.settings.counter(Counter::AdoptFailed)? != failed {
        limitations.push(
            "some connections that were open before are not tracked: the maps are full; raise --max-connections after \
             `tcpops detach`"
                .to_owned(),
        );
    }
    let adopted = shared.settings.counter(Counter::Adopted)? - before;
    tracing::info!(adopted, namespaces = namespaces.len(), "took in what was open");
    shared.set_left_out(limitations);
    Ok(adopted)
}

/// How many connections have found no room so far, at their handshake or in a walk.
pub(crate) fn left_out(shared: &Shared) -> Result<u64> {
    Ok(shared.settings.counter(Counter::Untracked)? + shared.settings.counter(Counter::AdoptFailed)?)
}

/// The id of the cgroup that the program is attached to; zero at the root, where every socket is in scope.
fn scope(shared: &Shared) -> Result<u64> {
    let cgroup = &shared.facts.cgroup;
    if *cgroup == shared.facts.cgroup_mount {
        return Ok(0);
    }
    let metadata = fs::metadata(cgroup)
        .map_err(|error| KernelError::Missing(format!("cannot look at {}: {error}", cgroup.display())))?;
    Ok(metadata.ino())
}
