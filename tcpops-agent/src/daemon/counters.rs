//! The agent's own counters. They begin with its start; those of the kernel programs go on over restarts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strum::{EnumMessage, IntoStaticStr, VariantArray};

/// An event that the agent counts. The comment of each is its help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumMessage, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum AgentCounter {
    /// Connections that were reset because a limit of a rule or of an override was over.
    ExpiredReset,
    /// Connections to which a FIN was sent for the same reason.
    ExpiredFin,
    /// Connections that were reset because somebody asked for it.
    RequestedReset,
    /// Connections to which a FIN was sent because somebody asked for it.
    RequestedFin,
    /// Connections that were reset at once where a FIN was wanted, since no process could be found that has them open.
    FinImpossible,
    /// Connections that cannot be closed: subflows of MPTCP connections, orphans before Linux 6.11, listeners.
    NotClosable,
    /// Attempts to close a connection that failed; those that a limit asks for are tried again.
    CloseFailed,
    /// Connections that were held back because the budget of closes in a second was spent.
    HeldByBudget,
    /// Connections that were held back because their rule had closed its share in that minute.
    HeldByCap,
    /// Connections that no rule closes, whose time was over by one.
    Protected,
    /// Connections that a rule which is not enforced would have closed.
    NotEnforced,
    /// Resets that came less than 10 ms after the limit was over.
    #[strum(serialize = "close_late_under_10ms")]
    CloseLateUnder10ms,
    /// Resets that came 10 to 100 ms after the limit was over.
    #[strum(serialize = "close_late_under_100ms")]
    CloseLateUnder100ms,
    /// Resets that came 100 ms to 1 s after the limit was over.
    #[strum(serialize = "close_late_under_1s")]
    CloseLateUnder1s,
    /// Resets that came more than 1 s after the limit was over; those that were held back are in none of these four.
    #[strum(serialize = "close_late_over_1s")]
    CloseLateOver1s,
    /// Resets that were made under the lock of the socket, where no other connection can take its place; those below were not.
    CloseUnderLock,
    /// Resets of which less than 10 us were between the last look whether it is the right connection and the kernel's answer.
    #[strum(serialize = "close_window_under_10us")]
    CloseWindowUnder10us,
    /// Resets of which this took 10 to 100 us.
    #[strum(serialize = "close_window_under_100us")]
    CloseWindowUnder100us,
    /// Resets of which this took 100 us to 1 ms.
    #[strum(serialize = "close_window_under_1ms")]
    CloseWindowUnder1ms,
    /// Resets of which this took more than 1 ms.
    #[strum(serialize = "close_window_over_1ms")]
    CloseWindowOver1ms,
    /// Changes that were made by a descriptor of the caller's, without a walk over the sockets.
    ChangedByDescriptor,
    /// Runs of the hook that ended with exit code 0.
    HookDone,
    /// Runs of the hook that ended otherwise, or could not begin.
    HookFailed,
    /// Runs of the hook that took too long and were killed.
    HookKilled,
    /// Events that were dropped for the hook, since too many waited for it.
    HookDropped,
    /// Clients for which there was no place.
    ClientsRefused,
}

impl AgentCounter {
    /// The name under which it is shown.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }

    /// The events that it counts, in a sentence.
    pub(crate) fn help(self) -> &'static str {
        self.get_documentation().unwrap_or_default()
    }
}

/// The counts.
#[derive(Debug)]
pub(crate) struct AgentCounters {
    counts: [AtomicU64; AgentCounter::VARIANTS.len()],
    longest_window_ns: AtomicU64,
}

impl Default for AgentCounters {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; AgentCounter::VARIANTS.len()],
            longest_window_ns: AtomicU64::new(0),
        }
    }
}

impl AgentCounters {
    /// One more.
    pub(crate) fn add(&self, count: AgentCounter) {
        self.add_many(count, 1);
    }

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
            0..10 => AgentCounter::CloseLateUnder10ms,
            10..100 => AgentCounter::CloseLateUnder100ms,
            100..1000 => AgentCounter::CloseLateUnder1s,
            _ => AgentCounter::CloseLateOver1s,
        });
    }

    /// A reset was made with so long between the last look and the kernel's answer.
    pub(crate) fn window(&self, window: Duration) {
        self.add(match window.as_micros() {
            0..10 => AgentCounter::CloseWindowUnder10us,
            10..100 => AgentCounter::CloseWindowUnder100us,
            100..1000 => AgentCounter::CloseWindowUnder1ms,
            _ => AgentCounter::CloseWindowOver1ms,
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
            AgentCounter::CloseLateUnder10ms,
            AgentCounter::CloseLateUnder100ms,
            AgentCounter::CloseLateUnder1s,
            AgentCounter::CloseLateOver1s,
        ];
        assert_eq!(late.map(|count| counters.get(count)), [2; 4]);
        let window = [
            AgentCounter::CloseWindowUnder10us,
            AgentCounter::CloseWindowUnder100us,
            AgentCounter::CloseWindowUnder1ms,
            AgentCounter::CloseWindowOver1ms,
        ];
        assert_eq!(window.map(|count| counters.get(count)), [1; 4]);
        assert_eq!(counters.longest_window(), Duration::from_millis(5));
    }
}
