//! `CONNECTIONS`, `CONIDS`, `CONN_TAGS` and `NEXT_CONID`: the connections, as the kernel programs see them.

use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::maps::{CONIDS, CONN_TAGS, CONNECTIONS, NEXT_CONID};
use tcpops_common::state::TcpState;

use crate::kernel::error::Result;
use crate::kernel::pins::Pins;
use crate::kernel::table::{self, Table};

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
        let (mut batches, mut batch) = (self.batches(), Vec::new());
        while batches.next(&mut batch)? {
            if !visit(&mut batch) {
                break;
            }
        }
        Ok(())
    }

    /// A reading of all entries, which several threads can share.
    pub(crate) fn batches(&self) -> Batches<'_> {
        Batches(self.entries.batches())
    }
}

/// A reading of all entries, batch by batch. A connection that is there throughout is read at least once.
#[derive(Debug)]
pub(crate) struct Batches<'a>(table::Batches<'a, ConnKey, Connection>);

impl Batches<'_> {
    /// Reads the next entries in place of those in `batch`; false after the last.
    pub(crate) fn next(&mut self, batch: &mut Vec<(ConnKey, Connection)>) -> Result<bool> {
        let more = self.0.next(batch)?;
        batch.retain(|(_, connection)| is_made(connection));
        Ok(more)
    }
}

/// An entry whose state is `Unknown` is being made by the kernel program at this moment.
fn is_made(connection: &Connection) -> bool {
    connection.state != TcpState::Unknown
}
