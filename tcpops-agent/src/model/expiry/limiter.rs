//! The guard's bounds on closes: a budget a second for all rules together, and a cap a minute for each rule.

use std::collections::{HashMap, VecDeque};

use strum::IntoStaticStr;

use crate::model::expiry::closing::Guard;

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;

/// A bound that delays closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
pub(crate) enum Bound {
    /// The budget of closes in a second.
    #[strum(serialize = "closes_per_second")]
    Budget,
    /// The cap of the rule in a minute.
    #[strum(serialize = "percent_per_minute")]
    Cap,
}

impl Bound {
    /// The field of the guard that sets it.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// Why and for how long a close is delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) bound: Bound,
    /// When to try again.
    pub(crate) until_boot_ns: u64,
}

/// Admits closes up to the guard's bounds.
///
/// Each delayed close gets a turn of its own, at the pace that the bounds allow, so that a host full of them does not try
/// all of them again at once. The caller keeps the turns; nothing about them is stored here.
#[derive(Clone, Debug, Default)]
pub(crate) struct CloseLimiter {
    guard: Guard,
    second: Second,
    minutes: HashMap<u32, Minute>,
    /// When a delay of each rule was last logged.
    logged: HashMap<u32, u64>,
}

impl CloseLimiter {
    /// Puts other bounds in force. The closes so far count under them, but the turns given away are void.
    pub(crate) fn set(&mut self, guard: Guard, now_boot_ns: u64) {
        self.guard = guard;
        self.second.last_turn_boot_ns = 0;
        // A rule that is gone must not stay here for ever.
        self.logged.retain(|_, logged| now_boot_ns < logged.saturating_add(MINUTE_NS));
        self.minutes.retain(|_, minute| now_boot_ns < minute.began_boot_ns.saturating_add(MINUTE_NS));
        for minute in self.minutes.values_mut() {
            minute.turns = 0;
        }
    }

    /// Admits a close by this rule, while there are `live` connections.
    ///
    /// # Errors
    /// Returns the bound that delays the close, and when to try again.
    pub(crate) fn admit(&mut self, rule: u32, live: usize, now_boot_ns: u64) -> Result<(), Delay> {
        let cap = self.guard.percent_per_minute.map(|percent| cap(live, percent));
        let minute = self.minutes.entry(rule).or_insert(Minute { began_boot_ns: now_boot_ns, ..Minute::default() });
        minute.advance(now_boot_ns, cap.unwrap_or(0));
        if cap.is_some() && minute.closed >= minute.cap {
            return Err(Delay { bound: Bound::Cap, until_boot_ns: minute.take_turn() });
        }
        if let Some(budget) = self.guard.closes_per_second {
            self.second.admit(budget.max(1), now_boot_ns)?;
        }
        minute.closed += 1;
        Ok(())
    }

    /// True once a minute for each rule: then its delays are logged.
    pub(crate) fn is_log_due(&mut self, rule: u32, now_boot_ns: u64) -> bool {
        let is_due = self.logged.get(&rule).is_none_or(|logged| now_boot_ns >= logged.saturating_add(MINUTE_NS));
        if is_due {
            self.logged.insert(rule, now_boot_ns);
        }
        is_due
    }
}

/// The most closes of one rule in a minute. It is at least one, since among few connections a single one exceeds any
/// percentage, and they should end too.
fn cap(live: usize, percent: u8) -> u64 {
    let percent = u128::from(percent);
    u64::try_from(live as u128 * percent / 100).unwrap_or(u64::MAX).max(1)
}

/// The closes of the last second, by all rules.
#[derive(Clone, Debug, Default)]
struct Second {
    /// When each was admitted; never more of them than the budget.
    closes: VecDeque<u64>,
    /// The last turn that was given to a delayed close.
    last_turn_boot_ns: u64,
}

impl Second {
    fn admit(&mut self, budget: u32, now_boot_ns: u64) -> Result<(), Delay> {
        while self.closes.front().is_some_and(|close| close.saturating_add(SECOND_NS) <= now_boot_ns) {
            self.closes.pop_front();
        }
        let Some(first) = self.closes.front().filter(|_| self.closes.len() >= budget as usize) else {
            self.closes.push_back(now_boot_ns);
            return Ok(());
        };
        let next = self.last_turn_boot_ns.saturating_add(SECOND_NS / u64::from(budget));
        self.last_turn_boot_ns = next.max(first.saturating_add(SECOND_NS));
        Err(Delay { bound: Bound::Budget, until_boot_ns: self.last_turn_boot_ns })
    }
}

/// The closes of one rule in the current minute.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    began_boot_ns: u64,
    /// Computed at the minute's first close.
    cap: u64,
    closed: u64,
    /// How many closes were given a turn in a later minute.
    turns: u64,
}

impl Minute {
    /// Moves on to the minute of `now_boot_ns`, which gets a new cap.
    fn advance(&mut self, now_boot_ns: u64, cap: u64) {
        let passed = now_boot_ns.saturating_sub(self.began_boot_ns) / MINUTE_NS;
        if passed > 0 {
            self.turns = self.turns.saturating_sub(passed.saturating_mul(self.cap));
            self.began_boot_ns += passed * MINUTE_NS;
            self.closed = 0;
        }
        if self.closed == 0 {
            self.cap = cap;
        }
    }

