//! Changing the rules: how, and the answer.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::connections::Intent;

/// The query of `PUT /v1/rules`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RulesQuery {
    /// True: nothing is changed; the answer says whether the rules could be put in force, and what that would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to `PUT /v1/rules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RulesResult {
    /// How many rules the document has.
    pub count: usize,
    /// The generation in force now: raised by one with each change.
    pub generation: u64,
    /// Whether the document is in force now; false with `dry_run`.
    pub applied: bool,
    /// How many open connections have another policy now; those of other changes that came at the same time included.
    /// With `dry_run`: how many would have.
    #[serde(default)]
    pub changed: u64,
    /// With `dry_run`: which those are, by rising conid; the first 10000 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<RuleChange>,
    /// With `dry_run`: how many more would change, but are in network namespaces that cannot be entered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreachable: u64,
    /// With `dry_run`, where a rule asks for the cgroup: how many connections are in a directory that is gone. They are
    /// judged as if nothing were above it; only the kernel knows what was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsure: u64,
}

/// The most connections in [`RulesResult::changes`].
pub const MAX_CHANGES: usize = 10_000;

/// What other rules would change on one connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuleChange {
    /// The connection.
    pub conid: u64,
    /// This host's endpoint.
    pub local: String,
    /// The peer's endpoint; absent for a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// What is in force, of rules and of what was pushed for the connection.
    pub before: Intent,
    /// What would be.
    pub after: Intent,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
