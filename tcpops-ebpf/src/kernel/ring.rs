//! The ring buffer.

use core::ptr;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_ringbuf_query;
use tcpops_common::event::Event;
use tcpops_common::settings::Settings;

use crate::maps::EVENTS;

/// Whether to wake the reader.
#[derive(Clone, Copy)]
pub(crate) enum Wake {
    /// It polls.
    No,
    /// It sleeps, or is far behind.
    Force,
}

/// Writes `event`; false if the ring is full.
pub(crate) fn write(event: Event, wake: Wake) -> bool {
    let Some(mut entry) = EVENTS.reserve(0) else { return false };
    entry.write(event);
    entry.submit(u64::from(match wake {
        Wake::No => BPF_RB_NO_WAKEUP,
        Wake::Force => BPF_RB_FORCE_WAKEUP,
    }));
    true
}

/// The bytes that the reader has not taken yet.
pub(crate) fn backlog_bytes() -> u64 {
    let map = ptr::from_ref(&EVENTS).cast_mut();
    // SAFETY: the loader puts the map in place of the static's address; the query reads positions only.
    unsafe { bpf_ringbuf_query(map.cast(), u64::from(BPF_RB_AVAIL_DATA)) }
}

/// True if the reader sleeps and this caller is to wake it. Callers that come at the same time may both be told so: one
/// wake-up too many does no harm.
pub(crate) fn claim_wake(settings: *mut Settings) -> bool {
    // SAFETY: the pointer comes from a look-up in an array map, whose values stay for as long as the program.
    let awake = unsafe { &raw mut (*settings).reader_awake };
    // SAFETY: as above; an aligned word.
    if unsafe { awake.read_volatile() } != 0 {
        return false;
    }
    // SAFETY: as above.
    unsafe { awake.write_volatile(1) };
    true
}
