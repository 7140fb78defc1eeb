//! The BPF maps: for each, key and value, who writes, who reads, who deletes, and what happens when it is full.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use tcpops_common::conn::{ConnKey, Connection, ListenPort};
use tcpops_common::counters::Counter;
use tcpops_common::event::Event;
use tcpops_common::maps::*;
use tcpops_common::policy::Policy;
use tcpops_common::probe::Probe;
use tcpops_common::rule::{
    AddrKey, MAX_RULES, PortBlock, Rule, RuleIndex, RuleKey, RuleMask, RuleSet, SLOTS, SOURCE_CHUNK,
};
use tcpops_common::settings::Settings;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const CONNECTIONS_MAX: usize = DEFAULT_MAX_CONNECTIONS as usize;

/// The truth about every live connection. The kernel programs write and delete; the agent reads, and deletes only what
/// ended while the programs were detached. When it is full, rules are still applied to the socket, and the connection is
/// counted as untracked.
#[btf_map]
pub(crate) static CONNECTIONS: HashMap<ConnKey, Connection, CONNECTIONS_MAX, NO_PREALLOC> = HashMap::new();

/// From the conid to the cookie, which together are the key of `CONNECTIONS`. Written and deleted with its entry there,
/// by the kernel programs; read by the agent and by people. Full as `CONNECTIONS` is.
#[btf_map]
pub(crate) static CONIDS: HashMap<u64, u64, CONNECTIONS_MAX, NO_PREALLOC> = HashMap::new();

/// From the socket to its conid in one step. Written by the kernel programs, freed by the kernel with the socket. It has
/// no capacity of its own; where memory is short, the connection is counted under `tag_failed` and not tracked.
#[btf_map]
pub(crate) static CONN_TAGS: SkStorage<u64> = SkStorage::new();

/// The entry of a connection that found no place in `CONNECTIONS`, while its rule is looked up and applied: it is too
/// large for the stack, and a map shared by sockets would be overwritten by a softirq. Written and deleted by the sockops
/// program within one call.
#[btf_map]
pub(crate) static SPARE: SkStorage<Connection> = SkStorage::new();

/// One entry: the conid that was handed out last. Written by the kernel programs only.
#[btf_map]
pub(crate) static NEXT_CONID: Array<u64, 1> = Array::new();

/// Policies pushed for one connection; they win over rules. The agent writes (the intent, before it is applied), a walk
/// reads and applies, the kernel programs delete at the end of the connection. When it is full the push is refused.
#[btf_map]
pub(crate) static OVERRIDES: HashMap<ConnKey, Policy, CONNECTIONS_MAX, NO_PREALLOC> = HashMap::new();

/// Peers that are being asked whether they are still there. The agent writes what is to be done, a walk does it, and deletes
/// when the options are given back; the agent deletes where the connection has ended. When it is full the question is
/// refused.
#[btf_map]
pub(crate) static PROBES: HashMap<ConnKey, Probe, { PROBES_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// One entry: which slot of the rule maps is in force. The agent writes, last of all rule maps.
#[btf_map]
pub(crate) static RULE_INDEX: Array<RuleIndex, 1> = Array::new();

/// What the rules of each slot have in common. The agent writes the slot that is not in force; so for all that follow.
#[btf_map]
pub(crate) static RULE_SETS: Array<RuleSet, { SLOTS as usize }> = Array::new();

/// The rules of each slot in order: what each wants, and its name.
#[btf_map]
pub(crate) static RULES: Array<Rule, { SLOTS as usize * MAX_RULES }> = Array::new();

/// The rules that accept each class. A rule set with too many classes is refused by the agent; likewise below.
#[btf_map]
pub(crate) static RULE_MASKS: Array<RuleMask, { RULE_MASKS_ENTRIES as usize }> = Array::new();

/// The class of every local and remote port.
#[btf_map]
pub(crate) static RULE_PORTS: Array<PortBlock, { RULE_PORTS_ENTRIES as usize }> = Array::new();

/// The class of local and remote addresses, by longest prefix.
#[btf_map]
pub(crate) static RULE_ADDRS: LpmTrie<AddrKey, u32, { RULE_ADDRS_ENTRIES as usize }> = LpmTrie::new();

/// The class of the uids and cgroups that rules name.
#[btf_map]
pub(crate) static RULE_KEYS: HashMap<RuleKey, u32, { RULE_KEYS_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// The rules as text, for the agent that comes next; the kernel programs never read it. Referred to by a static so that
/// the map exists.
#[btf_map]
pub(crate) static RULE_SOURCE: Array<[u8; SOURCE_CHUNK], { RULE_SOURCE_ENTRIES as usize }> = Array::new();

/// What happened, for the agent. Pinned, it keeps events while no agent runs; when it is full, events are counted as
/// lost and the agent, when it sees the count, reads the maps anew.
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { EVENTS_BYTES as usize }> = RingBuf::new();

/// A number for each `Counter`. The kernel programs add, the agent reads.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();

/// The ports that are listened on, for the walk that takes sockets in: it comes by listeners first, and a connection from
/// such a port is inbound. The walk writes and reads; it is not pinned and ends with the agent. Where it is full, the
/// direction of some adopted connections is taken for outbound.
#[btf_map]
pub(crate) static LISTEN_PORTS: HashMap<ListenPort, u8, 65536, NO_PREALLOC> = HashMap::new();

/// Switches of the agent, and whether it is awake.
#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();
