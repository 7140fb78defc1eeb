//! The look-up of the kernel programs (`tcpops-ebpf/src/matching.rs`), repeated to test [`compile`](super::compile). It is
//! written to resemble theirs, not to be fast.

use core::net::SocketAddr;

use tcpops_common::conn::from_ip;
use tcpops_common::rule::{
    ADDR_KEY_PREFIX, AddrKey, CLASS_ALL, CLASS_NONE, KeyKind, MAX_CGROUP_DEPTH, PORT_BLOCK, RuleKey, RuleMask, Side,
    dimensions, kind, port_block,
};

use super::Compiled;
use crate::model::rules::rule_set::Facts;

impl Compiled {
    /// The position of the first rule that matches.
    ///
    /// It differs from the definition where a rule names a cgroup that is [`MAX_CGROUP_DEPTH`] or more levels above the
    /// socket's: the kernel programs look no further.
    pub(crate) fn first_match(&self, facts: &Facts) -> Option<usize> {
        let mut common = self.masks[CLASS_ALL as usize];
        for class in [
            self.set.kind_classes[kind(facts.direction, facts.family, facts.origin)],
            self.uid_class(facts.uid),
            self.cgroup_class(&facts.cgroups),
            self.port_class(Side::Local, facts.local),
            self.port_class(Side::Remote, facts.remote),
            self.addr_class(Side::Local, facts.local),
            self.addr_class(Side::Remote, facts.remote),
        ] {
            intersect(&mut common, &self.masks[class as usize]);
        }
        first(&common)
    }

    fn asks(&self, dimension: u32) -> bool {
        self.set.dimensions & dimension != 0
    }

    fn key_class(&self, kind: KeyKind, value: u64) -> Option<u32> {
        let wanted = RuleKey { slot: self.slot, kind: kind as u32, value };
        self.keys.iter().find(|(key, _)| *key == wanted).map(|(_, class)| *class)
    }

    fn uid_class(&self, uid: u32) -> u32 {
        if !self.asks(dimensions::UID) {
            return CLASS_ALL;
        }
        self.key_class(KeyKind::Uid, uid.into()).unwrap_or(self.set.other_uid)
    }

    fn cgroup_class(&self, cgroups: &[u64]) -> u32 {
        if !self.asks(dimensions::CGROUP) {
            return CLASS_ALL;
        }
        let levels = cgroups.iter().take(MAX_CGROUP_DEPTH as usize);
        levels.into_iter().find_map(|id| self.key_class(KeyKind::Cgroup, *id)).unwrap_or(self.set.other_cgroup)
    }

    fn port_class(&self, side: Side, endpoint: SocketAddr) -> u32 {
        let dimension = match side {
            Side::Local => dimensions::LOCAL_PORT,
            Side::Remote => dimensions::REMOTE_PORT,
        };
        if !self.asks(dimension) {
            return CLASS_ALL;
        }
        // Slot 0, because these are the blocks of one slot.
        let block = self.ports.get(port_block(0, side, endpoint.port()) as usize);
        block.map_or(CLASS_NONE, |block| block.classes[(u32::from(endpoint.port()) % PORT_BLOCK) as usize].into())
    }

    fn addr_class(&self, side: Side, endpoint: SocketAddr) -> u32 {
        let dimension = match side {
            Side::Local => dimensions::LOCAL_ADDR,
            Side::Remote => dimensions::REMOTE_ADDR,
        };
        if !self.asks(dimension) {
            return CLASS_ALL;
        }
        let wanted = AddrKey { slot: self.slot as u8, side: side as u8, pad: [0; 2], address: from_ip(endpoint.ip()) };
        let covering = self.addrs.iter().filter(|(len, key, _)| key_bits(key, *len) == key_bits(&wanted, *len));
        covering.max_by_key(|(len, ..)| *len).map_or(CLASS_NONE, |(_, _, class)| *class)
    }
}

/// The first `len` bits of a key, as the trie compares them; the rest is zero.
fn key_bits(key: &AddrKey, len: u32) -> (u32, u128) {
    let head = u32::from_be_bytes([key.slot, key.side, key.pad[0], key.pad[1]]);
    let address = u128::from_be_bytes(key.address);
    let rest = ADDR_KEY_PREFIX + 128 - len;
    (head, address.checked_shr(rest).and_then(|bits| bits.checked_shl(rest)).unwrap_or(0))
}

/// Removes the rules that are not in the other set.
fn intersect(mask: &mut RuleMask, other: &RuleMask) {
    mask.words.iter_mut().zip(other.words).for_each(|(word, other)| *word &= other);
}

/// The first rule of the set.
fn first(mask: &RuleMask) -> Option<usize> {
    let (index, word) = mask.words.iter().enumerate().find(|(_, word)| **word != 0)?;
    Some(index * 64 + word.trailing_zeros() as usize)
}
