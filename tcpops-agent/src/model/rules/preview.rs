//! The changes that other rules would make, connection by connection, found without making them.

use std::collections::{BTreeMap, HashSet};

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::enforce::Reconsidered;
use tcpops_common::policy::Policy;
use tcpops_common::rule::MAX_CGROUP_DEPTH;

use crate::model::rules::rule_set::{Facts, Rule, RuleSet};

/// The rule that matches, by its id, and the policy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The id of the rule; zero if none matches.
    pub(crate) rule: u32,
    /// The policy in force.
    pub(crate) policy: Policy,
}

/// A change that other rules would make to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: ConnKey,
    /// Its entry.
    pub(crate) connection: Connection,
    /// How it stands now.
    pub(crate) before: Standing,
    /// How it would stand.
    pub(crate) after: Standing,
}

impl Standing {
    fn of(connection: &Connection) -> Self {
        Self { rule: connection.rule, policy: connection.policy }
    }
}

/// Compares how a connection stands with how it would stand under this rule and its override, as a walk does; `None`
/// where nothing would change.
pub(crate) fn reconsidered(
    connection: &Connection,
    rule: Option<&Rule>,
    override_: Option<&Policy>,
) -> Option<(Standing, Standing)> {
    let mut after = *connection;
    if let Some(override_) = override_
        && after.awaits(override_)
    {
        // A walk applies it first, whatever the rules.
        after.take_override(override_);
    }
    let before = Standing::of(&after);
    let (id, by_rule) = rule.map_or((0, &Policy::NONE), |rule| (rule.id, &rule.policy));
    match after.reconsider(id, by_rule, override_.unwrap_or(&Policy::NONE)) {
        Reconsidered::Unchanged => None,
        Reconsidered::Changed | Reconsidered::OptionsChanged => Some((before, Standing::of(&after))),
    }
}

/// Collects the changes that a set of rules would make, as the connections come.
#[derive(Clone, Debug)]
pub(crate) struct Preview {
    rules: RuleSet,
    asks_for_cgroups: bool,
    /// The number of changes that are kept, those of the lowest conids.
    max: usize,
    changes: BTreeMap<u64, Change>,
    changed: HashSet<u64>,
    unreachable: HashSet<u64>,
    unsure: HashSet<u64>,
}

/// The changes that a set of rules would make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Previewed {
    /// The changes, by rising conid, as many as are kept.
    pub(crate) changes: Vec<Change>,
    /// The number of connections that would change.
    pub(crate) changed: u64,
    /// The number of those that would, but are in namespaces that cannot be entered.
    pub(crate) unreachable: u64,
    /// The number of connections in a cgroup that is gone, or not known, while some rule asks for cgroups: only the
    /// kernel knows what it was below.
    pub(crate) unsure: u64,
}

impl Preview {
    /// A preview of rules that have their ids.
    pub(crate) fn new(rules: RuleSet, max: usize) -> Self {
        let asks_for_cgroups = rules.asks_for_cgroups();
        let (changes, [changed, unreachable, unsure]) = (BTreeMap::new(), [(); 3].map(|()| HashSet::new()));
        Self { rules, asks_for_cgroups, max, changes, changed, unreachable, unsure }
    }

    /// Takes a connection in. `lineage` gives its cgroup and each above it, `override_` its override, `reachable`
    /// whether a walk would come by it; each is asked only where it matters.
    pub(crate) fn consider<E>(
        &mut self,
        key: ConnKey,
        connection: &Connection,
        lineage: impl FnOnce(u64) -> Option<Vec<u64>>,
        override_: impl FnOnce() -> Result<Option<Policy>, E>,
        reachable: impl FnOnce() -> bool,
    ) -> Result<(), E> {
        let mut cgroups = Vec::new();
        if self.asks_for_cgroups && connection.cgroup_id != 0 {
            cgroups = lineage(connection.cgroup_id).unwrap_or_else(|| {
                self.unsure.insert(key.conid);
                vec![connection.cgroup_id]
            });
            // The kernel programs look no further.
            cgroups.truncate(MAX_CGROUP_DEPTH as usize);
        }
        let rule = self.rules.first_match(&Facts::of(connection, cgroups));
        let Some((before, after)) = reconsidered(connection, rule, override_()?.as_ref()) else { return Ok(()) };
        if !reachable() {
            self.unreachable.insert(key.conid);
        } else if self.changed.insert(key.conid) {
            self.changes.insert(key.conid, Change { key, connection: *connection, before, after });
            if self.changes.len() > self.max {
                self.changes.pop_last();
            }
        }
        Ok(())
    }

    /// The result.
    pub(crate) fn finish(self) -> Previewed {
        let count = |conids: HashSet<u64>| conids.len() as u64;
        Previewed {
            changes: self.changes.into_values().collect(),
            changed: count(self.changed),
            unreachable: count(self.unreachable),
            unsure: count(self.unsure),
        }
    }
}

#[cfg(test)]
mod tests;
