//! Writing to the ring, and waking the agent.

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::counters::Counter;
use tcpops_common::event::{EVENT_HAS_LIFETIME, Event, EventKind};
use tcpops_common::policy::Setting;
use tcpops_common::settings::WAKE_BACKLOG;
use tcpops_common::state::TcpState;

use crate::kernel::counters::bump;
use crate::kernel::maps::SETTINGS;
use crate::kernel::ring::{self, Wake};

/// The part of a record that is not the entry.
pub(crate) struct Happening {
    pub(crate) at_boot_ns: u64,
    pub(crate) kind: EventKind,
    pub(crate) old_state: TcpState,
    pub(crate) new_state: TcpState,
    pub(crate) errno: u32,
}

/// Hands a record to the agent, and wakes it if it sleeps or is far behind; a full ring is counted. The record is
/// written where it stays: it is too large for the stack.
#[inline(always)]
pub(crate) fn emit(key: &ConnKey, connection: &Connection, what: &Happening, finish: impl FnOnce(&mut Event)) {
    let written = ring::write(wake(), |event| {
        event.at_boot_ns = what.at_boot_ns;
        event.key = *key;
        event.kind = what.kind;
        event.old_state = what.old_state;
        event.new_state = what.new_state;
        event.flags = lifetime_flag(connection);
        event.errno = what.errno;
        event.connection = *connection;
        finish(event);
    });
    if !written {
        bump(Counter::EventsLost);
    }
}

fn lifetime_flag(connection: &Connection) -> u8 {
    if matches!(connection.policy.lifetime_setting, Setting::Set) { EVENT_HAS_LIFETIME } else { 0 }
}

fn wake() -> Wake {
    let Some(settings) = SETTINGS.get_ptr_mut(0) else { return Wake::Force };
    // While the agent polls, only a long backlog is worth a wake-up: waking for each event halves the rate at which
    // connections can come and go. The first event after a pause wakes it, and so does the one with which the backlog
    // becomes long; the others need not, least of all where no agent reads.
    if ring::claim_wake(settings) || ring::backlog_records() == WAKE_BACKLOG { Wake::Force } else { Wake::No }
}
