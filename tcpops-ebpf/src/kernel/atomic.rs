//! Atomic addition on map values.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds one to a map value and returns what it was before.
pub(crate) fn add_one(value: *mut u64) -> u64 {
    // SAFETY: the pointer comes from a map look-up in this run of the program, so it stays valid until its end; map
    // values are eight bytes aligned; every writer of these values uses this instruction.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(value, 1) }
}
