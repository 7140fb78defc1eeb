//! How often all connections are looked at, and of which the kernel programs tell at once.
//!
//! Most connections end long before a limit of theirs. So the kernel programs do not tell of a connection that has a long
//! limit: the agent comes upon it when it looks at all of them, in time for the limit, and remembers it only where the
//! limit may be over before the look after the next.

use tcpops_common::policy::{Lifetime, limit_begins};

use crate::model::expiry::closing::ClosePolicy;

/// The kernel programs tell at once of a connection with a limit shorter than this, nanoseconds.
const TOLD_BELOW_NS: u64 = 60_000_000_000;
/// The longest time between two looks: it bounds how many connections are remembered.
const LONGEST_NS: u64 = 300_000_000_000;

/// When all connections are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks {
    /// The time between two looks.
    every_ns: u64,
    /// When the next look is due; `None` while no connection can have a limit that is not remembered, and during a look.
    next_boot_ns: Option<u64>,
    /// Some rule has a limit of which the kernel programs do not tell.
    by_rules: bool,
}

impl Default for Looks {
    fn default() -> Self {
        Self { every_ns: LONGEST_NS, next_boot_ns: None, by_rules: false }
    }
}

impl Looks {
    /// Other rules are in force; the shortest limit of theirs of which the kernel programs do not tell is this.
    ///
    /// Half of it lies between two looks: a connection that a look has just missed is met by the next one, before its
    /// limit is over.
    pub(crate) fn set(&mut self, shortest_untold_ns: Option<u64>, now_boot_ns: u64) {
        self.by_rules = shortest_untold_ns.is_some();
        self.every_ns = shortest_untold_ns.map_or(LONGEST_NS, |shortest| (shortest / 2).min(LONGEST_NS));
        self.next_boot_ns = self.next_boot_ns.map(|next| next.min(now_boot_ns.saturating_add(self.every_ns)));
    }

    /// A limit that ends then must be remembered: no look comes before.
    pub(crate) fn must_remember(&self, ends_boot_ns: u64, now_boot_ns: u64) -> bool {
        ends_boot_ns <= now_boot_ns.saturating_add(2 * self.every_ns)
    }

    /// A look is over; some limits that it found were not remembered, if `passed_over`.
    pub(crate) fn looked(&mut self, passed_over: bool, now_boot_ns: u64) {
        let wanted = self.by_rules || passed_over;
        self.next_boot_ns = wanted.then(|| now_boot_ns.saturating_add(self.every_ns));
    }

    /// When the next look is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.next_boot_ns
    }

    /// True if a look is due; it then begins.
    pub(crate) fn begin(&mut self, now_boot_ns: u64) -> bool {
        self.next_boot_ns.take_if(|next| *next <= now_boot_ns).is_some()
    }
}

/// The limits of a policy and its rule, nanoseconds; a deadline, which is a time, has no length.
fn lengths(lifetime: &Lifetime, rule: &ClosePolicy) -> [u64; 5] {
    [lifetime.idle_ns, lifetime.max_age_ns, rule.first_byte_ns, rule.half_closed_ns, rule.connect_ns]
}

/// The shortest of a rule's limits of which the kernel programs do not tell.
pub(crate) fn shortest_untold_ns(lifetime: &Lifetime, rule: &ClosePolicy) -> Option<u64> {
    lengths(lifetime, rule).into_iter().filter(|length| *length >= TOLD_BELOW_NS).min()
}

/// The moments of which the kernel programs tell at once, where a connection has these limits: the bits of
/// [`Policy::tells`](tcpops_common::policy::Policy::tells).
pub(crate) fn tells(lifetime: &Lifetime, rule: &ClosePolicy) -> u8 {
    let short = |lengths: &[u64]| lengths.iter().any(|length| (1..TOLD_BELOW_NS).contains(length));
    let mut tells = 0;
    if short(&[rule.connect_ns]) {
        tells |= limit_begins::AT_CONNECT;
    }
    // How soon a deadline is depends on the connection.
    if short(&[lifetime.idle_ns, lifetime.max_age_ns, rule.first_byte_ns]) || lifetime.deadline_boot_ns != 0 {
        tells |= limit_begins::AT_ESTABLISHED;
    }
    if short(&[rule.half_closed_ns]) {
        tells |= limit_begins::AT_HALF_CLOSED;
    }
    tells
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn short_limits_are_told_and_long_ones_looked_for() {
        let hour = Lifetime { max_age_ns: 3_600 * SECOND, ..Lifetime::NONE };
        assert_eq!(tells(&hour, &ClosePolicy::DEFAULT), 0);
        assert_eq!(shortest_untold_ns(&hour, &ClosePolicy::DEFAULT), Some(3_600 * SECOND));
        let mixed = ClosePolicy { first_byte_ns: 10 * SECOND, half_closed_ns: 90 * SECOND, ..ClosePolicy::DEFAULT };
        assert_eq!(tells(&hour, &mixed), limit_begins::AT_ESTABLISHED);
        assert_eq!(shortest_untold_ns(&hour, &mixed), Some(90 * SECOND));
        let short = ClosePolicy { half_closed_ns: 5 * SECOND, connect_ns: 59 * SECOND, ..ClosePolicy::DEFAULT };
        assert_eq!(tells(&Lifetime::NONE, &short), limit_begins::AT_HALF_CLOSED | limit_begins::AT_CONNECT);
        assert_eq!(shortest_untold_ns(&Lifetime::NONE, &short), None);
        let deadline = Lifetime { deadline_boot_ns: 7, ..Lifetime::NONE };
        assert_eq!(tells(&deadline, &ClosePolicy::DEFAULT), limit_begins::AT_ESTABLISHED);
    }

    #[test]
    fn every_limit_is_met_by_a_look_that_remembers_it() {
        for shortest in [60 * SECOND, 61 * SECOND, 600 * SECOND, 86_400 * SECOND] {
            let mut looks = Looks::default();
            looks.set(Some(shortest), 0);
            looks.looked(false, 0);
            let next = looks.next_due().unwrap();
            // Established right after the look at 0; the look after this one comes too late.
            assert!(next < shortest);
            assert!(looks.must_remember(shortest.min(2 * next), 0));
            assert!(looks.begin(next) && looks.next_due().is_none());
        }
    }

    #[test]
    fn without_long_limits_nothing_is_looked_at() {
        let mut looks = Looks::default();
        looks.set(None, 0);
        looks.looked(false, 5);
        assert_eq!(looks.next_due(), None);
        // An override has a limit that is far off.
        looks.looked(true, 5);
        assert_eq!(looks.next_due(), Some(5 + LONGEST_NS));
        looks.set(Some(100 * SECOND), 6);
        assert_eq!(looks.next_due(), Some(6 + 50 * SECOND));
    }
}
