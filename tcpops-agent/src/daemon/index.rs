//! The index of connections, which is kept for some seconds after it was used.
//!
//! Reading the whole map takes a third of a microsecond for each connection, whatever is looked for: too much for each page
//! of a list and each look-up by endpoints. The maps have no index, since the kernel programs would pay for it at every
//! connection. So the agent makes one when it is first needed, and then only looks for the connections that have come
//! since: they have the conids after the last one. While nobody asks there is none.

use std::time::Duration;

use parking_lot::Mutex;

use crate::kernel::clock::now_boot_ns;
use crate::kernel::connections::Connections;
use crate::kernel::{Result, release_memory};
use crate::model::requests::index::Index;

/// How long it is kept without being used.
pub(crate) const KEPT: Duration = Duration::from_secs(10);
/// The age at which it is made anew, nanoseconds: what has ended is still in it.
const MAX_AGE_NS: u64 = 60_000_000_000;

/// The index, while there is one.
#[derive(Debug, Default)]
pub(crate) struct KeptIndex(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    index: Index,
    made_boot_ns: u64,
    used_boot_ns: u64,
}

impl KeptIndex {
    /// True while there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Reads the index, which has every connection that is there when the call begins; those that ended may be in it, too.
    /// `begun` is called if there was none before. Blocks: for a reading of the map, unless that was done lately.
    pub(crate) fn read<T>(
        &self,
        connections: &Connections,
        begun: impl FnOnce(),
        read: impl FnOnce(&Index) -> T,
    ) -> Result<T> {
        let mut kept = self.0.lock();
        let now_boot_ns = now_boot_ns();
        let last_conid = connections.last_conid()?;
        let usable = |kept: &Kept| {
            now_boot_ns.saturating_sub(kept.made_boot_ns) < MAX_AGE_NS && !kept.index.is_outdated(last_conid)
        };
        let was_there = kept.is_some();
        let current = match kept.take().filter(usable) {
            Some(kept) => kept,
            None => Kept {
                index: build(connections, last_conid, now_boot_ns)?,
                made_boot_ns: now_boot_ns,
                used_boot_ns: now_boot_ns,
            },
        };
        if !was_there {
            begun();
        }
        let current = kept.insert(current);
        current.used_boot_ns = now_boot_ns;
        current.index.update(connections.last_conid()?, now_boot_ns, |conid| connections.entry(conid))?;
        Ok(read(&current.index))
    }

    /// Drops the index unless it was used within [`KEPT`]. Returns false while there is one. Blocks, as `read` does.
    pub(crate) fn drop_if_unused(&self) -> bool {
        let mut kept = self.0.lock();
        let unused_ns = |kept: &Kept| u128::from(now_boot_ns().saturating_sub(kept.used_boot_ns));
        if kept.as_ref().is_some_and(|kept| unused_ns(kept) < KEPT.as_nanos()) {
            return false;
        }
        *kept = None;
        drop(kept);
        release_memory();
        true
    }
}

fn build(connections: &Connections, last_conid: u64, now_boot_ns: u64) -> Result<Index> {
    let mut result = Ok(());
    let index = Index::build(last_conid, now_boot_ns, |add| {
        result = connections.for_each_batch(|batch| {
            batch.iter().for_each(|(key, connection)| add(*key, connection));
            true
        });
    });
    result.map(|()| index)
}
