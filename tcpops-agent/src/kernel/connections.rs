//! `CONNECTIONS`, `CONIDS` and `CONN_TAGS`: the connections, as the kernel programs see them.

use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::maps::{CONIDS, CONN_TAGS, CONNECTIONS};
use tcpops_common::state::TcpState;

use crate::kernel::error::Result;
use crate::kernel::pins::Pins;
use crate::kernel::table::Table;

#[derive(Debug)]
pub(crate) struct Connections {
    entries: Table<ConnKey, Connection>,
    /// The cookie of each conid.
    conids: Table<u64, u64>,
    /// The conid of each socket.
    tags: Table<RawFd, u64>,
}

impl Connections {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            entries: Table::open(pins, CONNECTIONS)?,
            conids: Table::open(pins, CONIDS)?,
            tags: Table::open(pins, CONN_TAGS)?,
        })
    }

    pub(crate) fn key(&self, conid: u64) -> Result<Option<ConnKey>> {
        Ok(self.conids.get(conid)?.map(|cookie| ConnKey { cookie, conid }))
    }

    /// The entry of a connection; `None` if it has ended, or the kernel program has not finished the entry yet.
    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Connection>> {
        Ok(self.entries.get(key)?.filter(is_made))
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
}

/// An entry whose state is `Unknown` is being made by the kernel program at this moment.
fn is_made(connection: &Connection) -> bool {
    connection.state != TcpState::Unknown
}
