//! Names and sizes of the BPF maps.

use crate::rule::{MAX_CLASSES, PORT_BLOCKS, SLOTS, SOURCE_CHUNKS};

/// The version of everything in this crate; part of the path of the pins.
///
/// Raise it whenever a map, a key or a value changes: an agent then leaves another version's pins alone.
pub const ABI: u32 = 1;

macro_rules! pinned {
    ($($name:ident),+ $(,)?) => {
        $(#[doc = concat!("The name of `", stringify!($name), "`.")] pub const $name: &str = stringify!($name);)+

        /// The names of all pinned maps. Their definitions in the kernel programs say what each is for.
        pub const PINNED: [&str; [$($name),+].len()] = [$($name),+];
    };
}

pinned! {
    CONNECTIONS, CONIDS, CONN_TAGS, SPARE, NEXT_CONID, OVERRIDES, PROBES,
    RULE_INDEX, RULE_SETS, RULES, RULE_MASKS, RULE_PORTS, RULE_ADDRS, RULE_KEYS, RULE_SOURCE,
    EVENTS, COUNTERS, SETTINGS,
}

/// The maps that hold an entry for each connection, sized by `--max-connections`.
pub const PER_CONNECTION: [&str; 3] = [CONNECTIONS, CONIDS, OVERRIDES];

/// The number of connections tracked unless `--max-connections` says otherwise.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 1_048_576;
/// The bytes of the ring buffer: 65,536 events.
pub const EVENTS_BYTES: u32 = 16 * 1024 * 1024;
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
