//! `CONNECTIONS`, and how they are found: by their conid in `CONIDS`, by their socket's cookie in `COOKIES`, or by the
//! socket itself in `CONN_TAGS`; and the last conid, in `NEXT_CONID`.

use std::os::fd::{AsRawFd as _, RawFd};

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::maps::{CONIDS, CONN_TAGS, CONNECTIONS, COOKIES, NEXT_CONID};
use tcpops_common::slots::{ConidSlot, WAYS, conid_shift, conid_slot, cookie_mask, cookie_slot};
use tcpops_common::state::TcpState;

use crate::kernel::descriptor::Descriptor;
use crate::kernel::error::Result;
use crate::kernel::pins::Pins;
use crate::kernel::table::{self, Table};

#[derive(Debug)]
pub(crate) struct Connections {
    entries: Table<ConnKey, Connection>,
    /// The cookie of each conid, at its place.
    conids: Table<u32, ConidSlot>,
    conid_shift: u32,
    /// The key that goes with a cookie, at one of its places.
    cookies: Table<u32, ConnKey>,
    cookie_mask: u32,
    /// The conid of each socket for whose cookie there was no place.
    tags: Table<RawFd, u64>,
    /// The conid that was handed out last, at index 0.
    last_conid: Table<u32, u64>,
}

impl Connections {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        let (conids, cookies) = (Table::open(pins, CONIDS)?, Table::open(pins, COOKIES)?);
        Ok(Self {
            entries: Table::open(pins, CONNECTIONS)?,
            conid_shift: conid_shift(conids.max_entries()),
            conids,
            cookie_mask: cookie_mask(cookies.max_entries()),
            cookies,
            tags: Table::open(pins, CONN_TAGS)?,
            last_conid: Table::open(pins, NEXT_CONID)?,
        })
    }

    /// The key of a conid, unless another conid has its place.
    fn likely_key(&self, conid: u64) -> Result<Option<ConnKey>> {
        let ConidSlot { cookie, .. } = self.conids.at(conid_slot(conid, self.conid_shift))?;
        Ok((cookie != 0).then_some(ConnKey { cookie, conid }))
    }

    /// The connection of the socket with this cookie; `None` also where there was no place for the cookie, which
    /// `Counter::TagsOverflowed` counts.
    pub(crate) fn of_cookie(&self, cookie: u64) -> Result<Option<ConnKey>> {
        let first = cookie_slot(cookie, self.cookie_mask);
        for place in first..first + WAYS {
            let key = self.cookies.at(place)?;
            if key.cookie == cookie && key.conid != 0 {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The entry of a connection; `None` if it has ended, or the kernel program has not finished the entry yet.
    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Connection>> {
        Ok(self.entries.get(key)?.filter(is_made))
    }

    /// The key and the entry of a conid; `None` likewise.
    pub(crate) fn entry(&self, conid: u64) -> Result<Option<(ConnKey, Connection)>> {
        let Some(key) = self.likely_key(conid)? else { return Ok(None) };
        Ok(self.get(key)?.map(|connection| (key, connection)))
    }

    /// The conid that was handed out last; its entry may be under way.
    pub(crate) fn last_conid(&self) -> Result<u64> {
        self.last_conid.at(0)
    }

    pub(crate) fn contains(&self, key: ConnKey) -> Result<bool> {
        self.entries.contains(key)
    }

    /// The conid of the socket that a descriptor leads to.
    pub(crate) fn tag(&self, socket: &Descriptor) -> Result<Option<u64>> {
        let Some(cookie) = socket.cookie() else { return Ok(None) };
        if let Some(key) = self.of_cookie(cookie)? {
            return Ok(Some(key.conid));
        }
        // Zero is left of a connection that has ended.
        Ok(self.tags.get(socket.as_fd().as_raw_fd())?.filter(|conid| *conid != 0))
    }

    /// Removes the entry of a socket that is gone without the kernel program seeing its end. The programs write to no
    /// place and no entry but those of the socket they run for, so nothing is lost.
    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        self.entries.remove(key)?;
        let place = conid_slot(key.conid, self.conid_shift);
        if self.conids.at(place)?.cookie == key.cookie {
            self.conids.put(place, &ConidSlot::default())?;
        }
        let first = cookie_slot(key.cookie, self.cookie_mask);
        for place in first..first + WAYS {
            if self.cookies.at(place)? == key {
                self.cookies.put(place, &ConnKey::default())?;
            }
        }
        Ok(())
    }

    /// Hands every entry to `visit`, in batches of which it may do what it likes; it answers false to stop. A connection
    /// that is there throughout is visited at least once.
    pub(crate) fn for_each_batch(&self, mut visit: impl FnMut(&mut Vec<(ConnKey, Connection)>) -> bool) -> Result<()> {
        self.entries.for_each_batch(|batch| {
            batch.retain(|(_, connection)| is_made(connection));
            visit(batch)
        })
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
