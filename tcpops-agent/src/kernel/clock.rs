//! `CLOCK_BOOTTIME`, the clock of every timestamp in the maps, and a timer on it. The kernel programs read the host's; that of
//! this process may be ahead of it, or behind, in a time namespace (time_namespaces(7)), so the offset is taken away here.

use std::fs;
use std::io::ErrorKind;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_getres, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::kernel::error::{KernelError, Result};
use crate::kernel::readiness::register;

/// How far `CLOCK_BOOTTIME` of this process is ahead of the host's, nanoseconds.
static AHEAD_NS: LazyLock<Result<i64>> = LazyLock::new(read_ahead_ns);

/// Checks that the host's clock is known.
///
/// # Errors
/// `UnknownClock`.
pub(crate) fn check() -> Result<()> {
    read_ahead_ns().map(drop)
}

/// Nanoseconds since boot, including suspended time, by the host's clock.
pub(crate) fn now_boot_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime)).saturating_add_signed(-ahead_ns())
}

fn ahead_ns() -> i64 {
    AHEAD_NS.as_ref().map_or(0, |ahead| *ahead)
}

/// Reads the offset of the time namespace. The file has that of the one that children are born in, so it must be the same.
fn read_ahead_ns() -> Result<i64> {
    let own = match fs::read_link("/proc/self/ns/time") {
        // A kernel without time namespaces (CONFIG_TIME_NS).
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        own => own.map_err(KernelError::syscall("readlink", "/proc/self/ns/time"))?,
    };
    let of_children = fs::read_link("/proc/self/ns/time_for_children")
        .map_err(KernelError::syscall("readlink", "/proc/self/ns/time_for_children"))?;
    if own != of_children {
        return Err(KernelError::UnknownClock { found: "children are born in another time namespace".to_owned() });
    }
    let text = fs::read_to_string("/proc/self/timens_offsets")
        .map_err(KernelError::syscall("read", "/proc/self/timens_offsets"))?;
    parse_ahead_ns(&text).ok_or(KernelError::UnknownClock { found: text })
}

/// From lines of a clock, seconds and nanoseconds (`timens_offsets_show` of the kernel's kernel/time/namespace.c).
fn parse_ahead_ns(text: &str) -> Option<i64> {
    let mut fields = text.lines().find_map(|line| line.strip_prefix("boottime"))?.split_whitespace();
    let (seconds, nanoseconds): (i64, i64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// The CPU time of the calling thread.
pub(crate) fn thread_cpu_time() -> Duration {
    Duration::from_nanos(nanoseconds(clock_gettime(ClockId::ThreadCPUTime)))
}

/// Nanoseconds since 1970 by the wall clock, and nanoseconds since boot, read together: the thread may lose its processor in
/// between, and a date would then be another than a moment before, so this tries again.
pub(crate) fn now_wall_and_boot_ns() -> (i128, u64) {
    const TRIES: u32 = 5;
    const TOGETHER_NS: u64 = 20_000;
    let read = || {
        let before_ns = now_boot_ns();
        let wall = clock_gettime(ClockId::Realtime);
        let apart_ns = now_boot_ns() - before_ns;
        (apart_ns, (i128::from(wall.tv_sec) * 1_000_000_000 + i128::from(wall.tv_nsec), before_ns + apart_ns / 2))
    };
    let mut closest = read();
    for _ in 1..TRIES {
        if closest.0 <= TOGETHER_NS {
            break;
        }
        let again = read();
        if again.0 < closest.0 {
            closest = again;
        }
    }
    closest.1
}

/// The length of a jiffy in microseconds: it is the resolution of the coarse clocks
/// (`KTIME_LOW_RES` of include/linux/hrtimer_defs.h).
pub(crate) fn tick_us() -> u32 {
    u32::try_from(nanoseconds(clock_getres(ClockId::MonotonicCoarse)) / 1000).unwrap_or(0)
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// A timer that wakes the agent at a time of `CLOCK_BOOTTIME`, exactly and also after a suspend.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: AsyncFd<rustix::fd::OwnedFd>,
    /// Setting it again to the same time costs no system call.
    due_boot_ns: Option<u64>,
}

impl Timer {
    /// A timer that is off. Must be called within a tokio runtime.
    pub(crate) fn new() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Boottime, flags)
            .map_err(KernelError::syscall("timerfd_create", "CLOCK_BOOTTIME"))?;
        Ok(Self { fd: register("the timer", fd)?, due_boot_ns: None })
    }

    /// Sets the timer to `due_boot_ns` of the host's clock, past or future, or turns it off.
    pub(crate) fn set(&mut self, due_boot_ns: Option<u64>) -> Result<()> {
        if self.due_boot_ns == due_boot_ns {
            return Ok(());
        }
        // Zero would turn it off; the nanosecond after boot is past as well.
        let due = due_boot_ns
            .map_or(Duration::ZERO, |due| Duration::from_nanos(due.saturating_add_signed(ahead_ns()).max(1)));
        let value = Timespec {
            tv_sec: i64::try_from(due.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(due.subsec_nanos()),
        };
        let timer = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::ABSTIME, &timer)
            .map_err(KernelError::syscall("timerfd_settime", "the timer"))?;
        self.due_boot_ns = due_boot_ns;
        Ok(())
    }

    /// Returns when the time has come. Cancel-safe.
    pub(crate) async fn due(&mut self) -> Result<()> {
        loop {
            let mut guard = self.fd.readable().await.map_err(KernelError::syscall("epoll_wait", "the timer"))?;
            let mut count = [0; 8];
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?)) {
                Ok(Ok(_)) => {
                    self.due_boot_ns = None;
                    return Ok(());
                }
                Ok(Err(error)) => return Err(KernelError::syscall("read", "the timer")(error)),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let text = |boot: &str| format!("monotonic           0         0\nboottime   {boot}\n");
        assert_eq!(parse_ahead_ns(&text("         0         0")), Some(0));
        assert_eq!(parse_ahead_ns(&text("100000 5")), Some(100_000_000_000_005));
        assert_eq!(parse_ahead_ns(&text("-3 500000000")), Some(-2_500_000_000));
        assert_eq!(parse_ahead_ns("monotonic 0 0\n"), None);
    }
}
