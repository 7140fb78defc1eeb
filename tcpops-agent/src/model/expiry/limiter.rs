//! What keeps rules from closing too much: a budget of closes for all of them, and a cap for each.

use std::collections::{HashMap, VecDeque};

use crate::model::expiry::closing::Guard;

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;

/// What held a close back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bound {
    /// The budget of closes in a second.
    Budget,
    /// The cap of its rule in a minute.
    Cap,
}

impl Bound {
    /// The field of the guard that sets it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Budget => "closes_per_second",
            Self::Cap => "percent_per_minute",
        }
    }
}

/// A close that was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    /// By what.
    pub(crate) bound: Bound,
    /// When it is to be tried again.
    pub(crate) until_boot_ns: u64,
}

/// The closes that were let through lately, and whether there is room for one more.
///
/// Those that are held back get a turn each, at the pace that the bounds allow, so that a host full of them is not asked
/// about over and over. Nothing is kept of them here: whoever asks keeps the time.
#[derive(Clone, Debug, Default)]
pub(crate) struct CloseLimiter {
    guard: Guard,
    second: Second,
    minutes: HashMap<u32, Minute>,
    /// When it was last said of each rule that it is held back.
    said: HashMap<u32, u64>,
}

impl CloseLimiter {
    /// Puts other bounds in force. What was let through before counts under these; the turns that were given are void.
    pub(crate) fn set(&mut self, guard: Guard, now_boot_ns: u64) {
        self.guard = guard;
        self.second.last_turn_boot_ns = 0;
        // Rules come and go.
        self.said.retain(|_, said| now_boot_ns < said.saturating_add(MINUTE_NS));
        self.minutes.retain(|_, minute| now_boot_ns < minute.began_boot_ns.saturating_add(MINUTE_NS));
        for minute in self.minutes.values_mut() {
            minute.turns = 0;
        }
    }

    /// Lets a close of this rule through, or says when to ask again. `live` connections are there now.
    ///
    /// # Errors
    /// What holds it back.
    pub(crate) fn admit(&mut self, rule: u32, live: usize, now_boot_ns: u64) -> Result<(), Delay> {
        let cap = self.guard.percent_per_minute.map(|percent| cap(live, percent));
        let minute = self.minutes.entry(rule).or_insert(Minute { began_boot_ns: now_boot_ns, ..Minute::default() });
        minute.pass(now_boot_ns, cap.unwrap_or(0));
        if cap.is_some() && minute.closed >= minute.cap {
            return Err(Delay { bound: Bound::Cap, until_boot_ns: minute.turn() });
        }
        if let Some(budget) = self.guard.closes_per_second {
            self.second.admit(budget.max(1), now_boot_ns)?;
        }
        minute.closed += 1;
        Ok(())
    }

    /// Whether it is time to say that this rule is held back: once in a minute.
    pub(crate) fn is_log_due(&mut self, rule: u32, now_boot_ns: u64) -> bool {
        match self.said.get(&rule) {
            Some(said) if now_boot_ns < said.saturating_add(MINUTE_NS) => false,
            _ => {
                self.said.insert(rule, now_boot_ns);
                true
            }
        }
    }
}

/// The most closes of one rule in a minute. At least one: of few connections each is more than any percentage, and they
/// are to end as well.
fn cap(live: usize, percent: u8) -> u64 {
    let percent = u128::from(percent);
    u64::try_from(live as u128 * percent / 100).unwrap_or(u64::MAX).max(1)
}

/// The closes of the last second, by all rules.
#[derive(Clone, Debug, Default)]
struct Second {
    /// When each was let through, no more than the budget.
    closes: VecDeque<u64>,
    /// The last turn that was given away.
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

/// The closes of one rule in one minute after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    began_boot_ns: u64,
    /// Reckoned when the minute's first close was asked for.
    cap: u64,
    closed: u64,
    /// Given away in the minutes to come.
    turns: u64,
}

impl Minute {
    /// Comes to the minute of `now`, for which the cap is new.
    fn pass(&mut self, now_boot_ns: u64, cap: u64) {
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

    /// A turn in the next minute that has one.
    fn turn(&mut self) -> u64 {
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
        /// Connections come at any times and ask again when they are told to: never more than the bounds allow is let
        /// through, every one is let through in the end, and none asks much more often than it must.
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
