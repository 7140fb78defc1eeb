//! Names and sizes of the BPF maps.

use crate::rule::{MAX_CLASSES, PORT_BLOCKS, SLOTS, SOURCE_CHUNKS};

/// The version of everything in this crate; part of the path of the pins.
///
/// Raise it whenever a map, a key or a value changes: an agent then leaves another version's pins alone.
pub const ABI: u32 = 1;

/// `CONNECTIONS`: [`ConnKey`](crate::conn::ConnKey) to [`Connection`](crate::conn::Connection).
pub const CONNECTIONS: &str = "CONNECTIONS";
/// `CONIDS`: conid to cookie.
pub const CONIDS: &str = "CONIDS";
/// `CONN_TAGS`: socket storage, the conid.
pub const CONN_TAGS: &str = "CONN_TAGS";
/// `SPARE`: socket storage, a [`Connection`](crate::conn::Connection) that found no place.
pub const SPARE: &str = "SPARE";
/// `NEXT_CONID`: the conid that was handed out last.
pub const NEXT_CONID: &str = "NEXT_CONID";
/// `OVERRIDES`: [`ConnKey`](crate::conn::ConnKey) to [`Policy`](crate::policy::Policy).
pub const OVERRIDES: &str = "OVERRIDES";
/// `PROBES`: [`ConnKey`](crate::conn::ConnKey) to [`Probe`](crate::probe::Probe).
pub const PROBES: &str = "PROBES";
/// `RULE_INDEX`: one [`RuleIndex`](crate::rule::RuleIndex).
pub const RULE_INDEX: &str = "RULE_INDEX";
/// `RULE_SETS`: a [`RuleSet`](crate::rule::RuleSet) for each slot.
pub const RULE_SETS: &str = "RULE_SETS";
/// `RULES`: a [`Rule`](crate::rule::Rule) for each slot and position.
pub const RULES: &str = "RULES";
/// `RULE_MASKS`: a [`RuleMask`](crate::rule::RuleMask) for each slot and class.
pub const RULE_MASKS: &str = "RULE_MASKS";
/// `RULE_PORTS`: a [`PortBlock`](crate::rule::PortBlock) for each slot, side and 64 ports.
pub const RULE_PORTS: &str = "RULE_PORTS";
/// `RULE_ADDRS`: prefix of [`AddrKey`](crate::rule::AddrKey) to class.
pub const RULE_ADDRS: &str = "RULE_ADDRS";
/// `RULE_KEYS`: [`RuleKey`](crate::rule::RuleKey) to class.
pub const RULE_KEYS: &str = "RULE_KEYS";
/// `RULE_SOURCE`: the text of the rules of each slot, in chunks.
pub const RULE_SOURCE: &str = "RULE_SOURCE";
/// `EVENTS`: ring buffer of [`Event`](crate::event::Event).
pub const EVENTS: &str = "EVENTS";
/// `COUNTERS`: a number for each [`Counter`](crate::counters::Counter) and CPU.
pub const COUNTERS: &str = "COUNTERS";
/// `SETTINGS`: one [`Settings`](crate::settings::Settings).
pub const SETTINGS: &str = "SETTINGS";

/// Every map that is pinned, by name.
pub const PINNED: [&str; 18] = [
    CONNECTIONS,
    CONIDS,
    CONN_TAGS,
    SPARE,
    NEXT_CONID,
    OVERRIDES,
    PROBES,
    RULE_INDEX,
    RULE_SETS,
    RULES,
    RULE_MASKS,
    RULE_PORTS,
    RULE_ADDRS,
    RULE_KEYS,
    RULE_SOURCE,
    EVENTS,
    COUNTERS,
    SETTINGS,
];

/// The maps that hold an entry for each connection, sized by `--max-connections`.
pub const PER_CONNECTION: [&str; 3] = [CONNECTIONS, CONIDS, OVERRIDES];

/// The number of connections tracked unless `--max-connections` says otherwise.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 1_048_576;
/// The bytes of the ring buffer: 65,536 events.
pub const EVENTS_BYTES: u32 = 16 * 1024 * 1024;
/// How many peers can be asked at a time.
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
