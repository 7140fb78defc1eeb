//! How a connection is found by its conid, and a conid by the cookie of its socket.
//!
//! Both are arrays, in which a connection takes a place that is free and gives it back at its end: writing there costs a
//! few nanoseconds, where an insertion into a hash and its deletion cost three hundred.

use bytemuck::{Pod, Zeroable};

/// The name of the constant of the kernel programs with [`conid_shift`].
pub const CONID_SHIFT: &str = "CONID_SHIFT";
/// The name of the constant of the kernel programs with [`cookie_mask`].
pub const COOKIE_MASK: &str = "COOKIE_MASK";

/// The places in `COOKIES` that a cookie may take.
pub const WAYS: u32 = 4;
/// The conids that are tried for a free place before a connection is left out.
pub const TRIES: u32 = 64;

/// The fewest places of an array: small maps fill up without a conid being left out.
const FEWEST: u32 = 1024;

/// A place in `CONIDS`; all zero where it is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ConidSlot {
    /// The cookie of the connection's socket.
    pub cookie: u64,
    /// When the connection left ESTABLISHED; zero before that. It stands here since the entry fills its slab object.
    pub left_boot_ns: u64,
}

/// The number of places in `CONIDS`, and in `COOKIES`: a power of two.
pub fn slots(max_connections: u32) -> u32 {
    max_connections.clamp(FEWEST, 1 << 31).next_power_of_two()
}

/// The shift that [`conid_slot`] takes where there are `slots` places.
pub fn conid_shift(slots: u32) -> u32 {
    64 - (slots / SIDE_BY_SIDE).trailing_zeros()
}

/// The mask that [`cookie_slot`] takes where there are `slots` places.
pub fn cookie_mask(slots: u32) -> u32 {
    slots / WAYS - 1
}

/// The conids that have their places side by side: those of one cache line.
const SIDE_BY_SIDE: u32 = 4;

/// The place of a conid. Consecutive cache lines are spread evenly (multiplicative hashing by the golden ratio), so that a
/// run of conids in use is no obstacle for the conids that come there later.
pub fn conid_slot(conid: u64, shift: u32) -> u32 {
    let line = (conid / u64::from(SIDE_BY_SIDE)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift;
    line as u32 * SIDE_BY_SIDE + conid as u32 % SIDE_BY_SIDE
}

/// The first of the [`WAYS`] places of a cookie. The kernel hands cookies out in runs, which take places side by side.
pub fn cookie_slot(cookie: u64, mask: u32) -> u32 {
    (cookie as u32 & mask) * WAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_within_the_arrays() {
        for max_connections in [1, 10, 1024, 5000, 262_144] {
            let slots = slots(max_connections);
            assert!(slots >= max_connections && slots.is_power_of_two());
            for number in (0..10_000).chain([u64::MAX, 1 << 63]) {
                assert!(conid_slot(number, conid_shift(slots)) < slots);
                assert!(cookie_slot(number, cookie_mask(slots)) + WAYS <= slots);
            }
        }
    }

    #[test]
    fn a_long_run_of_conids_in_use_does_not_block_those_that_come_round() {
        let (slots, shift) = (1 << 16, conid_shift(1 << 16));
        let mut taken = [false; 1 << 16];
        for conid in 1..=slots as u64 / 2 {
            taken[conid_slot(conid, shift) as usize] = true;
        }
        let is_free = |conid: u64| !taken[conid_slot(conid, shift) as usize];
        let longest = (slots as u64..4 * slots as u64)
            .scan(0, |run, conid| {
                *run = if is_free(conid) { 0 } else { *run + 1 };
                Some(*run)
            })
            .max();
        assert!(longest.unwrap() < TRIES, "{longest:?}");
    }
}
