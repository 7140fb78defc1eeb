//! An index of connections: by rising conid, and by the endpoints of their peers. It has names only, no entries: who uses
//! it reads the entry, and sees whether the connection is still there and is the one that is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;

use tcpops_common::conn::{ConnKey, Connection};

use crate::model::requests::selector::Endpoints;

/// A kernel program hands a conid out, and makes the entry within some microseconds. For this long after a conid was first
/// looked for, nanoseconds, it is looked for at each update.
const LOOKED_FOR_NS: u64 = 20_000_000;

/// Then once more after this long, nanoseconds, since the program's CPU may have been taken away in between. If there is no
/// entry then, it has been and gone.
const SETTLED_AFTER_NS: u64 = 1_000_000_000;

/// The conids handed out last that a reading of the whole map may have come too early for.
const FRESH: u64 = 4096;

/// The connections of one reading of the map, and those that came after it. About 40 bytes a connection.
#[derive(Debug)]
pub(crate) struct Index {
    /// The cookie of each connection, by its conid.
    cookies: BTreeMap<u64, u64>,
    /// The hashes of both endpoints, the peer's in the upper half, each with the conid.
    names: BTreeSet<(u64, u64)>,
    /// Keyed by chance, so that nobody can choose endpoints that share a hash.
    hasher: RandomState,
    /// The last conid that was looked for.
    newest: u64,
    /// The conids up to `newest` whose entries may be under way, and when they were first looked for.
    unsettled: BTreeMap<u64, u64>,
    /// The number of connections when the map was read.
    at_first: usize,
}

impl Index {
    /// An index of what a reading of the map finds. `last_conid` is the last that was handed out before the reading began.
    pub(crate) fn build(
        last_conid: u64,
        now_boot_ns: u64,
        read: impl FnOnce(&mut dyn FnMut(ConnKey, &Connection)),
    ) -> Self {
        let (mut cookies, mut names, hasher) = (Vec::new(), Vec::new(), RandomState::new());
        read(&mut |key, connection| {
            cookies.push((key.conid, key.cookie));
            names.push((name(&hasher, connection.local(), connection.remote()), key.conid));
        });
        let at_first = cookies.len();
        let cookies = BTreeMap::from_iter(cookies);
        let fresh = last_conid.saturating_sub(FRESH) + 1..=last_conid;
        let unsettled = fresh.filter(|conid| !cookies.contains_key(conid)).map(|conid| (conid, now_boot_ns)).collect();
        Self { cookies, names: names.into_iter().collect(), hasher, newest: last_conid, unsettled, at_first }
    }

