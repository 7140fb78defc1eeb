//! `RECONNECTS`: the programs that connect descriptors again after they have disconnected them.

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError};
use tcpops_common::settings::{RECONNECTS, reconnects_entry};

use crate::kernel::error::{KernelError, Result};

/// What the kernel programs have seen since this agent has loaded them.
pub(crate) struct Reconnects(Array<MapData, u32>);

impl Reconnects {
    /// The map of programs that have just been loaded.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let missing = || MapError::InvalidName { name: RECONNECTS.to_owned() };
        let map = ebpf.take_map(RECONNECTS).ok_or_else(missing).and_then(|map: Map| Array::try_from(map));
        map.map(Self).map_err(KernelError::map(RECONNECTS))
    }

    /// True if a program of this cgroup has done so, or one of a cgroup that shares its entry.
    pub(crate) fn has(&self, cgroup_id: u64) -> Result<bool> {
        let seen = self.0.get(&reconnects_entry(cgroup_id), 0).map_err(KernelError::map(RECONNECTS))?;
        Ok(seen != 0)
    }
}
