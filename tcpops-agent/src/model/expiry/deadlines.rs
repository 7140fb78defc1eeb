//! Which connection is due next: an ordered set of times.

use std::collections::{BTreeSet, HashMap};

use tcpops_common::conn::ConnKey;

/// The times at which connections are due.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deadlines {
    by_time: BTreeSet<(u64, ConnKey)>,
    by_key: HashMap<ConnKey, u64>,
}

impl Deadlines {
    /// Sets the time of a connection, in place of an earlier one.
    pub(crate) fn set(&mut self, key: ConnKey, at_boot_ns: u64) {
        self.remove(key);
        self.by_key.insert(key, at_boot_ns);
        self.by_time.insert((at_boot_ns, key));
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, key: ConnKey) {
        if let Some(at_boot_ns) = self.by_key.remove(&key) {
            self.by_time.remove(&(at_boot_ns, key));
        }
    }

    /// When a connection is due.
    pub(crate) fn get(&self, key: ConnKey) -> Option<u64> {
        self.by_key.get(&key).copied()
    }

    /// When the next connection is due.
    pub(crate) fn first(&self) -> Option<u64> {
        self.by_time.first().map(|(at_boot_ns, _)| *at_boot_ns)
    }

    /// Removes and returns the next connection that is due by `now_boot_ns`.
    pub(crate) fn pop_due(&mut self, now_boot_ns: u64) -> Option<ConnKey> {
        let (at_boot_ns, key) = *self.by_time.first()?;
        if at_boot_ns > now_boot_ns {
            return None;
        }
        self.remove(key);
        Some(key)
    }

    /// How many connections have a time.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(conid: u64) -> ConnKey {
        ConnKey { cookie: conid, conid }
    }

    proptest! {
        /// Compared with a plain map: however times are set and removed, the due connections come out in order, once each.
        #[test]
        fn hands_out_what_is_due_in_order(
            steps in prop::collection::vec((0_u64..20, prop::option::of(0_u64..100)), 0..100), now in 0_u64..100,
        ) {
            let mut deadlines = Deadlines::default();
            let mut expected = HashMap::new();
            for (conid, at) in steps {
                match at {
                    Some(at) => { deadlines.set(key(conid), at); expected.insert(conid, at); }
                    None => { deadlines.remove(key(conid)); expected.remove(&conid); }
                }
            }
            prop_assert_eq!(deadlines.len(), expected.len());
            prop_assert_eq!(deadlines.first(), expected.values().min().copied());
            let mut due: Vec<_> = expected.iter().filter(|(_, at)| **at <= now).map(|(id, at)| (*at, *id)).collect();
            due.sort_unstable();
            let popped: Vec<_> = std::iter::from_fn(|| deadlines.pop_due(now)).map(|key| key.conid).collect();
            prop_assert_eq!(popped, due.iter().map(|(_, id)| *id).collect::<Vec<_>>());
            prop_assert!(deadlines.first().is_none_or(|at| at > now));
        }
    }
}
