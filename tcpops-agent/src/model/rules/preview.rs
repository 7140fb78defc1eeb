//! What other rules would change, connection by connection, without changing it.
//!
//! The decision is the kernel programs' own (`reconsider` and what comes before it in a walk, `tcpops-ebpf/src/enforce.rs`
//! and `iter_tcp.rs`), made here from the entries; the end-to-end tests hold it against what a change then does.

use std::collections::{BTreeMap, HashSet};

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::policy::Policy;
use tcpops_common::rule::MAX_CGROUP_DEPTH;
use tcpops_common::state::TcpState;

use crate::model::rules::rule_set::{Facts, Rule, RuleSet};

/// The rule that matches, by its id, and the policy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The id of the rule; zero if none matches.
    pub(crate) rule: u32,
    /// What is wanted of the connection.
    pub(crate) policy: Policy,
}

/// What would change on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The connection.
    pub(crate) key: ConnKey,
    /// Its entry.
    pub(crate) connection: Connection,
    /// What is in force.
    pub(crate) before: Standing,
    /// What would be.
    pub(crate) after: Standing,
}

/// How a connection would stand under the rule that matches it, beside what was pushed for it; before and after. `None`
/// where nothing would change.
pub(crate) fn reconsidered(
    connection: &Connection,
    rule: Option<&Rule>,
    pushed: Option<&Policy>,
) -> Option<(Standing, Standing)> {
    if matches!(connection.state, TcpState::SynSent | TcpState::SynRecv) {
        // It gets its rule at the end of its handshake.
        return None;
    }
    let mut before = Standing { rule: connection.rule, policy: connection.policy };
    if let Some(pushed) = pushed
        && before.policy.serial != pushed.serial
    {
        // A walk that comes by applies it first, whatever the rules.
        before.policy.override_with(pushed);
    }
    let by_rule = rule.map_or(Policy::NONE, |rule| rule.policy);
    let policy = by_rule.overridden_by(pushed.unwrap_or(&Policy::NONE));
    let after = Standing { rule: rule.map_or(0, |rule| rule.id), policy };
    (before != after).then_some((before, after))
}

/// What a set of rules would change, as the connections come.
#[derive(Clone, Debug)]
pub(crate) struct Preview {
    rules: RuleSet,
    asks_for_cgroups: bool,
    /// How many changes are kept: those of the lowest conids.
    max: usize,
    changes: BTreeMap<u64, Change>,
    changed: HashSet<u64>,
    unreachable: HashSet<u64>,
    unsure: HashSet<u64>,
}

/// What a set of rules would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Previewed {
    /// The changes, by rising conid, as many as are kept.
    pub(crate) changes: Vec<Change>,
    /// How many there are.
    pub(crate) changed: u64,
    /// How many there would be more, in namespaces that cannot be entered.
    pub(crate) unreachable: u64,
    /// How many connections are in a cgroup that is gone, or not known, while some rule asks for cgroups: only the
    /// kernel knows what it was below.
    pub(crate) unsure: u64,
}

impl Preview {
    /// Of rules that have their ids.
    pub(crate) fn new(rules: RuleSet, max: usize) -> Self {
        let asks_for_cgroups = rules.asks_for_cgroups();
        let (changes, [changed, unreachable, unsure]) = (BTreeMap::new(), [(); 3].map(|()| HashSet::new()));
        Self { rules, asks_for_cgroups, max, changes, changed, unreachable, unsure }
    }

    /// Takes a connection in. `lineage` gives its cgroup and each above it, `pushed` what was pushed for it, `reachable`
    /// whether a walk would come by it; each is asked only where it matters.
    pub(crate) fn consider<E>(
        &mut self,
        key: ConnKey,
        connection: &Connection,
        lineage: impl FnOnce(u64) -> Option<Vec<u64>>,
        pushed: impl FnOnce() -> Result<Option<Policy>, E>,
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
        let Some((before, after)) = reconsidered(connection, rule, pushed()?.as_ref()) else { return Ok(()) };
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

    /// What it came to.
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
