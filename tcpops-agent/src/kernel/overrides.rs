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

    /// Removes the policy of a connection that ended meanwhile: the kernel program removes the policy at the end of a
    /// connection, but not one that is written later.
    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        self.0.remove(key)
    }

    /// The highest serial number of a policy in the map.
    pub(crate) fn last_serial(&self) -> Result<u32> {
        let mut last = 0;
        self.0.for_each_batch(|batch| {
            last = batch.iter().map(|(_, policy)| policy.serial).fold(last, u32::max);
            true
        })?;
        Ok(last)
    }
}
