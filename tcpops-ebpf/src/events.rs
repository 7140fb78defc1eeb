//! Writing to the ring, and waking the agent.

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::counters::Counter;
use tcpops_common::event::{Event, EventKind};
use tcpops_common::settings::{WAKE_BACKLOG, tell};
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
    pub(crate) flags: u8,
    pub(crate) left_boot_ns: u64,
}

/// Hands a record to the agent, and wakes it if it sleeps or is far behind; a full ring is counted. The record is
/// written where it stays: it is too large for the stack.
#[inline(always)]
pub(crate) fn emit(key: &ConnKey, connection: &Connection, what: &Happening, finish: impl FnOnce(&mut Event)) {
    let written = ring::write(wake(what.flags), |event| {
        event.at_boot_ns = what.at_boot_ns;
        event.key = *key;
        event.kind = what.kind;
        event.old_state = what.old_state;
        event.new_state = what.new_state;
        event.flags = what.flags;
        event.errno = what.errno;
        event.left_boot_ns = what.left_boot_ns;
        event.connection = *connection;
        finish(event);
    });
    if !written {
        bump(Counter::EventsLost);
    }
}

/// What readers of events want: the bits of [`tell`](tcpops_common::settings::tell).
pub(crate) fn telling() -> u32 {
    SETTINGS.get(0).map_or(0, |settings| settings.telling)
}

/// Has the next record wake the agent, since a connection was left out.
pub(crate) fn tell_left_out() {
    if let Some(settings) = SETTINGS.get_ptr_mut(0) {
        ring::add_telling(settings, tell::LEFT_OUT);
    }
}

/// Records that nobody waits for stay in the ring until there are many. One that somebody waits for wakes the agent if it
/// sleeps: waking it for each halves the rate at which connections can come and go. While it polls, only a long backlog
/// is worth a wake-up: the record with which the backlog becomes long, since the others need not, least of all where no
/// agent reads.
fn wake(flags: u8) -> Wake {
    let Some(settings) = SETTINGS.get_ptr_mut(0) else { return Wake::Force };
    let backlog = ring::backlog_records();
    let awaited = flags != 0 || telling() != 0 || backlog >= WAKE_BACKLOG;
    if awaited && ring::claim_wake(settings) || backlog == WAKE_BACKLOG { Wake::Force } else { Wake::No }
}
