//! The pace of walks that close connections: a walk costs milliseconds, a request microseconds.

use std::collections::HashMap;
use std::time::Duration;

/// A walk that takes longer, with some 100,000 sockets, costs too much: the connections are closed one by one.
const SLOW: Duration = Duration::from_millis(50);
/// A slow namespace is walked again after this time: the host may have fewer sockets by then.
const FORGIVEN: Duration = Duration::from_secs(60);
/// The pause between two walks is this many times as long as a walk, so that walks take a fifth of a CPU at the most...
const PAUSE: u32 = 4;
/// ... but no more than this, so that nothing ends much later than it should.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// With this many connections to close, a walk costs no more than the closing does, and need not be waited for.
const MANY: usize = 256;
/// The most time that closing one connection takes: its reset may have to end the other side on this host as well. It is
/// taken off, so that a walk that closes many is not mistaken for a walk over many.
const CLOSE: Duration = Duration::from_micros(100);

/// The last walk over each namespace.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    walks: HashMap<u64, Walk>,
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    ended_boot_ns: u64,
    /// CPU time without the closing.
    took: Duration,
}

impl Pace {
    /// The time to wait before a namespace is walked to close some connections; `None` if it should not be walked.
    pub(crate) fn wait(&self, netns_cookie: u64, now_boot_ns: u64, connections: usize) -> Option<Duration> {
        let Some(Walk { ended_boot_ns, took }) = self.walks.get(&netns_cookie) else { return Some(Duration::ZERO) };
        let since = Duration::from_nanos(now_boot_ns.saturating_sub(*ended_boot_ns));
        if *took > SLOW && since < FORGIVEN {
            return None;
        }
        if connections >= MANY {
            return Some(Duration::ZERO);
        }
        Some((*took * PAUSE).min(LONGEST_PAUSE).saturating_sub(since))
    }

    /// Notes a walk that closed some connections, and the CPU time that it took. Namespaces that were not walked for long are
    /// forgotten: they may be gone.
    pub(crate) fn walked(&mut self, netns_cookie: u64, ended_boot_ns: u64, took: Duration, connections: usize) {
        let forgiven_ns = u64::try_from(FORGIVEN.as_nanos()).unwrap_or(u64::MAX);
        self.walks.retain(|_, walk| ended_boot_ns.saturating_sub(walk.ended_boot_ns) < forgiven_ns);
        let closing = CLOSE * u32::try_from(connections).unwrap_or(u32::MAX);
        self.walks.insert(netns_cookie, Walk { ended_boot_ns, took: took.saturating_sub(closing) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn walks_are_spaced_by_what_they_take() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(1, 5, 1), Some(Duration::ZERO));
        pace.walked(1, 3 * MS, Duration::from_millis(4), 10);
        assert_eq!(pace.wait(1, 3 * MS, 1), Some(Duration::from_millis(12)));
        assert_eq!(pace.wait(1, 10 * MS, 1), Some(Duration::from_millis(5)));
        assert_eq!(pace.wait(1, 10 * MS, MANY), Some(Duration::ZERO));
        assert_eq!([pace.wait(1, 15 * MS, 1), pace.wait(2, 3 * MS, 1)], [Some(Duration::ZERO); 2]);
        pace.walked(1, 30 * MS, Duration::from_millis(30), 1);
        assert_eq!(pace.wait(1, 30 * MS, 1), Some(LONGEST_PAUSE));
    }

    #[test]
    fn slow_ones_are_given_up_for_a_while() {
        let mut pace = Pace::default();
        pace.walked(1, 51 * MS, Duration::from_micros(50_200), 1);
        assert_eq!([pace.wait(1, 52 * MS, 1), pace.wait(1, 60_000 * MS, 1)], [None; 2]);
        assert_eq!(pace.wait(1, 60_052 * MS, 1), Some(Duration::ZERO));
    }
}
