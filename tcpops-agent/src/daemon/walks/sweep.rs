//! Removing the entries of connections that ended unseen, since the program was detached by somebody else (the cgroup was
//! removed, or `bpftool link detach`), or since another program has turned off the callbacks of their sockets.

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
/// The longest time between two sweeps for room, reached when such sweeps find nothing.
const LONGEST_NS: u64 = 320_000_000_000;

/// Sweeps where somebody came upon an entry without a socket, or where there may be some.
pub(crate) struct Sweeper {
    last_boot_ns: u64,
    /// The least time to the next sweep for room.
    wait_ns: u64,
    due_boot_ns: Option<u64>,
    pub(crate) job: Job<(), Result<usize>>,
}

impl Sweeper {
    pub(crate) fn new() -> Self {
        Self {
            last_boot_ns: 0,
            wait_ns: INTERVAL_NS,
            due_boot_ns: None,
            job: Job::new(|shared, _wishes| sweep(shared)),
        }
    }

    /// Asks for a sweep, since there is an entry without a socket; a moment later if the last one was a moment ago.
    pub(crate) fn want(&mut self) {
        self.want_by(self.last_boot_ns.saturating_add(INTERVAL_NS));
    }

    /// Asks for a sweep, since the maps are full: ever later, as long as none makes room.
    pub(crate) fn want_room(&mut self) {
        self.want_by(self.last_boot_ns.saturating_add(self.wait_ns));
    }

    /// Asks for a sweep at once, since connections have ended unseen.
    pub(crate) fn want_at_once(&mut self) {
        self.want_by(0);
    }

    fn want_by(&mut self, due_boot_ns: u64) {
        self.due_boot_ns = Some(self.due_boot_ns.map_or(due_boot_ns, |due| due.min(due_boot_ns)));
    }

    /// Has the sweep done that is due; or says when to ask again.
    pub(crate) fn attempt(&mut self) -> Option<u64> {
        let now_boot_ns = now_boot_ns();
        let due = self.due_boot_ns?;
        if due > now_boot_ns {
            return Some(due);
        }
        self.due_boot_ns = None;
        self.last_boot_ns = now_boot_ns;
        self.job.want(());
        None
    }

    /// Notes that a sweep is over, and how many entries it removed.
    pub(crate) fn finish(&mut self, removed: usize) {
        self.wait_ns = if removed > 0 { INTERVAL_NS } else { (self.wait_ns * 2).min(LONGEST_NS) };
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
        tracing::warn!(removed, "connections ended unseen");
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
