//! The answer to a change of the rules.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to `PUT /v1/rules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RulesResult {
    /// How many rules the document has.
    pub count: usize,
    /// The generation in force now: raised by one with each change.
    pub generation: u64,
    /// Whether the document is in force now; false with `dry_run`.
    pub applied: bool,
}
