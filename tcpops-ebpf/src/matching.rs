//! The first rule that matches a connection; `tcpops_common::rule` says how it is found.

use core::hint::black_box;

use aya_ebpf::btf_maps::lpm_trie::Key;
use tcpops_common::conn::{Direction, Origin};
use tcpops_common::counters::Counter;
use tcpops_common::rule::{
    ADDR_KEY_PREFIX, AddrKey, CLASS_ALL, CLASS_NONE, KINDS, KeyKind, MAX_CGROUP_DEPTH, MAX_CLASSES, MAX_RULES,
    PORT_BLOCK, Rule, RuleKey, RuleMask, RuleSet, SLOTS, Side, WORDS, dimensions, kind, port_block,
};

use crate::kernel::candidate::Candidate;
use crate::kernel::counters::bump;
use crate::kernel::maps::{RULE_ADDRS, RULE_INDEX, RULE_MASKS, RULE_PORTS, RULE_SETS, RULES};
use crate::kernel::socket::{Ends, Socket};
use crate::kernel::table;

/// The number of look-ups that are tried while the rules are being replaced.
const ATTEMPTS: u32 = 2;
/// No index in `RULES`.
const NO_RULE: u32 = u32::MAX;

/// True if the first rule that matches leaves the socket untracked, which has no entry yet.
#[inline(always)]
pub(crate) fn leaves_untracked(socket: &Socket, ends: &Ends, direction: Direction, origin: Origin) -> bool {
    let candidate = Candidate::without_entry(socket, ends, direction, origin);
    first_match(socket, candidate).is_some_and(|rule| rule.untracked != 0)
}

/// The first rule that matches.
#[inline(always)]
pub(crate) fn first_match(socket: &Socket, mut candidate: Candidate) -> Option<&'static Rule> {
    for _ in 0..ATTEMPTS {
        let generation = generation();
        let slot = (generation & 1) as u32;
        if has(dimensions::CGROUP) {
            candidate.note_cgroup(socket);
        }
        let rule = tcpops_first_match(&raw const candidate, slot);
        // The agent writes to the other slot only, then raises the generation: where that is what it was, nobody wrote
        // to this slot during the look-ups.
        if self::generation() == generation {
            return RULES.get(rule);
        }
    }
    bump(Counter::RulesBusy);
    None
}

/// True if some rule limits how long a handshake to the outside may take. Half a rule set does not matter here: the
/// rule itself is looked up with care.
pub(crate) fn limits_handshakes() -> bool {
    has(dimensions::CONNECT)
}

/// True if some rule leaves connections untracked; as little exact as [`limits_handshakes`].
pub(crate) fn some_are_untracked() -> bool {
    has(dimensions::UNTRACKED)
}

fn has(dimension: u32) -> bool {
    RULE_SETS.get((generation() & 1) as u32).is_some_and(|set| set.dimensions & dimension != 0)
}

fn generation() -> u64 {
    RULE_INDEX.get(0).map_or(0, |index| index.generation)
}

/// The index in `RULES` of the first rule of a slot that matches; [`NO_RULE`] if none does. It is a global function, see
/// [`Candidate`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tcpops_first_match(candidate: *const Candidate, slot: u32) -> u32 {
    let slot = slot & 1;
    Candidate::argument(candidate)
        .and_then(|candidate| in_set(candidate, slot, RULE_SETS.get(slot)?))
        .map_or(NO_RULE, |position| slot * MAX_RULES as u32 + position)
}

fn in_set(candidate: &Candidate, slot: u32, set: &RuleSet) -> Option<u32> {
    if set.rules == 0 {
        return None;
    }
    let masks = [
        mask(slot, kind_class(candidate, set))?,
        mask(slot, uid_class(candidate, slot, set))?,
        mask(slot, cgroup_class(candidate, slot, set))?,
        mask(slot, port_class(slot, set, Side::Local, candidate.local_port))?,
        mask(slot, port_class(slot, set, Side::Remote, candidate.remote_port))?,
        mask(slot, addr_class(slot, set, Side::Local, &candidate.local_addr))?,
        mask(slot, addr_class(slot, set, Side::Remote, &candidate.remote_addr))?,
    ];
    for word in 0..WORDS {
        if word as u32 >= set.words {
            break;
        }
        let [a, b, c, d, e, f, g] = masks;
        let common = a.words[word]
            & b.words[word]
            & c.words[word]
            & d.words[word]
            & e.words[word]
            & f.words[word]
            & g.words[word];
        if common != 0 {
            let position = word as u32 * 64 + common.trailing_zeros();
            return Some(position);
        }
    }
    None
}

fn mask(slot: u32, class: u32) -> Option<&'static RuleMask> {
    let mask = RULE_MASKS.get(slot * MAX_CLASSES + class);
    if mask.is_none() {
        bump(Counter::RulesBroken);
    }
    mask
}

fn kind_class(candidate: &Candidate, set: &RuleSet) -> u32 {
    // The compiler knows the ranges of the enums and would drop the mask; the verifier does not: "invalid access to map
    // value, value_size=120 off=1052 size=4".
    let kind = black_box(kind(candidate.direction, candidate.family, candidate.origin));
    set.kind_classes[kind & (KINDS - 1)]
}

#[inline(never)]
fn uid_class(candidate: &Candidate, slot: u32, set: &RuleSet) -> u32 {
    if set.dimensions & dimensions::UID == 0 {
        return CLASS_ALL;
    }
    let key = RuleKey { slot, kind: KeyKind::Uid as u32, value: u64::from(candidate.uid) };
    table::class(&key).unwrap_or(set.other_uid)
}

#[inline(never)]
fn cgroup_class(candidate: &Candidate, slot: u32, set: &RuleSet) -> u32 {
    if set.dimensions & dimensions::CGROUP == 0 {
        return CLASS_ALL;
    }
    let mut level = candidate.cgroup();
    for _ in 0..MAX_CGROUP_DEPTH {
        let Some(cgroup) = level else { break };
        let key = RuleKey { slot, kind: KeyKind::Cgroup as u32, value: cgroup.id() };
        if let Some(class) = table::class(&key) {
            return class;
        }
        level = cgroup.parent();
    }
    set.other_cgroup
}

#[inline(never)]
fn port_class(slot: u32, set: &RuleSet, side: Side, port: u16) -> u32 {
    let dimension = match side {
        Side::Local => dimensions::LOCAL_PORT,
        Side::Remote => dimensions::REMOTE_PORT,
    };
    if set.dimensions & dimension == 0 {
        return CLASS_ALL;
    }
    RULE_PORTS
        .get(port_block(slot, side, port))
        .map_or(CLASS_NONE, |block| u32::from(block.classes[(u32::from(port) % PORT_BLOCK) as usize]))
}

#[inline(never)]
fn addr_class(slot: u32, set: &RuleSet, side: Side, address: &[u8; 16]) -> u32 {
    let dimension = match side {
        Side::Local => dimensions::LOCAL_ADDR,
        Side::Remote => dimensions::REMOTE_ADDR,
    };
    if set.dimensions & dimension == 0 {
        return CLASS_ALL;
    }
    let data = AddrKey { slot: slot as u8, side: side as u8, pad: [0; 2], address: *address };
    RULE_ADDRS.get(&Key::new(ADDR_KEY_PREFIX + 128, data)).copied().unwrap_or(CLASS_NONE)
}

const _: () = assert!(SLOTS == 2, "the slot is the lowest bit of the generation");
