//! When to walk again to adopt connections that found no room in the maps.

/// The shortest time between two walks, nanoseconds.
pub(crate) const INTERVAL_NS: u64 = 10_000_000_000;
/// The longest, reached when walks in a row adopt nothing.
const LONGEST_NS: u64 = 300_000_000_000;

/// Tells when to walk for connections that were left out: seldom, and ever less often while a walk adopts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdoptBackoff {
    /// How many had been left out before the last walk.
    left_out_before: u64,
    /// How many have been left out since the maps were made.
    left_out: u64,
    /// When the next walk may begin; `None` during a walk.
    not_before_boot_ns: Option<u64>,
    wait_ns: u64,
}

/// The answer to whether a walk is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// No walk: nothing was left out, there is no room, or a walk is under way.
    None,
    /// A walk at this time.
    At(u64),
    /// A walk now.
    Now,
}

impl AdoptBackoff {
    /// The state after the walk at the start of the agent; `left_out` was counted before that walk.
    pub(crate) fn new(now_boot_ns: u64, left_out: u64) -> Self {
        let not_before_boot_ns = Some(now_boot_ns.saturating_add(INTERVAL_NS));
        Self { left_out_before: left_out, left_out, not_before_boot_ns, wait_ns: INTERVAL_NS }
    }

    /// Takes note of how many connections have been left out so far; true if they are more than before.
    pub(crate) fn note(&mut self, left_out: u64) -> bool {
        std::mem::replace(&mut self.left_out, left_out) != left_out
    }

    /// True if some were left out since the last walk.
    pub(crate) fn is_waiting(&self) -> bool {
        self.left_out != self.left_out_before
    }

    /// Tells whether a walk is due. `has_room` says that the maps have room.
    pub(crate) fn attempt(&self, now_boot_ns: u64, has_room: bool) -> Attempt {
        match self.not_before_boot_ns {
            None => Attempt::None,
            Some(_) if !self.is_waiting() || !has_room => Attempt::None,
            Some(at_boot_ns) if now_boot_ns < at_boot_ns => Attempt::At(at_boot_ns),
            Some(_) => Attempt::Now,
        }
    }

    /// Takes note that a walk begins. The connections that it leaves out count for the next one.
    pub(crate) fn begin(&mut self) {
        self.left_out_before = self.left_out;
        self.not_before_boot_ns = None;
    }

    /// Takes note that a walk ended, and of how many connections it adopted.
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
