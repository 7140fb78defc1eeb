//! The connections that one request is about.

use std::collections::{BTreeMap, BTreeSet};

use tcpops_common::conn::{ConnKey, Connection, Direction};

use crate::model::requests::filter::Filter;

/// Collects the connections that a filter matches while a map is read. A connection that the map moves meanwhile may come
/// twice.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    filter: Filter,
    /// True if listeners are taken; false if they are only counted.
    with_listeners: bool,
    /// The most connections that are taken.
    max: usize,
    chosen: BTreeMap<u64, (ConnKey, Connection)>,
    listeners: BTreeSet<u64>,
}

/// The connections that were selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    /// The connections, in the order of their conids.
    pub(crate) connections: Vec<(ConnKey, Connection)>,
    /// How many listeners matched but were not taken.
    pub(crate) listeners: usize,
}

/// The error where more connections match than may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Selection {
    /// Makes an empty selection.
    pub(crate) fn new(filter: Filter, with_listeners: bool, max: usize) -> Self {
        Self { filter, with_listeners, max, chosen: BTreeMap::new(), listeners: BTreeSet::new() }
    }

    /// Takes a connection if it matches. Returns false once there are too many.
    pub(crate) fn offer(&mut self, key: ConnKey, connection: &Connection) -> bool {
        if !self.filter.matches(key.conid, connection) {
            return true;
        }
        if connection.direction == Direction::Listen && !self.with_listeners {
            self.listeners.insert(key.conid);
        } else {
            self.chosen.insert(key.conid, (key, *connection));
        }
        self.chosen.len() <= self.max
    }

    /// Ends the selection.
    ///
    /// # Errors
    /// Fails if there were too many.
    pub(crate) fn finish(self) -> Result<Selected, TooMany> {
        if self.chosen.len() > self.max {
            return Err(TooMany);
        }
        Ok(Selected { connections: self.chosen.into_values().collect(), listeners: self.listeners.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::connection;

    fn key(conid: u64) -> ConnKey {
        ConnKey { cookie: 100 + conid, conid }
    }

    fn conids(selected: &Selected) -> Vec<u64> {
        selected.connections.iter().map(|(key, _)| key.conid).collect()
    }

    #[test]
    fn each_that_matches_is_taken_once() {
        let mut selection = Selection::new(Filter { uid: Some(1000), ..Filter::default() }, true, 2);
        for conid in [3, 1, 3] {
            assert!(selection.offer(key(conid), &connection()));
        }
        assert!(selection.offer(key(2), &Connection { uid: 0, ..connection() }));
        assert_eq!(conids(&selection.finish().unwrap()), [1, 3]);
    }

    #[test]
    fn listeners_are_counted_where_they_are_left_out() {
        let listener = Connection { direction: Direction::Listen, ..connection() };
        for (with_listeners, chosen, left_out) in [(true, vec![1, 2], 0), (false, vec![2], 1)] {
            let mut selection = Selection::new(Filter::default(), with_listeners, 9);
            for _ in 0..2 {
                assert!(selection.offer(key(1), &listener) && selection.offer(key(2), &connection()));
            }
            let selected = selection.finish().unwrap();
            assert_eq!((conids(&selected), selected.listeners), (chosen, left_out));
        }
    }

    #[test]
    fn too_many_are_none() {
        let mut selection = Selection::new(Filter::default(), false, 2);
        assert!(selection.offer(key(1), &connection()) && selection.offer(key(2), &connection()));
        assert!(!selection.offer(key(3), &connection()));
        assert_eq!(selection.finish(), Err(TooMany));
    }
}
