//! Names and sizes of the BPF maps.

use crate::counters::Counter;
use crate::rule::{MAX_CLASSES, PORT_BLOCKS, SLOTS, SOURCE_CHUNKS};
use crate::slots::slots;

/// The version of everything in this crate; part of the path of the pins.
///
/// Raise it whenever a map, a key or a value changes: an agent then leaves another version's pins alone.
pub const ABI: u32 = 2;

macro_rules! pinned {
    ($($name:ident),+ $(,)?) => {
        $(#[doc = concat!("The name of `", stringify!($name), "`.")] pub const $name: &str = stringify!($name);)+

        /// The names of all pinned maps. Their definitions in the kernel programs say what each is for.
        pub const PINNED: [&str; [$($name),+].len()] = [$($name),+];
    };
}

pinned! {
    CONNECTIONS, CONIDS, COOKIES, CONN_TAGS, SPARE, NEXT_CONID, OVERRIDES, PROBES,
    RULE_INDEX, RULE_SETS, RULES, RULE_MASKS, RULE_PORTS, RULE_ADDRS, RULE_KEYS, RULE_SOURCE,
    EVENTS, COUNTERS, SETTINGS,
}

/// The size of a map that has room for each connection; `None` for any other map.
pub fn capacity(map: &str, max_connections: u32) -> Option<u32> {
    match map {
        CONNECTIONS => Some(max_connections),
        CONIDS | COOKIES => Some(slots(max_connections)),
        // Few connections have an override.
        OVERRIDES => Some(max_connections.div_ceil(4)),
        _ => None,
    }
}

/// The number of connections tracked unless `--max-connections` says otherwise.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 262_144;
/// The bytes of the ring buffer: 15,887 records.
pub const EVENTS_BYTES: u32 = 4 * 1024 * 1024;
/// The entries of `COUNTERS`: more than there are counters, so that a new one is no new layout.
pub const COUNTERS_ENTRIES: usize = 64;
/// The number of peers that can be probed at a time.
pub const PROBES_ENTRIES: u32 = 1024;
/// The entries of `RULE_MASKS`.
pub const RULE_MASKS_ENTRIES: u32 = SLOTS * MAX_CLASSES;
/// The entries of `RULE_PORTS`.
pub const RULE_PORTS_ENTRIES: u32 = SLOTS * 2 * PORT_BLOCKS;
/// The entries of `RULE_ADDRS`.
pub const RULE_ADDRS_ENTRIES: u32 = SLOTS * 2 * MAX_CLASSES;
/// The entries of `RULE_KEYS`.
pub const RULE_KEYS_ENTRIES: u32 = SLOTS * MAX_CLASSES;
/// The entries of `RULE_SOURCE`.
pub const RULE_SOURCE_ENTRIES: u32 = SLOTS * SOURCE_CHUNKS;

const _: () = assert!(Counter::ALL.len() <= COUNTERS_ENTRIES);
