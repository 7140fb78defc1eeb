//! Addresses: the class of the longest prefix in a trie that IPv4 and IPv6 share.
//!
//! A look-up ends at the longest prefix that covers the address, so each prefix's class has to hold the rules of the
//! shorter ones around it, and of those that ask nothing.

use std::collections::BTreeMap;

use ipnet::IpNet;
use tcpops_common::rule::{ADDR_KEY_PREFIX, AddrKey, RuleMask, Side};

use super::classes::{Classes, asked, insert, unite};
use crate::model::rules::rule_set::Matcher;

/// The first bits of sixteen-byte addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    /// As a number in host order; zero beyond `len`.
    bits: u128,
    /// How many bits, 0 to 128.
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

    /// Whether a prefix that comes after this one in their order lies within this one.
    fn covers(self, later: Self) -> bool {
        // To shift out all 128 bits is not defined; but then nothing is left to differ.
        (self.bits ^ later.bits).checked_shr(128 - self.len).is_none_or(|differing| differing == 0)
    }
}

/// A prefix, and what accepts the addresses of which it is the longest.
pub(crate) struct Entry {
    prefix: Prefix,
    mask: RuleMask,
    class: u32,
}

/// The prefixes of one side, the default of all addresses first; `None` if no rule asks.
pub(crate) fn prefixes<'a>(
    matchers: &[&'a Matcher],
    nets: impl Fn(&'a Matcher) -> &'a [IpNet],
    classes: &mut Classes,
) -> Option<Vec<Entry>> {
    let open = asked(matchers, &nets)?;
    // IPv4 has a default of its own: an IPv6 network around ::ffff:0:0/96, such as ::/0, is not meant to hold IPv4.
    let mut named = BTreeMap::from([(Prefix::ALL, open), (Prefix::IPV4, open)]);
    for (rule, matcher) in matchers.iter().enumerate() {
        for net in nets(matcher) {
            insert(named.entry(Prefix::new(net)).or_insert(RuleMask::NONE), rule);
        }
    }
    let mut entries: Vec<Entry> = Vec::new();
    // The positions of the entries around the present one. In their order, a prefix comes before those within it.
    let mut around: Vec<usize> = Vec::new();
    for (prefix, mut mask) in named {
        while around.pop_if(|outer| !entries[*outer].prefix.covers(prefix)).is_some() {}
        let outer = around.last().map(|outer| &entries[*outer]);
        if prefix != Prefix::IPV4 {
            outer.inspect(|outer| unite(&mut mask, &outer.mask));
        }
        let class = classes.class(&mask);
        // Where it says the same as the prefix around it, the look-up may as well end there.
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
