//! Changing the rules: how, and the answer.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::absent::is_default;
use super::policy::Intent;

/// The query of `PUT /v1/rules`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RulesQuery {
    /// True: nothing is changed; the answer says whether the rules could be put in force, and what that would change.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// The answer to `PUT /v1/rules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RulesResult {
    /// The number of rules in the document.
    pub(crate) count: usize,
    /// The generation in force now: raised by one with each change.
    pub(crate) generation: u64,
    /// True: the document is in force now. False with `dry_run`.
    pub(crate) applied: bool,
    /// The number of open connections that have another policy now, including those of other changes made at the same
    /// time. With `dry_run`: the number that would have one.
    #[serde(default)]
    pub(crate) changed: u64,
    /// Only with `dry_run`: those connections by rising conid, the first 10000 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changes: Vec<RuleChange>,
    /// Only with `dry_run`: the number of connections that would change too, but are in network namespaces that cannot
    /// be entered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) unreachable: u64,
    /// Only with `dry_run`, where a rule matches by cgroup: the number of connections in a directory that is gone. They
    /// are judged as if nothing were above it; only the kernel knows what was.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) unsure: u64,
}

/// The most connections in [`RulesResult::changes`].
pub(crate) const MAX_CHANGES: usize = 10_000;

/// The change that other rules would make to one connection.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RuleChange {
    /// The connection.
    pub(crate) conid: u64,
    /// This host's endpoint.
    pub(crate) local: String,
    /// The peer's endpoint; absent for a listener.
    pub(crate) remote: Option<String>,
    /// The policy in force, from rules and from an override.
    pub(crate) before: Intent,
    /// The policy that would be in force.
    pub(crate) after: Intent,
}
