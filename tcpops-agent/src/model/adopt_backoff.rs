//! When to walk again for connections that found no room.

/// The least time between two walks, nanoseconds.
pub(crate) const INTERVAL_NS: u64 = 10_000_000_000;
/// The most, where one after the other takes nothing in.
const LONGEST_NS: u64 = 300_000_000_000;

/// Whether connections were left out, and when the next attempt to take them in may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdoptBackoff {
    /// How many had been left out before the last walk.
    left_out_then: u64,
    /// How many have been left out since the maps were made.
    left_out: u64,
    /// When the next walk may be; `None` while there is one.
    not_before_boot_ns: Option<u64>,
    wait_ns: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Nothing: nobody was left out, there is no room, or a walk is under way.
    None,
    /// A walk, at this time.
    At(u64),
    /// A walk.
    Now,
}

impl AdoptBackoff {
    /// After the first walk, at the start of the agent; `left_out` as it was before that.
    pub(crate) fn new(now_boot_ns: u64, left_out: u64) -> Self {
        let not_before_boot_ns = Some(now_boot_ns.saturating_add(INTERVAL_NS));
        Self { left_out_then: left_out, left_out, not_before_boot_ns, wait_ns: INTERVAL_NS }
    }

    /// How many connections have been left out by now.
    pub(crate) fn note(&mut self, left_out: u64) {
        self.left_out = left_out;
    }

    /// What is to be done, with or without room in the maps.
    pub(crate) fn attempt(&self, now_boot_ns: u64, has_room: bool) -> Attempt {
        match self.not_before_boot_ns {
            Some(_) if self.left_out == self.left_out_then || !has_room => Attempt::None,
            Some(at_boot_ns) if now_boot_ns < at_boot_ns => Attempt::At(at_boot_ns),
            Some(_) => Attempt::Now,
            None => Attempt::None,
        }
    }

    /// A walk begins. Those that it leaves out count anew.
    pub(crate) fn begin(&mut self) {
        self.left_out_then = self.left_out;
        self.not_before_boot_ns = None;
    }

    /// A walk took so many in.
    pub(crate) fn end(&mut self, now_boot_ns: u64, adopted: u64) {
        self.wait_ns = if adopted > 0 { INTERVAL_NS } else { (self.wait_ns * 2).min(LONGEST_NS) };
        self.not_before_boot_ns = Some(now_boot_ns.saturating_add(self.wait_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_left_out_no_walk() {
        let adopt_backoff = AdoptBackoff::new(5, 7);
        assert_eq!(adopt_backoff.attempt(u64::MAX, true), Attempt::None);
    }

    #[test]
    fn once_there_is_room_and_not_too_often() {
        let mut adopt_backoff = AdoptBackoff::new(0, 7);
        adopt_backoff.note(9);
        assert_eq!(adopt_backoff.attempt(INTERVAL_NS, false), Attempt::None);
        assert_eq!(adopt_backoff.attempt(1, true), Attempt::At(INTERVAL_NS));
        assert_eq!(adopt_backoff.attempt(INTERVAL_NS, true), Attempt::Now);
        adopt_backoff.begin();
        adopt_backoff.note(10);
        assert_eq!(adopt_backoff.attempt(INTERVAL_NS, true), Attempt::None, "one at a time");
        adopt_backoff.end(20_000_000_000, 2);
        // One was left out while it walked, or by it.
        assert_eq!(adopt_backoff.attempt(20_000_000_000, true), Attempt::At(30_000_000_000));
        adopt_backoff.begin();
        adopt_backoff.end(40_000_000_000, 1);
        assert_eq!(adopt_backoff.attempt(u64::MAX, true), Attempt::None);
    }

    #[test]
    fn ever_more_seldom_where_it_takes_nothing_in() {
        let mut adopt_backoff = AdoptBackoff::new(0, 0);
        let mut now = 0;
        for wait_s in [20, 40, 80, 160, 300, 300] {
            adopt_backoff.begin();
            adopt_backoff.note(adopt_backoff.left_out + 1);
            adopt_backoff.end(now, 0);
            now += wait_s * 1_000_000_000;
            assert_eq!(adopt_backoff.attempt(now - 1, true), Attempt::At(now));
        }
        adopt_backoff.end(now, 1);
        assert_eq!(adopt_backoff.attempt(now, true), Attempt::At(now + INTERVAL_NS));
    }
}