    /// True if a reading of the whole map is cheaper than looking for what is new, or holds less memory than going on.
    pub(crate) fn is_outdated(&self, last_conid: u64) -> bool {
        let behind = usize::try_from(last_conid.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        let bound = FRESH as usize + self.at_first / 4;
        last_conid < self.newest || behind > bound || self.cookies.len() > 2 * self.at_first + bound
    }

    /// Brings the index up to `last_conid`: `find` returns the key and the entry of a conid, where there is one.
    pub(crate) fn update<E>(
        &mut self,
        last_conid: u64,
        now_boot_ns: u64,
        mut find: impl FnMut(u64) -> Result<Option<(ConnKey, Connection)>, E>,
    ) -> Result<(), E> {
        self.unsettled.extend((self.newest + 1..=last_conid).map(|conid| (conid, now_boot_ns)));
        self.newest = self.newest.max(last_conid);
        let mut unsettled = std::mem::take(&mut self.unsettled);
        let mut failed = None;
        unsettled.retain(|conid, since_boot_ns| {
            let age_ns = now_boot_ns.saturating_sub(*since_boot_ns);
            if (LOOKED_FOR_NS..SETTLED_AFTER_NS).contains(&age_ns) {
                return true;
            }
            match find(*conid) {
                Ok(Some((key, connection))) => {
                    self.insert(key, &connection);
                    false
                }
                Ok(None) => age_ns < SETTLED_AFTER_NS,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        });
        self.unsettled = unsettled;
        failed.map_or(Ok(()), Err)
    }

    /// The number of connections, with those that ended since they were found.
    pub(crate) fn len(&self) -> usize {
        self.cookies.len()
    }

    /// Up to `max` connections with conids greater than `conid`, in their order.
    pub(crate) fn after(&self, conid: u64, max: usize) -> Vec<ConnKey> {
        let greater = self.cookies.range(conid.saturating_add(1)..);
        greater.take(max).map(|(conid, cookie)| ConnKey { cookie: *cookie, conid: *conid }).collect()
    }

    /// Adds the connections to `found` that may have this peer, and this end of theirs where there is one.
    pub(crate) fn add_with(&self, remote: SocketAddr, local: Option<SocketAddr>, found: &mut BTreeSet<ConnKey>) {
        let range = match local {
            Some(local) => {
                let name = name(&self.hasher, local, remote);
                (name, 0)..=(name, u64::MAX)
            }
            None => {
                let first = u64::from(hash(&self.hasher, remote)) << 32;
                (first, 0)..=(first | u64::from(u32::MAX), u64::MAX)
            }
        };
        let conids = self.names.range(range).map(|(_, conid)| *conid);
        found.extend(conids.filter_map(|conid| Some(ConnKey { cookie: *self.cookies.get(&conid)?, conid })));
    }

    fn insert(&mut self, key: ConnKey, connection: &Connection) {
        self.cookies.insert(key.conid, key.cookie);
        self.names.insert((name(&self.hasher, connection.local(), connection.remote()), key.conid));
    }
}

impl Endpoints {
    /// The peer's endpoint, by which an index finds connections, and this host's where it is given too.
    pub(crate) fn indexed(&self) -> Option<(SocketAddr, Option<SocketAddr>)> {
        self.remote.map(|remote| (remote, self.local))
    }
}

fn name(hasher: &RandomState, local: SocketAddr, remote: SocketAddr) -> u64 {
    u64::from(hash(hasher, remote)) << 32 | u64::from(hash(hasher, local))
}

fn hash(hasher: &RandomState, end: SocketAddr) -> u32 {
    (hasher.hash_one((end.ip(), end.port())) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::model::testing;

    const SECOND_NS: u64 = 1_000_000_000;

    fn key(conid: u64) -> ConnKey {
        ConnKey { cookie: conid + 100, conid }
    }

    /// The connection with this conid, which has its peer's port from it.
    fn connection(conid: u64) -> Connection {
        Connection { remote_port: conid as u16, ..testing::connection() }
    }

    fn index(conids: &[u64], last_conid: u64) -> Index {
        Index::build(last_conid, 0, |add| conids.iter().for_each(|conid| add(key(*conid), &connection(*conid))))
    }

    fn update(index: &mut Index, last_conid: u64, now_boot_ns: u64, there: &[u64]) -> Vec<u64> {
        let mut asked = Vec::new();
        let find = |conid| {
            asked.push(conid);
            Ok::<_, Infallible>(there.contains(&conid).then(|| (key(conid), connection(conid))))
        };
        index.update(last_conid, now_boot_ns, find).unwrap();
        asked
    }

    fn all(index: &Index) -> Vec<u64> {
        index.after(0, usize::MAX).iter().map(|key| key.conid).collect()
    }

    fn with(index: &Index, remote: SocketAddr, local: Option<SocketAddr>) -> Vec<u64> {
        let mut found = BTreeSet::new();
        index.add_with(remote, local, &mut found);
        found.iter().map(|key| key.conid).collect()
    }

    #[test]
    fn connections_are_found_by_order_and_by_endpoints() {
        let index = index(&[30, 10, 20, 10], 30);
        assert_eq!(index.after(10, 1), [key(20)]);
        assert_eq!((all(&index), index.after(30, 5)), (vec![10, 20, 30], vec![]));
        let twenty = connection(20);
        assert_eq!(with(&index, twenty.remote(), None), [20]);
        assert_eq!(with(&index, twenty.remote(), Some(twenty.local())), [20]);
        assert!(with(&index, twenty.remote(), Some(twenty.remote())).is_empty());
        assert!(with(&index, connection(21).remote(), None).is_empty());
    }

    #[test]
    fn what_is_new_is_looked_for_until_it_is_certain_to_be_gone() {
        let mut index = index(&[10_000], 10_000);
        // Entries of the last conids before the reading may have been under way then.
        let asked = update(&mut index, 10_000, 1, &[9_990]);
        assert_eq!((asked.first(), asked.last(), asked.len()), (Some(&5_905), Some(&9_999), 4_095));
        assert_eq!(all(&index), [9_990, 10_000]);
        update(&mut index, 10_000, SECOND_NS, &[]);
        assert!(update(&mut index, 10_000, SECOND_NS, &[]).is_empty());
        assert_eq!(update(&mut index, 10_002, SECOND_NS, &[10_002]), [10_001, 10_002]);
        assert_eq!(update(&mut index, 10_002, SECOND_NS + LOOKED_FOR_NS - 1, &[]), [10_001]);
        assert!(update(&mut index, 10_002, 2 * SECOND_NS - 1, &[]).is_empty());
        assert_eq!(update(&mut index, 10_002, 2 * SECOND_NS, &[10_001]), [10_001], "it came late, and is found");
        assert_eq!(all(&index), [9_990, 10_000, 10_001, 10_002]);
        assert_eq!(with(&index, connection(10_001).remote(), None), [10_001]);
    }

    #[test]
    fn a_reading_failed_is_made_up_for() {
        let mut index = index(&[], 0);
        assert_eq!(index.update(2, 0, |conid| if conid == 1 { Err("no") } else { Ok(None) }), Err("no"));
        assert_eq!(update(&mut index, 2, 0, &[1]), [1, 2]);
        assert_eq!(all(&index), [1]);
    }

    #[test]
    fn the_map_is_read_anew_where_that_is_cheaper() {
        let index = index(&[1, 2, 3, 4], 4);
        assert!(!index.is_outdated(4) && !index.is_outdated(4 + FRESH));
        assert!(index.is_outdated(4 + FRESH + 2), "too much is new");
        assert!(index.is_outdated(3), "these are the conids of other pins");
    }
}
