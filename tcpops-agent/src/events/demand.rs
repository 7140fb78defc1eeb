//! What readers want of the kernel programs: nothing is told that nobody reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::history::record::Kinds;

/// How many readers want what.
#[derive(Debug, Default)]
pub(super) struct Counts {
    readers: AtomicUsize,
    /// Those that want to know what happens to connections that live.
    of_living: AtomicUsize,
}

/// What the readers together want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demanded {
    /// Somebody reads: what happens is to be published at once.
    pub(crate) at_once: bool,
    /// Somebody wants to know what happens to connections that live.
    pub(crate) of_living: bool,
}

impl Counts {
    pub(super) fn demanded(&self) -> Demanded {
        let any = |count: &AtomicUsize| count.load(Ordering::Acquire) != 0;
        Demanded { at_once: any(&self.readers), of_living: any(&self.of_living) }
    }
}

/// The demand of one reader, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Demand {
    counts: Arc<Counts>,
    of_living: bool,
}

impl Demand {
    pub(super) fn new(counts: Arc<Counts>, kinds: Kinds) -> Self {
        let of_living = kinds.of_living();
        counts.readers.fetch_add(1, Ordering::AcqRel);
        if of_living {
            counts.of_living.fetch_add(1, Ordering::AcqRel);
        }
        Self { counts, of_living }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.counts.readers.fetch_sub(1, Ordering::AcqRel);
        if self.of_living {
            self.counts.of_living.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::history::record::Kind;

    #[test]
    fn what_is_wanted_ends_with_those_who_want_it() {
        let counts = Arc::new(Counts::default());
        let demand = |kinds| Demand::new(Arc::clone(&counts), kinds);
        assert_eq!(counts.demanded(), Demanded::default());
        let of_ends = demand(Kinds::NONE.with(Kind::Closed));
        assert_eq!(counts.demanded(), Demanded { at_once: true, of_living: false });
        let of_all = demand(Kinds::ALL);
        assert_eq!(counts.demanded(), Demanded { at_once: true, of_living: true });
        drop(of_all);
        assert_eq!(counts.demanded(), Demanded { at_once: true, of_living: false });
        drop(of_ends);
        assert_eq!(counts.demanded(), Demanded::default());
    }
}
