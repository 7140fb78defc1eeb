//! The BPF maps: for each, key and value, who writes, who reads, who deletes, and what happens when it is full.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use tcpops_common::conn::{ConnKey, Connection, ListenPort};
use tcpops_common::event::Event;
use tcpops_common::maps::*;
use tcpops_common::policy::Policy;
use tcpops_common::probe::Probe;
use tcpops_common::rule::{
    AddrKey, MAX_RULES, PortBlock, Rule, RuleIndex, RuleKey, RuleMask, RuleSet, SLOTS, SOURCE_CHUNK,
};
use tcpops_common::settings::{RECONNECTS_ENTRIES, Settings};
use tcpops_common::slots::ConidSlot;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const CONNECTIONS_MAX: usize = DEFAULT_MAX_CONNECTIONS as usize;

/// The truth about every live connection and listener: the key is its name for good, the value its entry. The kernel
/// programs write and delete; the agent reads, and deletes only what ended while the programs were detached. When it is
/// full, rules are still applied at handshakes, and the connection is counted under `untracked`.
#[btf_map]
pub(crate) static CONNECTIONS: HashMap<ConnKey, Connection, CONNECTIONS_MAX, NO_PREALLOC> = HashMap::new();

/// From the place of a conid (`slots::conid_slot`) to the cookie that goes with it: together they are the key of
/// `CONNECTIONS`. The kernel programs write, and give the place back at the end of the connection; both sides read, and
/// the agent frees the places of connections that ended unseen. Where a conid's place is taken it is passed over; where
/// many are, the connection is counted under `slots_taken` and not tracked.
#[btf_map]
pub(crate) static CONIDS: Array<ConidSlot, CONNECTIONS_MAX> = Array::new();

/// From the places of a cookie (`slots::cookie_slot`) to the key of the connection, by which a socket is found to be
/// that connection. Written, read and given back as `CONIDS` is. Where all places of a cookie are taken, `CONN_TAGS`
/// stands in.
#[btf_map]
pub(crate) static COOKIES: Array<ConnKey, CONNECTIONS_MAX> = Array::new();

/// From the socket to its conid, where the program has bound the port, so that the walk that destroys sockets finds it
/// here, and where `COOKIES` had no place left. The kernel programs write and delete, and the kernel frees it with the
/// socket; both sides read. It has no capacity of its own: where memory is short, the connection is counted under
/// `tag_failed` and not tracked.
#[btf_map]
pub(crate) static CONN_TAGS: SkStorage<u64> = SkStorage::new();

/// From the socket to the entry of a connection that found no place in `CONNECTIONS`, while its rule is looked up and
/// applied: it is too large for the stack, and a per-CPU map could be overwritten by a softirq. The sockops program
/// writes, reads and deletes it within one call. Full as `CONN_TAGS` is.
#[btf_map]
pub(crate) static SPARE: SkStorage<Connection> = SkStorage::new();

/// One value: the conid that was handed out last. Written and read by the kernel programs only; never deleted.
#[btf_map]
pub(crate) static NEXT_CONID: Array<u64, 1> = Array::new();

/// From a connection's key to its override, which wins over rules. The agent writes (the intent, before it is applied),
/// and takes back what was refused; a walk reads and applies; the kernel programs delete at the end of the connection.
/// When it is full, the request is refused.
#[btf_map]
pub(crate) static OVERRIDES: HashMap<ConnKey, Policy, { CONNECTIONS_MAX / 4 }, NO_PREALLOC> = HashMap::new();

/// From a connection's key to the probe of its peer. The agent writes what is to be done; a walk does it, and deletes
/// when the options are given back; the agent deletes where the connection has ended. When it is full, the request is
/// refused.
#[btf_map]
pub(crate) static PROBES: HashMap<ConnKey, Probe, { PROBES_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// One value: the generation of the rules, which says which slot of the maps below is in force. The agent writes it,
/// last of all rule maps; both sides read.
#[btf_map]
pub(crate) static RULE_INDEX: Array<RuleIndex, 1> = Array::new();

/// From the slot to what its rules have in common. The agent writes, to the slot that is not in force; the kernel
/// programs and the next agent read. This holds for all rule maps below; a rule set that does not fit in one of them is
/// refused.
#[btf_map]
pub(crate) static RULE_SETS: Array<RuleSet, { SLOTS as usize }> = Array::new();

/// From slot and position to the rule: what it wants, and its name.
#[btf_map]
pub(crate) static RULES: Array<Rule, { SLOTS as usize * MAX_RULES }> = Array::new();

/// From slot and class to the rules that accept the class.
#[btf_map]
pub(crate) static RULE_MASKS: Array<RuleMask, { RULE_MASKS_ENTRIES as usize }> = Array::new();

/// From slot, side and block to the classes of 64 ports.
#[btf_map]
pub(crate) static RULE_PORTS: Array<PortBlock, { RULE_PORTS_ENTRIES as usize }> = Array::new();

/// From slot, side and address to its class, by the longest prefix. The agent deletes the prefixes of older rules.
#[btf_map]
pub(crate) static RULE_ADDRS: LpmTrie<AddrKey, u32, { RULE_ADDRS_ENTRIES as usize }> = LpmTrie::new();

/// From slot and uid, or slot and cgroup id, to its class. The agent deletes the keys of older rules.
#[btf_map]
pub(crate) static RULE_KEYS: HashMap<RuleKey, u32, { RULE_KEYS_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// From slot and chunk to the text of the rules, for the next agent; the kernel programs never read it.
#[btf_map]
pub(crate) static RULE_SOURCE: Array<[u8; SOURCE_CHUNK], { RULE_SOURCE_ENTRIES as usize }> = Array::new();

/// What happened, for the agent. The kernel programs write and the agent reads, and so deletes. Pinned, it keeps events
/// while no agent runs. When it is full, events are counted under `events_lost`, and the agent then reads the maps
/// anew.
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { EVENTS_BYTES as usize }> = RingBuf::new();

/// From each `Counter` to its value on each CPU. The kernel programs add, the agent reads; never deleted.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, COUNTERS_ENTRIES> = PerCpuArray::new();

/// From namespace and port to 1, for each port that is listened on: a connection from there is inbound. A walk that
/// adopts writes and reads; it is not pinned and ends with the agent. When it is full, some adopted connections are
/// taken for outbound.
#[btf_map]
pub(crate) static LISTEN_PORTS: HashMap<ListenPort, u8, 65536, NO_PREALLOC> = HashMap::new();

/// From `reconnects_entry` to 1 where a program of the cgroup has connected a descriptor again that it had disconnected. The
/// sockops program writes, the agent reads; it is not pinned and ends with the agent; it cannot be full.
#[btf_map]
pub(crate) static RECONNECTS: Array<u32, { RECONNECTS_ENTRIES as usize }> = Array::new();

/// One value: the settings of the agent, and whether it is awake. Both sides write and read; never deleted.
#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();
