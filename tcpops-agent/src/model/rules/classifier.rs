//! Compiles rules into the form that the kernel programs look up, see [`tcpops_common::rule`].
//!
//! Each dimension maps every value that a connection may have to a *class*: the number of the set of rules that accept the
//! value. The tests repeat the look-up of the kernel programs in `lookup` and compare it with the definition,
//! [`RuleSet::first_match`](crate::model::rules::rule_set::RuleSet::first_match).

mod addresses;
mod classes;
mod keys;
#[cfg(test)]
mod lookup;
mod ports;

use core::fmt;

use tcpops_common::conn::{Direction, Family, Origin};
use tcpops_common::maps::{RULE_ADDRS_ENTRIES, RULE_KEYS_ENTRIES};
use tcpops_common::rule::{
    self, AddrKey, KINDS, KeyKind, MAX_CLASSES, MAX_NAME, MAX_RULES, PortBlock, RuleKey, RuleMask, SLOTS, Side,
    dimensions, kind,
};

use self::classes::Classes;
use crate::model::rules::rule_set::{Matcher, Rule, RuleSet};

/// The most entries of `RULE_ADDRS` for one slot, both sides together.
const MAX_ADDRS: usize = (RULE_ADDRS_ENTRIES / SLOTS) as usize;
/// The most entries of `RULE_KEYS` for one slot.
const MAX_KEYS: usize = (RULE_KEYS_ENTRIES / SLOTS) as usize;

/// The contents of the rule maps for one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiled {
    pub(crate) slot: u32,
    /// The value of `RULE_SETS`. Its `source_len` and `file_hash` are zero until it is written.
    pub(crate) set: rule::RuleSet,
    /// The values of `RULES`, by position.
    pub(crate) rules: Vec<rule::Rule>,
    /// The values of `RULE_MASKS` by class, beginning with `CLASS_NONE` and `CLASS_ALL`.
    pub(crate) masks: Vec<RuleMask>,
    /// The values of `RULE_PORTS`: [`PORT_BLOCKS`](rule::PORT_BLOCKS) for the local side, then as many for the remote side;
    /// empty where no rule asks for ports.
    pub(crate) ports: Vec<PortBlock>,
    /// The entries of `RULE_ADDRS`: the length of the key's prefix in bits, the key, and the class.
    pub(crate) addrs: Vec<(u32, AddrKey, u32)>,
    /// The entries of `RULE_KEYS`: the key, and the class.
    pub(crate) keys: Vec<(RuleKey, u32)>,
}

/// Compiles the rules for `slot`.
///
/// # Errors
/// Fails if they do not fit into the maps.
pub(crate) fn compile(set: &RuleSet, slot: u32) -> Result<Compiled, TooComplex> {
    TooComplex::check(Capacity::Rules, set.rules.len())?;
    let matchers: Vec<&Matcher> = set.rules.iter().map(|rule| &rule.matcher).collect();
    let mut classes = Classes::new(matchers.len());

    let kind_classes = kinds(&matchers, &mut classes);
    let local_ports = ports::segments(&matchers, |matcher| &matcher.local_ports, &mut classes);
    let remote_ports = ports::segments(&matchers, |matcher| &matcher.remote_ports, &mut classes);
    let local_addrs = addresses::prefixes(&matchers, |matcher| &matcher.local, &mut classes);
    let remote_addrs = addresses::prefixes(&matchers, |matcher| &matcher.remote, &mut classes);
    let uids = keys::uids(&matchers, &mut classes);
    let cgroups = keys::cgroups(&matchers, &mut classes);

    let used = [
        (dimensions::LOCAL_ADDR, local_addrs.is_some()),
        (dimensions::REMOTE_ADDR, remote_addrs.is_some()),
        (dimensions::LOCAL_PORT, local_ports.is_some()),
        (dimensions::REMOTE_PORT, remote_ports.is_some()),
        (dimensions::UID, uids.is_some()),
        (dimensions::CGROUP, cgroups.is_some()),
        (dimensions::CONNECT, set.rules.iter().any(|rule| rule.closing.connect_ns != 0)),
        (dimensions::UNTRACKED, set.leaves_untracked()),
    ];
    let header = rule::RuleSet {
        rules: matchers.len() as u32,
        words: matchers.len().div_ceil(64) as u32,
        dimensions: used.into_iter().filter(|(_, used)| *used).map(|(bit, _)| bit).sum(),
        other_uid: uids.as_ref().map_or(rule::CLASS_ALL, |uids| uids.other),
        other_cgroup: cgroups.as_ref().map_or(rule::CLASS_ALL, |cgroups| cgroups.other),
        source_len: 0,
        kind_classes,
        file_hash: [0; 32],
    };

    let masks = classes.into_masks();
    TooComplex::check(Capacity::Classes, masks.len())?;
    let mut addrs = Vec::new();
    addrs.extend(addresses::entries(local_addrs, slot, Side::Local));
    addrs.extend(addresses::entries(remote_addrs, slot, Side::Remote));
    TooComplex::check(Capacity::Addresses, addrs.len())?;
    let mut keys = Vec::new();
    keys.extend(keys::entries(uids, slot, KeyKind::Uid));
    keys.extend(keys::entries(cgroups, slot, KeyKind::Cgroup));
    TooComplex::check(Capacity::Keys, keys.len())?;

    Ok(Compiled {
        slot,
        set: header,
        rules: set.rules.iter().map(kernel_rule).collect(),
        masks,
        ports: ports::blocks([local_ports, remote_ports]),
        addrs,
        keys,
    })
}

