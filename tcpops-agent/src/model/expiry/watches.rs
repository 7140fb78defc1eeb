//! What is under way with each connection. Most have nothing under way, and take no memory here.

use std::collections::HashMap;

use tcpops_common::conn::ConnKey;

use crate::model::expiry::effects::PendingClose;
use crate::model::expiry::limiter::Bound;

/// What is under way with one connection, and what is remembered of it until it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// How far its close is.
    pub(crate) phase: Phase,
    /// How often closing it has failed in a row.
    pub(crate) failures: u8,
    /// The limits that are over without closing it, as [bits](super::lifetimes::Expiry::bit); each is reported once.
    pub(crate) exempt: u8,
}

/// How far the close of a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No close is under way.
    #[default]
    Watched,
    /// Its time is over, and this bound of the guard delays the close.
    Throttled(Bound),
    /// A close was begun.
    Closing(PendingClose),
    /// A FIN was sent; the connection is reset at this time.
    Grace(PendingClose, u64),
}

impl Phase {
    /// The close that was begun.
    pub(crate) fn pending_close(self) -> Option<PendingClose> {
        match self {
            Self::Closing(pending_close) | Self::Grace(pending_close, _) => Some(pending_close),
            Self::Watched | Self::Throttled(_) => None,
        }
    }

    /// When a connection that was sent a FIN is reset.
    pub(crate) fn reset_at(self) -> Option<u64> {
        if let Self::Grace(_, reset_at_boot_ns) = self { Some(reset_at_boot_ns) } else { None }
    }

    /// The bound that delays the close.
    pub(crate) fn throttled_by(self) -> Option<Bound> {
        if let Self::Throttled(bound) = self { Some(bound) } else { None }
    }
}

/// The watches by connection. One that says nothing is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    by_key: HashMap<ConnKey, Watch>,
    throttled: usize,
}

impl Watches {
    /// How far the close of a connection is.
    pub(crate) fn phase(&self, key: ConnKey) -> Phase {
        self.by_key.get(&key).map_or(Phase::Watched, |watch| watch.phase)
    }

    /// The limits of a connection that are over without closing it, as bits.
    pub(crate) fn exempt(&self, key: ConnKey) -> u8 {
        self.by_key.get(&key).map_or(0, |watch| watch.exempt)
    }

    /// Changes what is under way with a connection.
    pub(crate) fn update<T>(&mut self, key: ConnKey, change: impl FnOnce(&mut Watch) -> T) -> T {
        let mut watch = self.by_key.remove(&key).unwrap_or_default();
        self.throttled -= usize::from(watch.phase.throttled_by().is_some());
        let result = change(&mut watch);
        self.throttled += usize::from(watch.phase.throttled_by().is_some());
        if watch != Watch::default() {
            self.by_key.insert(key, watch);
        }
        result
    }

    /// Changes all watches, and drops those for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&ConnKey, &mut Watch) -> bool) {
        self.by_key.retain(|key, watch| keep(key, watch) && *watch != Watch::default());
        self.throttled = self.by_key.values().filter(|watch| watch.phase.throttled_by().is_some()).count();
    }

    /// The connections with which something is under way.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ConnKey> {
        self.by_key.keys().copied()
    }

    /// True if something is under way with a connection.
    pub(crate) fn has(&self, key: ConnKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// How many closes the guard delays.
    pub(crate) fn throttled(&self) -> usize {
        self.throttled
    }
}

const _: () = assert!(size_of::<(ConnKey, Watch)>() <= 48, "a connection with something under way takes 48 bytes");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_says_nothing_is_dropped() {
        let [first, second] = [1, 2].map(|conid| ConnKey { cookie: conid, conid });
        let mut watches = Watches::default();
        watches.update(first, |watch| watch.phase = Phase::Throttled(Bound::Cap));
        watches.update(second, |watch| (watch.phase, watch.exempt) = (Phase::Throttled(Bound::Budget), 1));
        assert_eq!((watches.by_key.len(), watches.throttled()), (2, 2));
        watches.update(first, |watch| watch.phase = Phase::Watched);
        assert_eq!((watches.by_key.len(), watches.throttled()), (1, 1));
        watches.update(second, |watch| watch.phase = Phase::Watched);
        assert_eq!((watches.exempt(second), watches.throttled()), (1, 0));
        watches.retain(|_, watch| {
            watch.exempt = 0;
            true
        });
        assert!(watches.by_key.is_empty());
    }
}
