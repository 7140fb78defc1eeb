//! Changing the rules: how, and the answer.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The query of `PUT /v1/rules`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RulesQuery {
    /// True: nothing is changed; the answer says whether the rules could be put in force.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to `PUT /v1/rules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RulesResult {
    /// How many rules the document has.
    pub count: usize,
    /// The generation in force now: raised by one with each change.
    pub generation: u64,
    /// Whether the document is in force now; false with `dry_run`.
    pub applied: bool,
    /// How many open connections have another policy now; those of other changes that came at the same time included.
    #[serde(default)]
    pub changed: u64,
}
