//! Adoption: taking in the connections that were open before.
//!
//! A walk does it, not a list: the socket is locked in the walk as it is at a handshake, so whichever comes first makes the
//! one entry. The walk meets listeners first, and so knows which connections are inbound. Nobody knows when the handshake
//! was: times begin with the adoption. Only sockets at or below the attached cgroup are taken in, since the sockops program
//! would not see the end of others.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use tcpops_common::counters::Counter;

use crate::daemon::jobs::Job;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::netns::Unreachable;
use crate::kernel::{KernelError, Result};
use crate::model::adopt_backoff::{AdoptBackoff, Attempt};

/// Takes in what was left out, as soon as there is room and enough time has passed; nothing where nothing is adopted.
pub(crate) struct Adoption {
    backoff: Option<AdoptBackoff>,
    /// How many had been left out at the last look.
    left_out: u64,
    pub(crate) job: Job<(), Result<u64>>,
}

impl Adoption {
    /// Starts after the adoption at the start, with `left_out` as it was before that; `None` if nothing is to be adopted.
    pub(crate) fn new(left_out: Option<u64>) -> Self {
        let backoff = left_out.map(|left_out| AdoptBackoff::new(now_boot_ns(), left_out));
        Self { backoff, left_out: left_out.unwrap_or(0), job: Job::new(|shared, _wishes| adopt(shared)) }
    }

    /// Looks whether more connections were left out; true if so.
    pub(crate) fn note(&mut self, shared: &Shared) -> Result<bool> {
        let left_out = left_out(shared)?;
        if let Some(backoff) = &mut self.backoff {
            backoff.note(left_out);
        }
        Ok(std::mem::replace(&mut self.left_out, left_out) != left_out)
    }

    /// True if something was left out: then the end of a connection may make room for it.
    pub(crate) fn is_waiting(&self) -> bool {
        self.backoff.as_ref().is_some_and(AdoptBackoff::is_waiting)
    }

    /// Has what was left out taken in, where it is time; or says when to ask again.
    pub(crate) fn attempt(&mut self, shared: &Shared) -> Result<Option<u64>> {
        let Some(backoff) = self.backoff.as_mut().filter(|backoff| backoff.is_waiting()) else { return Ok(None) };
        let has_room = shared.settings.tracked()? < u64::from(shared.facts.max_connections);
        Ok(match backoff.attempt(now_boot_ns(), has_room) {
            Attempt::None => None,
            Attempt::At(at_boot_ns) => Some(at_boot_ns),
            Attempt::Now => {
                backoff.begin();
                self.job.want(());
                None
            }
        })
    }

    /// Has every namespace walked over, whether or not something was left out: to take in what came unseen, or
    /// what the rules had left untracked, and to see to the states of what is there.
    pub(crate) fn want_at_once(&mut self) {
        if let Some(backoff) = &mut self.backoff {
            backoff.begin();
        }
        self.job.want(());
    }

    /// Notes that the walks are over, and how many connections they took in.
    pub(crate) fn finish(&mut self, shared: &Shared, adopted: u64) -> Result<()> {
        let _more = self.note(shared)?;
        if let Some(backoff) = &mut self.backoff {
            backoff.end(now_boot_ns(), adopted);
        }
        Ok(())
    }
}

/// Walks over every namespace and takes in the sockets that have no entry; returns how many. What could not be done,
/// `status` says until the next time. Blocks.
pub(crate) fn adopt(shared: &Shared) -> Result<u64> {
    let before = shared.settings.counter(Counter::Adopted)?;
    let failed = shared.settings.counter(Counter::AdoptFailed)?;
    let refused = shared.settings.counter(Counter::CallbackFailed)?;
    let mut limitations = Vec::new();
    let namespaces = shared.namespaces.all();
    for Unreachable { whereabouts, why } in shared.namespaces.unreachable() {
        tracing::warn!(?whereabouts, %why, "cannot enter a network namespace; what is open there is not tracked");
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

/// The number of connections that have found no room so far, at their handshake or in a walk.
pub(crate) fn left_out(shared: &Shared) -> Result<u64> {
    Ok(shared.settings.counter(Counter::Untracked)? + shared.settings.counter(Counter::AdoptFailed)?)
}

/// The id of the cgroup that the program is attached to; zero at the root, where every socket is in scope. Where nothing is
/// to be adopted, an id that no cgroup has: a walk then sees to those only that have an entry.
fn scope(shared: &Shared) -> Result<u64> {
    if !shared.facts.adopts {
        return Ok(u64::MAX);
    }
    let cgroup = &shared.facts.cgroup;
    if *cgroup == shared.facts.cgroup_mount {
        return Ok(0);
    }
    let metadata = fs::metadata(cgroup).map_err(KernelError::syscall("stat", cgroup.display()))?;
    Ok(metadata.ino())
}
