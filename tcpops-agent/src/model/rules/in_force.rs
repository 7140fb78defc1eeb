//! What the agent itself needs of the rules in force, since the kernel programs neither close connections nor know names.

use std::collections::HashMap;

use tcpops_common::conn::Connection;

use crate::model::expiry::closing::{ClosePolicy, Guard, Protection};
use crate::model::expiry::looks::shortest_untold_ns;
use crate::model::rules::rule_set::{Facts, Matcher, RuleSet};

/// The names of rules by id.
pub(crate) type RuleNames = HashMap<u32, String>;

/// The names of the rules in force, and how they close connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct InForce {
    names: RuleNames,
    closings: HashMap<u32, ClosePolicy>,
    protecting: Vec<(u32, Matcher)>,
    guard: Guard,
    /// The shortest limit of which the kernel programs do not tell, nanoseconds.
    shortest_untold_ns: Option<u64>,
    leaves_untracked: bool,
    wants_options: bool,
}

impl InForce {
    /// Reads the rules, which must have their ids.
    pub(crate) fn of(set: &RuleSet) -> Self {
        Self {
            names: set.rules.iter().map(|rule| (rule.id, rule.name.clone())).collect(),
            closings: set.rules.iter().map(|rule| (rule.id, rule.closing)).collect(),
            protecting: set
                .rules
                .iter()
                .filter(|rule| rule.closing.protect)
                .map(|rule| (rule.id, rule.matcher.clone()))
                .collect(),
            guard: set.guard.clone(),
            shortest_untold_ns: set
                .rules
                .iter()
                .filter_map(|rule| shortest_untold_ns(&rule.policy.lifetime, &rule.closing))
                .min(),
            leaves_untracked: set.leaves_untracked(),
            wants_options: set.wants_options(),
        }
    }

    /// The shortest of their limits of which the kernel programs do not tell, nanoseconds.
    pub(crate) fn shortest_untold_ns(&self) -> Option<u64> {
        self.shortest_untold_ns
    }

    /// True if a rule leaves connections untracked.
    pub(crate) fn leaves_untracked(&self) -> bool {
        self.leaves_untracked
    }

    /// True if a rule wants socket options.
    pub(crate) fn wants_options(&self) -> bool {
        self.wants_options
    }

    pub(crate) fn names(&self) -> &RuleNames {
        &self.names
    }

    /// The name of a rule, or a placeholder if the rule is gone.
    pub(crate) fn name(&self, id: u32) -> &str {
        self.names.get(&id).map_or("(gone)", String::as_str)
    }

    /// How a rule closes connections; `None` for an id that no rule has.
    pub(crate) fn closing(&self, id: u32) -> Option<&ClosePolicy> {
        self.closings.get(&id)
    }

    /// The bounds on what rules may close.
    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Why no rule may close this connection. `lineage` returns its cgroup and that cgroup's ancestors, if they are known; it
    /// is called only if a rule names cgroups.
    ///
    /// A connection whose cgroups are not known is protected, because it may be in one that a rule protects.
    pub(crate) fn protection(
        &self,
        connection: &Connection,
        lineage: impl FnOnce() -> Option<Vec<u64>>,
    ) -> Option<Protection> {
        let ports = [connection.local_port, connection.remote_port];
        if let Some(port) = self.guard.protected_ports.iter().find(|port| ports.contains(port)) {
            return Some(Protection::Port(*port));
        }
        if self.protecting.is_empty() {
            return None;
        }
        let mut facts = Facts::of(connection, Vec::new());
        let mut known = true;
        if self.protecting.iter().any(|(_, matcher)| !matcher.cgroups.is_empty()) {
            match lineage() {
                Some(cgroups) => facts.cgroups = cgroups,
                None => known = false,
            }
        }
        let accepts = |matcher: &Matcher| {
            matcher.accepts(&facts) || !known && Matcher { cgroups: Vec::new(), ..matcher.clone() }.accepts(&facts)
        };
        self.protecting.iter().find(|(_, matcher)| accepts(matcher)).map(|(id, _)| Protection::Rule(*id))
    }
}

#[cfg(test)]
mod tests {
    use tcpops_common::policy::Policy;

    use super::*;
    use crate::model::rules::rule_set::{Cgroup, Rule};
    use crate::model::testing::connection;

    fn in_force(matchers: Vec<(bool, Matcher)>, guard: Guard) -> InForce {
        let rules = matchers.into_iter().zip(1..).map(|((protect, matcher), id)| Rule {
            name: format!("r{id}"),
            id,
            policy: Policy::NONE,
            closing: ClosePolicy { protect, ..ClosePolicy::DEFAULT },
            tracked: true,
            matcher,
        });
        InForce::of(&RuleSet { rules: rules.collect(), guard })
    }

    fn protection(in_force: &InForce, connection: &Connection, lineage: Option<Vec<u64>>) -> Option<Protection> {
        in_force.protection(connection, || lineage)
    }

    #[test]
    fn a_protected_port_may_be_at_either_end() {
        let rules = in_force(Vec::new(), Guard::default());
        let ssh = Connection { local_port: 22, ..connection() };
        assert_eq!(protection(&rules, &ssh, None), Some(Protection::Port(22)));
        let out = Connection { remote_port: 22, ..connection() };
        assert_eq!(protection(&rules, &out, None), Some(Protection::Port(22)));
        assert_eq!(protection(&rules, &connection(), None), None);
        let none = in_force(Vec::new(), Guard { protected_ports: vec![], ..Guard::default() });
        assert_eq!(protection(&none, &ssh, None), None);
    }

    #[test]
    fn a_rule_protects_whatever_its_place() {
        let remote = Matcher { remote: vec!["192.0.2.0/24".parse().unwrap()], ..Matcher::default() };
        let rules = in_force(vec![(false, Matcher::default()), (true, remote)], Guard::default());
        assert_eq!(protection(&rules, &connection(), None), Some(Protection::Rule(2)));
        let other = Connection { remote_addr: [0; 16], ..connection() };
        assert_eq!(protection(&rules, &other, None), None);
    }

    #[test]
    fn what_may_be_in_a_protected_cgroup_is_protected() {
        let cgroups = vec![Cgroup { id: 30, ancestors: vec![10] }];
        let matcher = Matcher { cgroups, uids: vec![1000], ..Matcher::default() };
        let rules = in_force(vec![(true, matcher)], Guard::default());
        assert_eq!(protection(&rules, &connection(), Some(vec![40, 30, 10])), Some(Protection::Rule(1)));
        assert_eq!(protection(&rules, &connection(), Some(vec![40, 10])), None);
        assert_eq!(protection(&rules, &connection(), None), Some(Protection::Rule(1)));
        let other = Connection { uid: 1001, ..connection() };
        assert_eq!(protection(&rules, &other, None), None);
    }
}
