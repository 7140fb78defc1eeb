//! Reading the ring buffer `EVENTS`, with few wake-ups: the agent polls while events come, and sleeps when they stop.

#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use bytemuck::checked::try_pod_read_unaligned;
use tcpops_common::event::Event;
use tcpops_common::maps::{EVENTS, EVENTS_BYTES};
use tcpops_common::settings::POLL_INTERVAL_MS;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;
use crate::kernel::settings::Settings;

/// Events handed out at a time, so that nothing else waits long.
pub(crate) const BATCH: usize = 1024;
/// How many events the ring holds: each has a header of eight bytes.
pub(crate) const CAPACITY: usize = EVENTS_BYTES as usize / (size_of::<Event>() + 8);

/// How many times the ring is found empty before the agent sleeps: 40 ms of quiet.
const EMPTY_POLLS: u32 = 20;

/// Reads events.
pub(crate) struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    empty_polls: u32,
}

impl Events {
    /// Opens the ring at the place where its last reader stopped. Within a tokio runtime.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        let ring: RingBuf<MapData> = pins.map(EVENTS)?;
        // SAFETY: the ring owns its descriptor, gives always the same one, and lives as long as the registration.
        let ring =
            unsafe { AsyncFd::register(ring) }.map_err(|error| KernelError::syscall("epoll_ctl", EVENTS, error))?;
        Ok(Self { ring, empty_polls: 0 })
    }

    /// Passes over what is in the ring: the maps say it too.
    pub(crate) fn discard(&mut self) {
        while self.ring.get_mut().next().is_some() {}
    }

    /// Waits for events and reads up to a batch of them into `events`, which is empty. Safe to abandon and call again.
    pub(crate) async fn next(&mut self, settings: &Settings, events: &mut Vec<Event>) -> Result<()> {
        loop {
            self.read(events)?;
            if !events.is_empty() {
                self.empty_polls = 0;
                return Ok(());
            }
            if self.empty_polls < EMPTY_POLLS {
                sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
                self.empty_polls += 1;
                continue;
            }
            // From here on the first event wakes us. One that came before the switch is found by the next look.
            settings.set_reader_awake(false)?;
            self.read(events)?;
            if events.is_empty() {
                let mut guard = self
                    .ring
                    .readable_mut()
                    .await
                    .map_err(|error| KernelError::syscall("epoll_wait", EVENTS, error))?;
                guard.clear_ready();
            }
            self.empty_polls = 0;
        }
    }

    /// Reads what is there, up to a batch, to the end of `events`.
    pub(crate) fn read(&mut self, events: &mut Vec<Event>) -> Result<()> {
        while events.len() < BATCH {
            let Some(record) = self.ring.get_mut().next() else { break };
            events.push(try_pod_read_unaligned(&record).map_err(|_invalid| KernelError::Value { name: EVENTS })?);
        }
        Ok(())
    }
}
