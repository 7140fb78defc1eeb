//! Reads the ring buffer `EVENTS` with few wake-ups: the agent polls while events come that somebody waits for, and sleeps
//! when they stop.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use bytemuck::checked::try_pod_read_unaligned;
use tcpops_common::event::Event;
use tcpops_common::maps::{EVENTS, EVENTS_BYTES};
use tcpops_common::settings::POLL_INTERVAL_MS;
use tokio::io::unix::AsyncFd;

use crate::kernel::clock::{Timer, now_boot_ns};
use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;
use crate::kernel::readiness::register;
use crate::kernel::settings::Settings;

/// The most events handed out at a time, so that the loop's other work does not wait long.
pub(crate) const BATCH: usize = 1024;
/// The events that the ring has room for: each has a header of eight bytes.
pub(crate) const CAPACITY: usize = EVENTS_BYTES as usize / (size_of::<Event>() + 8);

/// Empty polls before the agent sleeps, where somebody reads: 40 ms without an event.
const EMPTY_POLLS: u32 = 20;
/// The least time between two reads where nobody reads what happens. A limit is a second at the least.
const UNHURRIED: Duration = Duration::from_millis(10);

pub(crate) struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    empty_polls: u32,
    /// Before this nothing is read, so that a busy host is not read from event by event.
    next_read_boot_ns: u64,
    /// Tells when that is, to the microsecond, where the timers of tokio tell it to the next millisecond.
    timer: Timer,
    /// Somebody reads what happens.
    is_read: bool,
}

impl Events {
    /// Opens the ring at the place where its last reader stopped. Must be called within a tokio runtime.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        let ring = register(EVENTS, pins.map(EVENTS)?)?;
        Ok(Self { ring, empty_polls: 0, next_read_boot_ns: 0, timer: Timer::new()?, is_read: false })
    }

    /// Skips the events in the ring, when the maps are read instead.
    pub(crate) fn discard(&mut self) {
        while self.ring.get_mut().next().is_some() {}
    }

    /// Notes whether somebody reads what happens.
    pub(crate) fn set_read(&mut self, is_read: bool) {
        self.is_read = is_read;
    }

    /// Waits for events and reads up to a batch of them into `events`, which is empty. Cancel-safe.
    pub(crate) async fn next(&mut self, settings: &Settings, events: &mut Vec<Event>) -> Result<()> {
        loop {
            if now_boot_ns() < self.next_read_boot_ns {
                self.timer.set(Some(self.next_read_boot_ns))?;
                self.timer.due().await?;
            }
            let (interval, polls) =
                if self.is_read { (Duration::from_millis(POLL_INTERVAL_MS), EMPTY_POLLS) } else { (UNHURRIED, 1) };
            self.read(events)?;
            if events.len() < BATCH {
                self.next_read_boot_ns = now_boot_ns().saturating_add(interval.as_nanos() as u64);
            }
            if !events.is_empty() {
                self.empty_polls = 0;
                return Ok(());
            }
            if self.empty_polls < polls {
                self.empty_polls += 1;
                continue;
            }
            // From here on the first event that somebody waits for wakes us. One that came before is found by reading once
            // more.
            settings.set_reader_awake(false)?;
            self.read(events)?;
            if events.is_empty() {
                let mut guard = self.ring.readable_mut().await.map_err(KernelError::syscall("epoll_wait", EVENTS))?;
                guard.clear_ready();
            }
            self.next_read_boot_ns = 0;
            self.empty_polls = 0;
            if !events.is_empty() {
                return Ok(());
            }
        }
    }

    /// Appends what is in the ring to `events`, up to a batch.
    pub(crate) fn read(&mut self, events: &mut Vec<Event>) -> Result<()> {
        while events.len() < BATCH {
            let Some(record) = self.ring.get_mut().next() else { break };
            events.push(try_pod_read_unaligned(&record).map_err(|_invalid| KernelError::Value { name: EVENTS })?);
        }
        Ok(())
    }
}
