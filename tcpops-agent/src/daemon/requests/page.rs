//! A page of the list: the first connections after a conid that a filter takes.
//!
//! There are three ways to them, and each goes on where the one before has done as much as it should. Asking for one conid
//! after another, where there is no index: it finds enough unless most have ended. Reading the entries that the index
//! names, one by one; an index is made for a list that goes on. Reading the whole map, in batches: half the price for an
//! entry, but for every one. So a page costs little more than the cheapest way to it, and all pages together a time that
//! is linear in the connections: a page that needs the whole map goes over an eighth of them, so there are few.

use std::collections::BTreeMap;
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};

use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::model::requests::filter::Filter;

/// The most conids that are asked for one after another.
const TRIED: u64 = 4096;
/// Of so many connections in the index, one is read by its key before the whole map is.
const SHARE: usize = 8;
/// Keys taken from the index at a time.
const KEYS: usize = 1024;

/// The first `max` connections that the filter takes, by rising conid. Blocks.
pub(crate) fn page(shared: &Arc<Shared>, filter: &Filter, max: usize) -> Result<Vec<(ConnKey, Connection)>> {
    let mut page = Page { shared, filter, max, at: filter.after_conid, found: BTreeMap::new() };
    let goes_on = filter.after_conid > 0;
    let complete = page.try_conids()? || (goes_on || shared.has_index()) && page.read_by_index()?;
    if !complete {
        page.read_all()?;
    }
    Ok(page.found.into_values().collect())
}

struct Page<'a> {
    shared: &'a Arc<Shared>,
    filter: &'a Filter,
    max: usize,
    /// The conid up to which it has everything.
    at: u64,
    found: BTreeMap<u64, (ConnKey, Connection)>,
}

impl Page<'_> {
    /// Returns true if the page is complete then, as the other ways do.
    fn try_conids(&mut self) -> Result<bool> {
        if self.shared.has_index() {
            return Ok(false);
        }
        let last = self.shared.connections.last_conid()?;
        let tried = last.min(self.at.saturating_add(TRIED));
        while self.at < tried && !self.is_full() {
            self.at += 1;
            if let Some((key, connection)) = self.shared.connections.entry(self.at)? {
                self.offer(key, &connection);
            }
        }
        Ok(self.is_full() || self.at >= last)
    }

    fn read_by_index(&mut self) -> Result<bool> {
        let mut left = KEYS + Shared::read_index(self.shared, |index| index.len() / SHARE)?;
        while left > 0 {
            let keys = Shared::read_index(self.shared, |index| index.after(self.at, KEYS))?;
            if keys.is_empty() {
                return Ok(true);
            }
            left = left.saturating_sub(keys.len());
            for key in keys {
                self.at = key.conid;
                if let Some(connection) = self.shared.connections.get(key)? {
                    self.offer(key, &connection);
                }
                if self.is_full() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn read_all(&mut self) -> Result<()> {
        self.shared.connections.for_each_batch(|batch| {
            for (key, connection) in batch {
                // The newest of them makes room for an older one.
                if key.conid > self.at {
                    self.offer(*key, connection);
                }
                if self.found.len() > self.max {
                    self.found.pop_last();
                }
            }
            true
        })
    }

    fn offer(&mut self, key: ConnKey, connection: &Connection) {
        if self.filter.matches(key.conid, connection) {
            self.found.insert(key.conid, (key, *connection));
        }
    }

    fn is_full(&self) -> bool {
        self.found.len() >= self.max
    }
}
