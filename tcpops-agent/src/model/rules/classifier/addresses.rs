//! Addresses: the class of the longest prefix, in a trie that IPv4 and IPv6 share.
//!
//! A look-up ends at the longest prefix that covers the address, so a prefix's class also has the rules of the shorter
//! prefixes around it, and the rules that do not ask for this address.

use std::collections::BTreeMap;

use ipnet::IpNet;
use tcpops_common::rule::{ADDR_KEY_PREFIX, AddrKey, RuleMask, Side};

use super::classes::{Classes, asked, insert, unite};
use crate::model::rules::rule_set::Matcher;

/// The first bits of sixteen-byte addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    /// The bits as a number in host order; zero beyond `len`.
    bits: u128,
    /// The number of bits, 0 to 128.
    len: u32,
}

impl Prefix {
    /// Every address.
    const ALL: Self = Self { bits: 0, len: 0 };
    /// `::ffff:0:0/96`: every IPv4 address.
    const IPV4: Self = Self { bits: 0xffff << 32, len: 96 };

    fn new(net: &IpNet) -> Self {
        match net.trunc() {
            IpNet::V4(v4) => {
                Self { bits: v4.addr().to_ipv6_mapped().to_bits(), len: Self::IPV4.len + u32::from(v4.prefix_len()) }
            }
            IpNet::V6(v6) => Self { bits: v6.addr().to_bits(), len: v6.prefix_len().into() },
        }
    }

    /// True if `later`, which comes after this prefix in their order, lies within it.
    fn covers(self, later: Self) -> bool {
        // A shift by all 128 bits is not defined, but leaves nothing that could differ.
        (self.bits ^ later.bits).checked_shr(128 - self.len).is_none_or(|differing| differing == 0)
    }
}

/// A prefix with the rules that accept the addresses for which it is the longest, and their class.
pub(crate) struct Entry {
    prefix: Prefix,
    mask: RuleMask,
    class: u32,
}

/// The prefixes of one side, beginning with the one of all addresses; `None` if no rule asks for them.
pub(crate) fn prefixes<'a>(
    matchers: &[&'a Matcher],
    nets: impl Fn(&'a Matcher) -> &'a [IpNet],
    classes: &mut Classes,
) -> Option<Vec<Entry>> {
    let open = asked(matchers, &nets)?;
    // IPv4 has a default of its own, because an IPv6 network around ::ffff:0:0/96, such as ::/0, does not hold IPv4.
    let mut named = BTreeMap::from([(Prefix::ALL, open), (Prefix::IPV4, open)]);
    for (rule, matcher) in matchers.iter().enumerate() {
        for net in nets(matcher) {
            insert(named.entry(Prefix::new(net)).or_insert(RuleMask::NONE), rule);
        }
    }
    let mut entries: Vec<Entry> = Vec::new();
    // The positions of the entries around the current one: in their order, a prefix comes before those within it.
    let mut around: Vec<usize> = Vec::new();
    for (prefix, mut mask) in named {
        while around.pop_if(|outer| !entries[*outer].prefix.covers(prefix)).is_some() {}
        let outer = around.last().map(|outer| &entries[*outer]);
        if prefix != Prefix::IPV4 {
            outer.inspect(|outer| unite(&mut mask, &outer.mask));
        }
        let class = classes.class(&mask);
        // A prefix with the class of the prefix around it is left out: a look-up may as well end there.
        if outer.is_none_or(|outer| outer.class != class) {
            around.push(entries.len());
            entries.push(Entry { prefix, mask, class });
        }
    }
    Some(entries)
}

/// The entries of the trie.
pub(crate) fn entries(
    prefixes: Option<Vec<Entry>>,
    slot: u32,
    side: Side,
) -> impl Iterator<Item = (u32, AddrKey, u32)> {
    prefixes.into_iter().flatten().map(move |Entry { prefix, class, .. }| {
        let address = prefix.bits.to_be_bytes();
        let key = AddrKey { slot: slot as u8, side: side as u8, pad: [0; 2], address };
        (ADDR_KEY_PREFIX + prefix.len, key, class)
    })
}
