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
