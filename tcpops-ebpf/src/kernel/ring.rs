//! The ring buffer.

use core::ptr;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_ringbuf_query;
use tcpops_common::event::Event;
use tcpops_common::settings::Settings;

use crate::kernel::maps::EVENTS;

/// A record with its header (`BPF_RINGBUF_HDR_SZ` of the kernel's include/uapi/linux/bpf.h), rounded up to eight bytes.
const RECORD: u64 = (size_of::<Event>() as u64 + 8).next_multiple_of(8);

/// The choice to wake the reader or not.
#[derive(Clone, Copy)]
pub(crate) enum Wake {
    /// It polls.
    No,
    /// It sleeps, or is far behind.
    Force,
}

/// Has `fill` write a record where it stays; false if the ring is full.
#[inline(always)]
pub(crate) fn write(wake: Wake, fill: impl FnOnce(&mut Event)) -> bool {
    let Some(mut entry) = EVENTS.reserve(0) else { return false };
    // SAFETY: `fill` reads no field and writes every one before the record is submitted, and keeps no reference to it.
    fill(unsafe { entry.assume_init_mut() });
    entry.submit(u64::from(match wake {
        Wake::No => BPF_RB_NO_WAKEUP,
        Wake::Force => BPF_RB_FORCE_WAKEUP,
    }));
    true
}

/// The number of records that the reader has not taken yet.
pub(crate) fn backlog_records() -> u64 {
    let map = ptr::from_ref(&EVENTS).cast_mut();
    // SAFETY: the loader puts the map in place of the static's address; the query reads positions only.
    let bytes = unsafe { bpf_ringbuf_query(map.cast(), u64::from(BPF_RB_AVAIL_DATA)) };
    bytes / RECORD
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

/// Adds to what is told. The agent may overwrite it at this moment; whoever has a reason adds it again.
pub(crate) fn add_telling(settings: *mut Settings, bits: u32) {
    // SAFETY: as in `claim_wake`.
    let telling = unsafe { &raw mut (*settings).telling };
    // SAFETY: as in `claim_wake`; an aligned word.
    let before = unsafe { telling.read_volatile() };
    // SAFETY: as above.
    unsafe { telling.write_volatile(before | bits) };
}
