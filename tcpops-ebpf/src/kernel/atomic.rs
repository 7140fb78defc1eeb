//! Atomic instructions on map values.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

/// Adds one to a map value and returns what it was before.
pub(crate) fn add_one(value: *mut u64) -> u64 {
    // SAFETY: the pointer comes from a map look-up in this run of the program, so it stays valid until its end; map
    // values are eight bytes aligned; every writer of these values uses this instruction.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(value, 1) }
}

/// Puts `new` into a map value that is zero; false if it is not.
pub(crate) fn claim(value: *mut u64, new: u64) -> bool {
    const ORDERING: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: as above; who has claimed a value is the only one to write it until it is zero again.
    unsafe { atomic_cxchg::<u64, ORDERING, ORDERING>(value, 0, new) }.1
}
