//! Taking in the connections that were open before.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use tcpops_common::counters::Counter;

use super::refusal;
use super::shared::Shared;
use crate::kernel::{KernelError, Result};

/// How often each namespace is walked: below Linux 6.17 a walk can miss a socket while others come and go.
const WALKS: u32 = 2;

/// Walks over every namespace and takes in the sockets that have no entry. Blocks. Returns what could not be done, in
/// words for `status`.
pub(super) fn adopt(shared: &Shared) -> Result<Vec<String>> {
    let before = shared.switches.counter(Counter::Adopted)?;
    let failed = shared.switches.counter(Counter::AdoptFailed)?;
    let unsupported = shared.switches.counter(Counter::AdoptUnsupported)?;
    let (namespaces, mut limitations) = shared.namespaces.all();
    shared.switches.set_adopting(Some(scope(shared)?))?;
    for namespace in &namespaces {
        for _ in 0..WALKS {
            if let Err(error) = shared.walker.walk(namespace) {
                limitations.push(format!(
                    "connections that were open in the network namespace with cookie {} are not tracked: {}",
                    namespace.cookie,
                    refusal::chain(&error)
                ));
                break;
            }
        }
    }
    shared.switches.set_adopting(None)?;
    if shared.switches.counter(Counter::AdoptUnsupported)? != unsupported {
        limitations.push(
            "connections that were open before are not tracked: this kernel cannot turn on their state callbacks \
             (Linux 6.12 and later can)"
                .to_owned(),
        );
    }
    if shared.switches.counter(Counter::AdoptFailed)? != failed {
        limitations.push(
            "some connections that were open before are not tracked: the maps are full; raise --max-connections after \
             `tcpops detach`"
                .to_owned(),
        );
    }
    let adopted = shared.switches.counter(Counter::Adopted)? - before;
    tracing::info!(adopted, namespaces = namespaces.len(), "took in what was open");
    Ok(limitations)
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