    /// Gives away a turn in the next minute that has one left.
    fn take_turn(&mut self) -> u64 {
        let minutes = 1 + self.turns / self.cap.max(1);
        self.turns += 1;
        self.began_boot_ns.saturating_add(minutes.saturating_mul(MINUTE_NS))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn limiter(closes_per_second: Option<u32>, percent_per_minute: Option<u8>) -> CloseLimiter {
        let mut limiter = CloseLimiter::default();
        limiter.set(Guard { closes_per_second, percent_per_minute, ..Guard::default() }, 0);
        limiter
    }

    #[test]
    fn without_bounds_everything_passes() {
        let mut limiter = limiter(None, None);
        assert!((0..10_000).all(|_| limiter.admit(1, 1, 5).is_ok()));
    }

    #[test]
    fn a_budget_is_for_all_rules_and_gives_turns() {
        let mut limiter = limiter(Some(2), None);
        assert_eq!((limiter.admit(1, 9, 0), limiter.admit(2, 9, 300_000_000)), (Ok(()), Ok(())));
        let delay = |until_boot_ns| Err(Delay { bound: Bound::Budget, until_boot_ns });
        assert_eq!(limiter.admit(3, 9, 400_000_000), delay(SECOND_NS));
        assert_eq!(limiter.admit(3, 9, 400_000_000), delay(SECOND_NS + SECOND_NS / 2));
        assert_eq!(limiter.admit(3, 9, SECOND_NS), Ok(()));
        assert_eq!(limiter.admit(3, 9, SECOND_NS + SECOND_NS / 2), Ok(()));
    }

    #[test]
    fn a_cap_is_for_each_rule_and_minute() {
        let mut limiter = limiter(None, Some(20));
        let delay = |minute| Err(Delay { bound: Bound::Cap, until_boot_ns: 7 + minute * MINUTE_NS });
        assert_eq!(
            [limiter.admit(1, 10, 7), limiter.admit(1, 9, 8), limiter.admit(1, 8, 9)],
            [Ok(()), Ok(()), delay(1)]
        );
        assert_eq!([limiter.admit(1, 8, 9), limiter.admit(1, 8, 9)], [delay(1), delay(2)]);
        assert_eq!(limiter.admit(2, 10, 9), Ok(()));
        // Eight are left, of which a fifth is one.
        assert_eq!(limiter.admit(1, 8, 7 + MINUTE_NS), Ok(()));
        assert!(limiter.admit(1, 8, 7 + MINUTE_NS).is_err());
    }

    #[test]
    fn the_only_connection_may_be_closed() {
        let mut limiter = limiter(None, Some(1));
        assert_eq!(limiter.admit(1, 1, 0), Ok(()));
        assert!(limiter.admit(1, 1, 1).is_err());
    }

    #[test]
    fn other_bounds_count_at_once() {
        let mut limiter = limiter(Some(1), Some(1));
        assert_eq!(limiter.admit(1, 100, 0), Ok(()));
        assert!(limiter.admit(1, 100, 0).is_err());
        limiter.set(Guard::default(), 0);
        assert_eq!(limiter.admit(1, 100, 0), Ok(()));
        limiter.set(Guard { closes_per_second: Some(3), ..Guard::default() }, 0);
        assert_eq!([limiter.admit(1, 100, 0), limiter.admit(1, 100, 0)], [Ok(()), Ok(())]);
        assert_eq!(limiter.admit(1, 100, 0), Err(Delay { bound: Bound::Budget, until_boot_ns: SECOND_NS }));
    }

    #[test]
    fn a_rule_is_named_once_a_minute() {
        let mut limiter = CloseLimiter::default();
        assert!(limiter.is_log_due(1, 5) && limiter.is_log_due(2, 6));
        assert!(!limiter.is_log_due(1, 4 + MINUTE_NS) && limiter.is_log_due(1, 5 + MINUTE_NS));
    }

    proptest! {
        /// Closes come at any time and are tried again when their turn comes: never more are admitted than the bounds
        /// allow, each is admitted in the end, and none is tried much more often than it must be.
        #[test]
        fn never_too_many_and_none_is_lost(
            come in prop::collection::vec((0_u64..5 * SECOND_NS, 1_u32..3), 1..150),
            budget in prop::option::of(1_u32..20), percent in prop::option::of(1_u8..=100), live in 1_usize..100,
        ) {
            let mut limiter = limiter(budget, percent);
            let mut due: BTreeSet<(u64, usize, u32)> =
                come.iter().enumerate().map(|(index, (at, rule))| (*at, index, *rule)).collect();
            let mut passed: Vec<(u64, u32)> = Vec::new();
            let mut asked = 0;
            while let Some((now, index, rule)) = due.pop_first() {
                asked += 1;
                prop_assert!(asked <= 20 * come.len(), "still {} to pass", due.len());
                match limiter.admit(rule, live, now) {
                    Ok(()) => passed.push((now, rule)),
                    Err(delay) => {
                        prop_assert!(delay.until_boot_ns > now);
                        due.insert((delay.until_boot_ns, index, rule));
                    }
                }
            }
            prop_assert_eq!(passed.len(), come.len());
            for (at, rule) in &passed {
                let within = |span| passed.iter().filter(move |(other, _)| (*at..at + span).contains(other));
                if let Some(budget) = budget {
                    prop_assert!(within(SECOND_NS).count() <= budget as usize);
                }
                if let Some(percent) = percent {
                    // A minute of the clock overlaps with two of the rule's.
                    let closed = within(MINUTE_NS).filter(|(_, other)| other == rule).count() as u64;
                    prop_assert!(closed <= 2 * cap(live, percent));
                }
            }
        }
    }
}
