//! Uids and cgroups: a hash has the class of each that a rule names, and all others have one class.

use std::collections::{BTreeMap, BTreeSet};

use tcpops_common::rule::{KeyKind, RuleKey, RuleMask};

use super::classes::{Classes, asked, insert, unite};
use crate::model::rules::rule_set::Matcher;

/// The classes of one kind of key.
pub(crate) struct Keys {
    /// The class of the values that no rule names.
    pub(crate) other: u32,
    classes: Vec<(u64, u32)>,
}

/// The classes of uids; `None` if no rule asks for them.
pub(crate) fn uids(matchers: &[&Matcher], classes: &mut Classes) -> Option<Keys> {
    let open = asked(matchers, |matcher| &matcher.uids)?;
    let mut named: BTreeMap<u64, RuleMask> = BTreeMap::new();
    for (rule, matcher) in matchers.iter().enumerate() {
        for uid in &matcher.uids {
            insert(named.entry(u64::from(*uid)).or_insert(open), rule);
        }
    }
    Some(keys(&open, named, classes))
}

/// The classes of cgroups; `None` if no rule asks for them.
///
/// The look-up goes from a socket's cgroup upward and ends at the first that a rule names, so its class also has the rules
/// of its ancestors.
pub(crate) fn cgroups(matchers: &[&Matcher], classes: &mut Classes) -> Option<Keys> {
    let open = asked(matchers, |matcher| &matcher.cgroups)?;
    let mut own: BTreeMap<u64, RuleMask> = BTreeMap::new();
    let mut above: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (rule, matcher) in matchers.iter().enumerate() {
        for cgroup in &matcher.cgroups {
            insert(own.entry(cgroup.id).or_insert(open), rule);
            above.entry(cgroup.id).or_default().extend(&cgroup.ancestors);
        }
    }
    let mut named = own.clone();
    for (id, mask) in &mut named {
        above[id].iter().filter_map(|ancestor| own.get(ancestor)).for_each(|ancestor| unite(mask, ancestor));
    }
    Some(keys(&open, named, classes))
}

fn keys(open: &RuleMask, named: BTreeMap<u64, RuleMask>, classes: &mut Classes) -> Keys {
    let other = classes.class(open);
    Keys { other, classes: named.into_iter().map(|(value, mask)| (value, classes.class(&mask))).collect() }
}

/// The entries of the hash.
pub(crate) fn entries(keys: Option<Keys>, slot: u32, kind: KeyKind) -> impl Iterator<Item = (RuleKey, u32)> {
    let classes = keys.into_iter().flat_map(|keys| keys.classes);
    classes.map(move |(value, class)| (RuleKey { slot, kind: kind as u32, value }, class))
}
