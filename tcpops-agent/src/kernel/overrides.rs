//! `OVERRIDES`: policies pushed for one connection.

use aya::maps::{HashMap, MapData, MapError};
use bytemuck::checked::try_pod_read_unaligned;
use parking_lot::Mutex;
use tcpops_common::conn::ConnKey;
use tcpops_common::maps::OVERRIDES;
use tcpops_common::policy::Policy;

use crate::kernel::error::removed;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;

const KEY: usize = size_of::<ConnKey>();
const VALUE: usize = size_of::<Policy>();

/// The pushed policies.
#[derive(Debug)]
pub(crate) struct Overrides(Mutex<HashMap<MapData, [u8; KEY], [u8; VALUE]>>);

impl Overrides {
    /// Opens the map.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self(Mutex::new(pins.map(OVERRIDES)?)))
    }

    /// The policy pushed for a connection.
    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Policy>> {
        let map = self.0.lock();
        match map.get(&bytemuck::must_cast(key), 0) {
            Ok(bytes) => {
                try_pod_read_unaligned(&bytes).map(Some).map_err(|_invalid| KernelError::Value { name: OVERRIDES })
            }
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::Map { name: OVERRIDES, source: error }),
        }
    }

    /// Puts down what is wanted of a connection; the next walk over its namespace applies it.
    ///
    /// # Errors
    /// `Map` if the map is full.
    pub(crate) fn put(&self, key: ConnKey, policy: &Policy) -> Result<()> {
        let mut map = self.0.lock();
        let value: [u8; VALUE] = bytemuck::must_cast(*policy);
        let key: [u8; KEY] = bytemuck::must_cast(key);
        map.insert(key, value, 0).map_err(KernelError::map(OVERRIDES))
    }

    /// Takes back what was put down for a connection that ended meanwhile: the kernel program removes the policy of a
    /// connection that ends, but not one that comes after.
    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        let mut map = self.0.lock();
        removed(OVERRIDES, map.remove(&bytemuck::must_cast::<_, [u8; KEY]>(key)))
    }

    /// The highest number that a policy in the map has.
    pub(crate) fn last_serial(&self) -> Result<u32> {
        let map = self.0.lock();
        let mut last = 0;
        for entry in map.iter() {
            let (_, value) = entry.map_err(KernelError::map(OVERRIDES))?;
            let policy: Policy =
                try_pod_read_unaligned(&value).map_err(|_invalid| KernelError::Value { name: OVERRIDES })?;
            last = last.max(policy.serial);
        }
        Ok(last)
    }
}
