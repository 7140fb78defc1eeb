//! Removing the entries of connections that ended unseen, since the program was detached by somebody else: the cgroup was
//! removed, or `bpftool link detach`.

use std::collections::HashMap;

use tcpops_common::conn::{ConnKey, Direction};
use tcpops_common::counters::Counter;

use crate::daemon::diags::Diags;
use crate::daemon::jobs::Job;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::diag::{Diag, Kind};
use crate::model::history::record::{Happened, Identity, What};

/// The sockets of a namespace are listed this often: a list can leave one out while others come and go.
const LISTS: u32 = 2;

/// The conids of a namespace's entries, by cookie.
type Suspects = HashMap<u64, u64>;

/// The least time between two sweeps: callers can cause them.
const INTERVAL_NS: u64 = 10_000_000_000;

/// Sweeps where somebody came upon an entry without a socket.
pub(crate) struct Sweeper {
    last_boot_ns: u64,
    pub(crate) job: Job<(), Result<usize>>,
}

impl Sweeper {
    pub(crate) fn new() -> Self {
        Self { last_boot_ns: 0, job: Job::new(|shared, _wishes| sweep(shared)) }
    }

    /// Asks for a sweep, unless the last one was a moment ago.
    pub(crate) fn want(&mut self) {
        let now_boot_ns = now_boot_ns();
        if now_boot_ns.saturating_sub(self.last_boot_ns) >= INTERVAL_NS {
            self.last_boot_ns = now_boot_ns;
            self.job.want(());
        }
    }
}

/// Compares all entries with the sockets of each namespace that can be entered, and removes those that have none. Blocks.
/// Returns how many.
///
/// # Errors
/// Fails if the maps cannot be read; a namespace that cannot be entered is logged, and its entries stay.
pub(crate) fn sweep(shared: &Shared) -> Result<usize> {
    let mut namespaces: HashMap<u64, Suspects> = HashMap::new();
    shared.connections.for_each_batch(|batch| {
        for (key, connection) in batch {
            namespaces.entry(connection.netns_cookie).or_default().insert(key.cookie, key.conid);
        }
        true
    })?;
    let mut removed = 0;
    for (netns_cookie, suspects) in namespaces {
        match sweep_namespace(shared, netns_cookie, suspects) {
            Ok(count) => removed += count,
            Err(error) => {
                let error = refusal::chain(&error);
                tracing::warn!(netns_cookie, error, "entries there cannot be compared with the sockets");
            }
        }
    }
    if removed > 0 {
        tracing::warn!(removed, "connections ended unseen: the program was detached meanwhile");
    }
    Ok(removed)
}

fn sweep_namespace(shared: &Shared, netns_cookie: u64, mut suspects: Suspects) -> Result<usize> {
    let diag = Diag::open(&shared.namespaces.find(netns_cookie)?)?;
    for _ in 0..LISTS {
        diag.each_cookie(Kind::All, |cookie| {
            suspects.remove(&cookie);
        })?;
    }
    let mut removed = 0;
    for (cookie, conid) in suspects {
        let key = ConnKey { cookie, conid };
        // The last word has the kernel's own look-up; and what ended while the lists were made has no entry any more.
        let Some(connection) = shared.connections.get(key)? else { continue };
        if Diags::new(shared).info(key, &connection)?.is_none() {
            shared.overrides.remove(key)?;
            shared.connections.remove(key)?;
            shared.settings.add(Counter::Swept, 1)?;
            if connection.direction == Direction::Listen {
                shared.settings.add(Counter::ListenersSwept, 1)?;
            }
            let vanished = Happened::Vanished(connection.state);
            shared.event_log.publish(now_boot_ns(), What::Of(Identity::of(key, &connection), vanished));
            removed += 1;
        }
    }
    Ok(removed)
}
