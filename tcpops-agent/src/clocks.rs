//! The two clocks: that of the maps, `CLOCK_BOOTTIME`, and that of people.

use jiff::Timestamp;

use crate::kernel::clock::now_wall_and_boot_ns;

/// The wall clock and the clock of the maps at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// Nanoseconds since 1970.
    pub(crate) wall_ns: i128,
    /// Nanoseconds since boot.
    pub(crate) boot_ns: u64,
}

impl Clocks {
    /// Reads both.
    pub(crate) fn read() -> Self {
        let (wall_ns, boot_ns) = now_wall_and_boot_ns();
        Self { wall_ns, boot_ns }
    }

    /// The date of a time since boot, to the millisecond; `None` for zero, which means "not yet".
    pub(crate) fn date(&self, boot_ns: u64) -> Option<Timestamp> {
        if boot_ns == 0 {
            return None;
        }
        let wall_ns = self.wall_ns - i128::from(self.boot_ns) + i128::from(boot_ns);
        // To the nearest: the two clocks were read a moment apart. In 64 bits, which reach to the year 2262: a long list has
        // millions of dates, and to divide 128 bits takes longer than all else about one.
        let rounded = i64::try_from(wall_ns + 500_000).ok()?;
        Timestamp::from_millisecond(rounded.div_euclid(1_000_000)).ok()
    }

    /// The date now, to the millisecond.
    pub(crate) fn now(&self) -> Timestamp {
        self.date(self.boot_ns).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The time since boot of a date; `None` if it is not in the future.
    pub(crate) fn future_boot_ns(&self, date: Timestamp) -> Option<u64> {
        let ahead = date.as_nanosecond() - self.wall_ns;
        if ahead <= 0 {
            return None;
        }
        u64::try_from(i128::from(self.boot_ns) + ahead).ok()
    }

    /// The time since boot of a date, rounded up to ten milliseconds, so that the same date gives the same time again
    /// although the two clocks are read a moment apart. Of a date before the boot, the first such time: zero is none.
    pub(crate) fn boot_ns(&self, date: Timestamp) -> u64 {
        const STEP_NS: i128 = 10_000_000;
        let boot_ns = date.as_nanosecond() - self.wall_ns + i128::from(self.boot_ns);
        let steps = (boot_ns + STEP_NS - 1).div_euclid(STEP_NS).max(1);
        u64::try_from(steps * STEP_NS).unwrap_or(u64::MAX)
    }

    /// Seconds since a time since boot.
    pub(crate) fn seconds_since(&self, boot_ns: u64) -> f64 {
        seconds(self.boot_ns.saturating_sub(boot_ns))
    }
}

/// Seconds, to the millisecond.
pub(crate) fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1e3
}
