//! The agent's own counters. They begin with its start; those of the kernel programs go on over restarts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum AgentCounter { $($(#[doc = $doc])+ $variant,)+ }

        impl AgentCounter {
            /// Everything that is counted, in order.
            pub(crate) const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name under which it is shown.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts, in a sentence.
            pub(crate) const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

counts! {
    /// Connections that were reset because a limit of a rule was over, or one that was pushed.
    ExpiredReset = "expired_reset",
    /// Connections to which a FIN was sent for the same reason.
    ExpiredFin = "expired_fin",
    /// Connections that were reset because somebody asked for it.
    RequestedReset = "requested_reset",
    /// Connections to which a FIN was sent because somebody asked for it.
    RequestedFin = "requested_fin",
    /// Connections that were reset at once where a FIN was wanted, since no process could be found that has them open.
    FinImpossible = "fin_impossible",
    /// Connections that cannot be closed: subflows of MPTCP connections, orphans before Linux 6.11, listeners.
    NotClosable = "not_closable",
    /// Attempts to close a connection that failed; those that a limit asks for are tried again.
    CloseFailed = "close_failed",
    /// Connections that were held back because the budget of closes in a second was spent.
    HeldByBudget = "held_by_budget",
    /// Connections that were held back because their rule had closed its share in that minute.
    HeldByCap = "held_by_cap",
    /// Connections that no rule closes, whose time was over by one.
    Protected = "protected",
    /// Connections that a rule which is not enforced would have closed.
    NotEnforced = "not_enforced",
    /// Resets that came less than 10 ms after the limit was over.
    LateUnder10ms = "close_late_under_10ms",
    /// Resets that came 10 to 100 ms after the limit was over.
    LateUnder100ms = "close_late_under_100ms",
    /// Resets that came 100 ms to 1 s after the limit was over.
    LateUnder1s = "close_late_under_1s",
    /// Resets that came more than 1 s after the limit was over; those that were held back are in none of these four.
    LateOver1s = "close_late_over_1s",
    /// Resets that were made under the lock of the socket, where no other connection can take its place; those below were not.
    UnderLock = "close_under_lock",
    /// Resets of which less than 10 us were between the last look whether it is the right connection and the kernel's answer.
    WindowUnder10us = "close_window_under_10us",
    /// Resets of which this took 10 to 100 us.
    WindowUnder100us = "close_window_under_100us",
    /// Resets of which this took 100 us to 1 ms.
    WindowUnder1ms = "close_window_under_1ms",
    /// Resets of which this took more than 1 ms.
    WindowOver1ms = "close_window_over_1ms",
    /// Runs of the hook that ended with exit code 0.
    HookDone = "hook_done",
    /// Runs of the hook that ended otherwise, or could not begin.
    HookFailed = "hook_failed",
    /// Runs of the hook that took too long and were killed.
    HookKilled = "hook_killed",
    /// Events that were dropped for the hook, since too many waited for it.
    DroppedForHook = "hook_dropped",
}

/// The counts.
#[derive(Debug)]
pub(crate) struct AgentCounters {
    counts: [AtomicU64; AgentCounter::ALL.len()],
    longest_window_ns: AtomicU64,
}

impl Default for AgentCounters {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; AgentCounter::ALL.len()], longest_window_ns: AtomicU64::new(0) }
    }
}

impl AgentCounters {
    /// One more.
    pub(crate) fn add(&self, count: AgentCounter) {
        self.add_many(count, 1);
    }

    /// So many more.
    pub(crate) fn add_many(&self, count: AgentCounter, more: u64) {
        self.counts[count as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// The value of a counter.
    pub(crate) fn get(&self, count: AgentCounter) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// A reset was made so long after the limit was over.
    pub(crate) fn late(&self, late: Duration) {
        self.add(match late.as_millis() {
            0..10 => AgentCounter::LateUnder10ms,
            10..100 => AgentCounter::LateUnder100ms,
            100..1000 => AgentCounter::LateUnder1s,
            _ => AgentCounter::LateOver1s,
        });
    }

    /// A reset was made with so long between the last look and the kernel's answer.
    pub(crate) fn window(&self, window: Duration) {
        self.add(match window.as_micros() {
            0..10 => AgentCounter::WindowUnder10us,
            10..100 => AgentCounter::WindowUnder100us,
            100..1000 => AgentCounter::WindowUnder1ms,
            _ => AgentCounter::WindowOver1ms,
        });
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        self.longest_window_ns.fetch_max(window_ns, Ordering::Relaxed);
    }

    /// The longest such time.
    pub(crate) fn longest_window(&self) -> Duration {
        Duration::from_nanos(self.longest_window_ns.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_by_their_size() {
        let counters = AgentCounters::default();
        for ms in [0, 9, 10, 99, 100, 999, 1000, 100_000] {
            counters.late(Duration::from_millis(ms));
        }
        for us in [9, 10, 5_000, 100] {
            counters.window(Duration::from_micros(us));
        }
        let late = [
            AgentCounter::LateUnder10ms,
            AgentCounter::LateUnder100ms,
            AgentCounter::LateUnder1s,
            AgentCounter::LateOver1s,
        ];
        assert_eq!(late.map(|count| counters.get(count)), [2; 4]);
        let window = [
            AgentCounter::WindowUnder10us,
            AgentCounter::WindowUnder100us,
            AgentCounter::WindowUnder1ms,
            AgentCounter::WindowOver1ms,
        ];
        assert_eq!(window.map(|count| counters.get(count)), [1; 4]);
        assert_eq!(counters.longest_window(), Duration::from_millis(5));
    }

    #[test]
    fn names_are_those_of_counters() {
        for (index, count) in AgentCounter::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index);
            assert!(
                count.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!(AgentCounter::ALL.iter().filter(|other| other.name() == count.name()).count() == 1);
        }
    }
}
