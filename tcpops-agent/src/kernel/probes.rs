//! `PROBES`: peers that are being asked whether they are still there.

use aya::maps::{HashMap, MapData, MapError};
use aya_obj::generated::BPF_NOEXIST;
use bytemuck::checked::try_pod_read_unaligned;
use parking_lot::Mutex;
use tcpops_common::conn::ConnKey;
use tcpops_common::maps::PROBES;
use tcpops_common::policy::SocketOptions;
use tcpops_common::probe::{Probe, ProbePhase};

use crate::kernel::error::removed;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;

const KEY: usize = size_of::<ConnKey>();
const VALUE: usize = size_of::<Probe>();

/// The probes under way.
#[derive(Debug)]
pub(crate) struct Probes(Mutex<HashMap<MapData, [u8; KEY], [u8; VALUE]>>);

/// What came of writing a question down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The next walk asks.
    Done,
    /// Somebody else asks the same peer at this moment.
    UnderWay,
    /// There is no room for more questions.
    Full,
}

impl Probes {
    /// Opens the map.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self(Mutex::new(pins.map(PROBES)?)))
    }

    /// Has the next walk make the kernel probe the peer of a connection.
    pub(crate) fn ask(&self, key: ConnKey) -> Result<Noted> {
        let probe = Probe { phase: ProbePhase::Ask, pad: [0; 3], saved: SocketOptions::NONE, asked_boot_ns: 0 };
        match self.insert(key, &probe, BPF_NOEXIST.into()) {
            Ok(()) => Ok(Noted::Done),
            Err(MapError::SyscallError(error)) => match error.io_error.raw_os_error() {
                Some(libc::EEXIST) => Ok(Noted::UnderWay),
                Some(libc::E2BIG) => Ok(Noted::Full),
                _ => Err(KernelError::Map { name: PROBES, source: MapError::SyscallError(error) }),
            },
            Err(source) => Err(KernelError::Map { name: PROBES, source }),
        }
    }

    /// How far the probe is; `None` if there is none.
    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Probe>> {
        let map = self.0.lock();
        match map.get(&bytemuck::must_cast(key), 0) {
            Ok(bytes) => decode(&bytes).map(Some),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(KernelError::Map { name: PROBES, source }),
        }
    }

    /// Has the next walk give the socket back its options; what was not asked yet is taken back. False if there is nothing
    /// to give back.
    pub(crate) fn restore(&self, key: ConnKey) -> Result<bool> {
        match self.get(key)? {
            None => Ok(false),
            Some(probe) if probe.phase == ProbePhase::Ask => self.remove(key).map(|()| false),
            Some(probe) => {
                let probe = Probe { phase: ProbePhase::Restore, ..probe };
                self.insert(key, &probe, 0).map_err(KernelError::map(PROBES)).map(|()| true)
            }
        }
    }

    /// Forgets the probe of a connection that ended.
    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        let mut map = self.0.lock();
        removed(PROBES, map.remove(&bytemuck::must_cast::<_, [u8; KEY]>(key)))
    }

    /// The connections with a probe: after a start, those that an agent before did not see to the end.
    pub(crate) fn keys(&self) -> Result<Vec<ConnKey>> {
        let map = self.0.lock();
        let keys: std::result::Result<Vec<_>, _> = map.keys().collect();
        Ok(keys.map_err(KernelError::map(PROBES))?.into_iter().map(bytemuck::must_cast).collect())
    }

    fn insert(&self, key: ConnKey, probe: &Probe, flags: u64) -> std::result::Result<(), MapError> {
        let mut map = self.0.lock();
        let value: [u8; VALUE] = bytemuck::must_cast(*probe);
        map.insert(bytemuck::must_cast::<_, [u8; KEY]>(key), value, flags)
    }
}

fn decode(bytes: &[u8]) -> Result<Probe> {
    try_pod_read_unaligned(bytes).map_err(|_invalid| KernelError::Value { name: PROBES })
}
