//! Times as numbers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};

use crate::files;

/// The time on `CLOCK_MONOTONIC`, which all processes share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// What the scheduler has done with a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scheduled {
    /// The time that it has waited for a processor that others had.
    pub(crate) waited_ns: u64,
    /// How often it was put on a processor.
    pub(crate) turns: u64,
}

impl Scheduled {
    /// This thread so far, by `/proc/thread-self/schedstat`; see the kernel's `Documentation/scheduler/sched-stats.rst`.
    ///
    /// # Errors
    /// The kernel does not tell (`CONFIG_SCHED_INFO`).
    pub(crate) fn now() -> Result<Self> {
        let text = files::read_text(Path::new("/proc/thread-self/schedstat"))?;
        let numbers: Vec<_> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let &[_, waited_ns, turns] = numbers.as_slice() else {
            bail!("expected three numbers in /proc/thread-self/schedstat, found {text:?}");
        };
        Ok(Self { waited_ns, turns })
    }

    /// The part of a time in which the thread had its processor.
    pub(crate) fn own(self, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(Duration::from_nanos(self.waited_ns))
    }

    /// The times of something in order, without as many of the longest as were probably interrupted by others that ran on the
    /// processor: their share of the interruptions is that of the time.
    pub(crate) fn undisturbed(self, mut times_ns: Vec<f64>, elapsed: Duration) -> Vec<f64> {
        times_ns.sort_by(f64::total_cmp);
        let share = times_ns.iter().sum::<f64>() / nanoseconds(elapsed);
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
        let dropped = self.turns as f64 * share;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is not negative, and small")]
        let kept = times_ns.len().saturating_sub(dropped.round() as usize).max(1);
        times_ns.truncate(kept);
        times_ns
    }

    /// What has been done since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { waited_ns: self.waited_ns - before.waited_ns, turns: self.turns - before.turns }
    }
}

/// A duration in nanoseconds.
pub(crate) fn whole_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in nanoseconds, to reckon with.
pub(crate) fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_of_the_longest_go_as_were_probably_interrupted() {
        // What is timed is half of the time, and there were two interruptions.
        let scheduled = Scheduled { waited_ns: 0, turns: 2 };
        assert_eq!(scheduled.undisturbed(vec![9.0, 1.0, 2.0], Duration::from_nanos(24)), [1.0, 2.0]);
    }

    #[test]
    fn one_time_always_stays() {
        let scheduled = Scheduled { waited_ns: 0, turns: 100 };
        assert_eq!(scheduled.undisturbed(vec![9.0], Duration::from_nanos(9)), [9.0]);
    }
}
