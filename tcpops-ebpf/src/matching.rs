//! The first rule that matches a connection; `tcpops_common::rule` says how it is found.

use core::hint::black_box;

use aya_ebpf::btf_maps::lpm_trie::Key;
use tcpops_common::conn::Connection;
use tcpops_common::counters::Counter;
use tcpops_common::rule::{
    ADDR_KEY_PREFIX, AddrKey, CLASS_ALL, CLASS_NONE, KINDS, KeyKind, MAX_CGROUP_DEPTH, MAX_CLASSES, MAX_RULES,
    PORT_BLOCK, Rule, RuleKey, RuleMask, RuleSet, SLOTS, Side, WORDS, dimensions, kind, port_block,
};

use crate::kernel::counters::bump;
use crate::kernel::maps::{RULE_ADDRS, RULE_INDEX, RULE_MASKS, RULE_PORTS, RULE_SETS, RULES};
use crate::kernel::socket::Socket;
use crate::kernel::table;

/// The number of look-ups that are tried while the rules are being replaced.
const ATTEMPTS: u32 = 2;

/// The first rule that matches.
pub(crate) fn first_match(socket: &Socket, connection: &Connection) -> Option<&'static Rule> {
    for _ in 0..ATTEMPTS {
        let generation = generation();
        let slot = (generation & 1) as u32;
        let rule = RULE_SETS.get(slot).and_then(|set| in_set(socket, connection, slot, set));
        // The agent writes to the other slot only, then raises the generation: where that is what it was, nobody wrote
        // to this slot during the look-ups.
        if self::generation() == generation {
            return rule;
        }
    }
    bump(Counter::RulesBusy);
    None
}

/// True if some rule limits how long a handshake to the outside may take. Half a rule set does not matter here: the
/// rule itself is looked up with care.
pub(crate) fn limits_handshakes() -> bool {
    RULE_SETS.get((generation() & 1) as u32).is_some_and(|set| set.dimensions & dimensions::CONNECT != 0)
}

fn generation() -> u64 {
    RULE_INDEX.get(0).map_or(0, |index| index.generation)
}

fn in_set(socket: &Socket, connection: &Connection, slot: u32, set: &RuleSet) -> Option<&'static Rule> {
    if set.rules == 0 {
        return None;
    }
    let masks = [
        mask(slot, kind_class(connection, set))?,
        mask(slot, uid_class(connection, slot, set))?,
        mask(slot, cgroup_class(socket, slot, set))?,
        mask(slot, port_class(slot, set, Side::Local, connection.local_port))?,
        mask(slot, port_class(slot, set, Side::Remote, connection.remote_port))?,
        mask(slot, addr_class(slot, set, Side::Local, connection.local_addr))?,
        mask(slot, addr_class(slot, set, Side::Remote, connection.remote_addr))?,
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
            let rule = RULES.get(slot * MAX_RULES as u32 + position);
            if rule.is_none() {
                bump(Counter::RulesBroken);
            }
            return rule;
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

fn kind_class(connection: &Connection, set: &RuleSet) -> u32 {
    // The compiler knows the ranges of the enums and would drop the mask; the verifier does not: "invalid access to map
    // value, value_size=120 off=1052 size=4".
    let kind = black_box(kind(connection.direction, connection.family, connection.origin));
    set.kind_classes[kind & (KINDS - 1)]
}

#[inline(never)]
fn uid_class(connection: &Connection, slot: u32, set: &RuleSet) -> u32 {
    if set.dimensions & dimensions::UID == 0 {
        return CLASS_ALL;
    }
    let key = RuleKey { slot, kind: KeyKind::Uid as u32, value: u64::from(connection.uid) };
    table::class(&key).unwrap_or(set.other_uid)
}

#[inline(never)]
fn cgroup_class(socket: &Socket, slot: u32, set: &RuleSet) -> u32 {
    if set.dimensions & dimensions::CGROUP == 0 {
        return CLASS_ALL;
    }
    let mut level = socket.cgroup();
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
fn addr_class(slot: u32, set: &RuleSet, side: Side, address: [u8; 16]) -> u32 {
    let dimension = match side {
        Side::Local => dimensions::LOCAL_ADDR,
        Side::Remote => dimensions::REMOTE_ADDR,
    };
    if set.dimensions & dimension == 0 {
        return CLASS_ALL;
    }
    let data = AddrKey { slot: slot as u8, side: side as u8, pad: [0; 2], address };
    RULE_ADDRS.get(&Key::new(ADDR_KEY_PREFIX + 128, data)).copied().unwrap_or(CLASS_NONE)
}

const _: () = assert!(SLOTS == 2, "the slot is the lowest bit of the generation");