/// The class of each kind of connection. Direction, family and origin have so few values that they form one dimension.
fn kinds(matchers: &[&Matcher], classes: &mut Classes) -> [u32; KINDS] {
    fn has<T: PartialEq>(values: &[T], value: T) -> bool {
        values.is_empty() || values.contains(&value)
    }
    let mut kind_classes = [rule::CLASS_NONE; KINDS];
    for direction in [Direction::Outbound, Direction::Inbound, Direction::Listen] {
        for family in [Family::Inet, Family::Inet6] {
            for origin in [Origin::Handshake, Origin::Adopted] {
                let accepting = classes::mask(matchers, |matcher| {
                    has(&matcher.directions, direction)
                        && has(&matcher.families, family)
                        && has(&matcher.origins, origin)
                });
                kind_classes[kind(direction, family, origin)] = classes.class(&accepting);
            }
        }
    }
    kind_classes
}

fn kernel_rule(rule: &Rule) -> rule::Rule {
    let mut name = [0; MAX_NAME + 1];
    let bytes = &rule.name.as_bytes()[..rule.name.floor_char_boundary(MAX_NAME)];
    name[..bytes.len()].copy_from_slice(bytes);
    rule::Rule { policy: rule.policy, id: rule.id, untracked: u32::from(!rule.tracked), name }
}

/// The rules exceed a limit of the rule maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooComplex {
    pub(crate) limit: Capacity,
    /// How much the rules would need.
    pub(crate) found: usize,
}

/// The limits of the rule maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// [`MAX_RULES`].
    Rules,
    /// [`MAX_CLASSES`].
    Classes,
    /// Half of [`RULE_ADDRS_ENTRIES`].
    Addresses,
    /// Half of [`RULE_KEYS_ENTRIES`].
    Keys,
}

impl Capacity {
    pub(crate) const fn number(self) -> usize {
        match self {
            Self::Rules => MAX_RULES,
            Self::Classes => MAX_CLASSES as usize,
            Self::Addresses => MAX_ADDRS,
            Self::Keys => MAX_KEYS,
        }
    }
}

impl TooComplex {
    fn check(limit: Capacity, found: usize) -> Result<(), Self> {
        if found > limit.number() { Err(Self { limit, found }) } else { Ok(()) }
    }
}

impl fmt::Display for TooComplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, number) = (self.found, self.limit.number());
        match self.limit {
            Capacity::Rules => write!(f, "expected at most {number} rules, found {found}"),
            Capacity::Classes => write!(
                f,
                "expected at most {number} different sets of rules that accept one port, address, uid or cgroup, \
                 found {found}; let fewer rules overlap, or join those that want the same"
            ),
            Capacity::Addresses => {
                write!(f, "expected at most {number} networks in all rules, found {found}; join adjacent ones")
            }
            Capacity::Keys => {
                write!(f, "expected at most {number} uids and cgroups in all rules, found {found}; name cgroups above")
            }
        }
    }
}

impl core::error::Error for TooComplex {}

#[cfg(test)]
mod tests;
