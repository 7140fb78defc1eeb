//! `CONNECTIONS`, `CONIDS` and `CONN_TAGS`: who is connected, as the kernel programs see it.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{HashMap, MapData, MapError, SkStorage};
use bytemuck::checked::try_pod_read_unaligned;
use parking_lot::Mutex;
use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::maps::{CONIDS, CONN_TAGS, CONNECTIONS};
use tcpops_common::state::TcpState;

use crate::kernel::bpf::{Batch, lookup_batch};
use crate::kernel::error::removed;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;

const KEY: usize = size_of::<ConnKey>();
const VALUE: usize = size_of::<Connection>();

/// Entries read at a time: 192 KiB of keys and values.
const BATCH: u32 = 1024;

type Entries = HashMap<MapData, [u8; KEY], [u8; VALUE]>;
type Conids = HashMap<MapData, u64, u64>;

/// The connections.
#[derive(Debug)]
pub(crate) struct Connections {
    entries: Entries,
    /// The map of `entries` once more, since aya gives no descriptor for batch calls.
    batches: MapData,
    conids: Conids,
    tags: SkStorage<MapData, u64>,
    /// The same maps as `entries` and `conids`, for removing.
    removable: Mutex<(Entries, Conids)>,
}

impl Connections {
    /// Opens the maps.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            entries: pins.map(CONNECTIONS)?,
            batches: pins.map_data(CONNECTIONS)?,
            conids: pins.map(CONIDS)?,
            tags: pins.map(CONN_TAGS)?,
            removable: Mutex::new((pins.map(CONNECTIONS)?, pins.map(CONIDS)?)),
        })
    }

    /// The key of the connection with this conid.
    pub(crate) fn key(&self, conid: u64) -> Result<Option<ConnKey>> {
        let cookie = absent(self.conids.get(&conid, 0), CONIDS)?;
        Ok(cookie.map(|cookie| ConnKey { cookie, conid }))
    }

    /// The entry of a connection; `None` if it is over, or not wholly made yet.
    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Connection>> {
        match absent(self.entries.get(&bytemuck::must_cast(key), 0), CONNECTIONS)? {
            Some(bytes) => Ok(Some(decode(&bytes)?).filter(is_made)),
            None => Ok(None),
        }
    }

    /// Whether there is a connection.
    pub(crate) fn contains(&self, key: ConnKey) -> Result<bool> {
        Ok(absent(self.entries.get(&bytemuck::must_cast(key), 0), CONNECTIONS)?.is_some())
    }

    /// The conid that the socket behind a descriptor of this process carries.
    pub(crate) fn tag(&self, socket: BorrowedFd<'_>) -> Result<Option<u64>> {
        absent(self.tags.get(&socket, 0), CONN_TAGS)
    }

    /// Removes the entry of a socket that is no more, and whose end the kernel program did not see: it writes to the entry
    /// of no other.
    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        let (entries, conids) = &mut *self.removable.lock();
        removed(CONNECTIONS, entries.remove(&bytemuck::must_cast::<_, [u8; KEY]>(key)))?;
        removed(CONIDS, conids.remove(&key.conid))
    }

    /// Every entry, handed to `visit` in batches; it answers false to stop. A connection that is there throughout is
    /// visited at least once.
    pub(crate) fn for_each_batch(&self, mut visit: impl FnMut(&[(ConnKey, Connection)]) -> bool) -> Result<()> {
        let mut max = BATCH;
        let mut cursor = [0; 16];
        let mut first = true;
        let mut batch = Vec::new();
        loop {
            let mut keys = vec![0; max as usize * KEY];
            let mut values = vec![0; max as usize * VALUE];
            let fd = self.batches.fd().as_fd();
            let (read, last) = match lookup_batch(fd, first, &mut cursor, &mut keys, &mut values, max) {
                Ok(Batch::More(read)) => (read, false),
                Ok(Batch::Last(read)) => (read, true),
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    max *= 2;
                    continue;
                }
                Err(error) => return Err(KernelError::syscall("BPF_MAP_LOOKUP_BATCH", CONNECTIONS, error)),
            };
            first = false;
            batch.clear();
            for (key, value) in keys.chunks_exact(KEY).zip(values.chunks_exact(VALUE)).take(read) {
                let connection = decode(value)?;
                if is_made(&connection) {
                    batch.push((bytemuck::pod_read_unaligned(key), connection));
                }
            }
            if (!batch.is_empty() && !visit(&batch)) || last {
                return Ok(());
            }
        }
    }
}

/// An entry whose state is `Unknown` is being made by the kernel program at this moment.
fn is_made(connection: &Connection) -> bool {
    connection.state != TcpState::Unknown
}

fn decode(bytes: &[u8]) -> Result<Connection> {
    try_pod_read_unaligned(bytes).map_err(|_invalid| KernelError::Value { name: CONNECTIONS })
}

fn absent<T>(result: std::result::Result<T, MapError>, name: &'static str) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(KernelError::Map { name, source: error }),
    }
}
