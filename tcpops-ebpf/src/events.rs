//! Telling the agent.

use tcpops_common::counters::Counter;
use tcpops_common::event::Event;
use tcpops_common::settings::WAKE_BACKLOG_BYTES;

use crate::counters::bump;
use crate::kernel::ring::{self, Wake};
use crate::maps::SETTINGS;

/// Hands `event` to the agent, and wakes it if it sleeps or is far behind; a full ring is counted.
pub(crate) fn emit(event: Event) {
    if !ring::write(event, wake()) {
        bump(Counter::EventsLost);
    }
}

fn wake() -> Wake {
    let Some(settings) = SETTINGS.get_ptr_mut(0) else { return Wake::Force };
    // While the agent polls, only a long backlog is worth a wake-up: waking for each event halves the rate at which
    // connections can come and go. The first event after a pause wakes it, and the others need not.
    if ring::claim_wake(settings) || ring::backlog_bytes() >= WAKE_BACKLOG_BYTES { Wake::Force } else { Wake::No }
}
