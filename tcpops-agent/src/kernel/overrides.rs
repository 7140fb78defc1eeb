//! `OVERRIDES`: policies set for one connection.

use tcpops_common::conn::ConnKey;
use tcpops_common::maps::OVERRIDES;
use tcpops_common::policy::Policy;

use crate::kernel::error::Result;
use crate::kernel::pins::Pins;
use crate::kernel::table::Table;

#[derive(Debug)]
pub(crate) struct Overrides(Table<ConnKey, Policy>);

impl Overrides {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Table::open(pins, OVERRIDES).map(Self)
    }

    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Policy>> {
        self.0.get(key)
    }

    /// Writes the policy; the next walk over the connection's namespace applies it.
    ///
    /// # Errors
    /// `E2BIG` if the map is full.
    pub(crate) fn put(&self, key: ConnKey, policy: &Policy) -> Result<()> {
        self.0.put(key, policy)
    }

    /// Removes the policy of a connection that ended meanwhile: at the end of a connection the kernel program removes a
    /// policy that was applied, but not one that waits for a walk, or is written later.
    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        self.0.remove(key)
    }

    /// True if no connection has one.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        self.0.is_empty()
    }

    /// Every policy in the map, with its connection.
    pub(crate) fn all(&self) -> Result<Vec<(ConnKey, Policy)>> {
        let mut all = Vec::new();
        self.0.for_each_batch(|batch| {
            all.append(batch);
            true
        })?;
        Ok(all)
    }
}
