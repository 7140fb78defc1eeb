//! `CONNECTIONS`, `CONIDS`, `CONN_TAGS` and `NEXT_CONID`: the connections, as the kernel programs see them.

use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::mpsc::sync_channel;
use std::thread;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::maps::{CONIDS, CONN_TAGS, CONNECTIONS, NEXT_CONID};
use tcpops_common::state::TcpState;

use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;
use crate::kernel::table::Table;

/// Batches that are read ahead of their use; then the reading waits.
const READ_AHEAD: usize = 2;

#[derive(Debug)]
pub(crate) struct Connections {
    entries: Table<ConnKey, Connection>,
    /// The cookie of each conid.
    conids: Table<u64, u64>,
    /// The conid of each socket.
    tags: Table<RawFd, u64>,
    /// The conid that was handed out last, at index 0.
    last_conid: Table<u32, u64>,
}

impl Connections {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            entries: Table::open(pins, CONNECTIONS)?,
            conids: Table::open(pins, CONIDS)?,
            tags: Table::open(pins, CONN_TAGS)?,
            last_conid: Table::open(pins, NEXT_CONID)?,
        })
    }

    pub(crate) fn key(&self, conid: u64) -> Result<Option<ConnKey>> {
        Ok(self.conids.get(conid)?.map(|cookie| ConnKey { cookie, conid }))
    }

    /// The entry of a connection; `None` if it has ended, or the kernel program has not finished the entry yet.
    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Connection>> {
        Ok(self.entries.get(key)?.filter(is_made))
    }

    /// The key and the entry of a conid; `None` likewise.
    pub(crate) fn entry(&self, conid: u64) -> Result<Option<(ConnKey, Connection)>> {
        let Some(key) = self.key(conid)? else { return Ok(None) };
        Ok(self.get(key)?.map(|connection| (key, connection)))
    }

    /// The conid that was handed out last; its entry may be under way.
    pub(crate) fn last_conid(&self) -> Result<u64> {
        self.last_conid.at(0)
    }

    pub(crate) fn contains(&self, key: ConnKey) -> Result<bool> {
        self.entries.contains(key)
    }

    /// The conid that the socket behind a descriptor of this process carries.
    pub(crate) fn tag(&self, socket: BorrowedFd<'_>) -> Result<Option<u64>> {
        // Zero is left of a connection that has ended.
        Ok(self.tags.get(socket.as_raw_fd())?.filter(|conid| *conid != 0))
    }

    /// Removes the entry of a socket that is gone without the kernel program seeing its end. The program writes to no
    /// entry but that of the socket it runs for, so nothing is lost.
    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        self.entries.remove(key)?;
        self.conids.remove(key.conid)
    }

    /// Hands every entry to `visit`, in batches of which it may do what it likes; it answers false to stop. A connection
    /// that is there throughout is visited at least once.
    pub(crate) fn for_each_batch(&self, mut visit: impl FnMut(&mut Vec<(ConnKey, Connection)>) -> bool) -> Result<()> {
        self.entries.for_each_batch(|batch| {
            batch.retain(|(_, connection)| is_made(connection));
            batch.is_empty() || visit(batch)
        })
    }

    /// Hands every entry that is `wanted` to `visit`, likewise, while another thread reads on: by up to [`READ_AHEAD`]
    /// batches.
    pub(crate) fn for_each_batch_ahead(
        &self,
        wanted: impl Fn(&(ConnKey, Connection)) -> bool + Send,
        mut visit: impl FnMut(&[(ConnKey, Connection)]) -> bool,
    ) -> Result<()> {
        let (sender, batches) = sync_channel::<Vec<_>>(READ_AHEAD);
        thread::scope(|scope| {
            let read = move || {
                self.for_each_batch(|batch| {
                    batch.retain(&wanted);
                    let batch = mem::replace(batch, Vec::with_capacity(batch.capacity()));
                    // Nobody receives any more once `visit` has stopped.
                    batch.is_empty() || sender.send(batch).is_ok()
                })
            };
            let reader = thread::Builder::new().name("map-reader".to_owned()).spawn_scoped(scope, read);
            let reader = reader.map_err(KernelError::syscall("clone", "the reader of the map"))?;
            for batch in batches {
                if !visit(&batch) {
                    break;
                }
            }
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// An entry whose state is `Unknown` is being made by the kernel program at this moment.
fn is_made(connection: &Connection) -> bool {
    connection.state != TcpState::Unknown
}
