//! Why a connection has the policy that it has.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::connections::Wanted;
use super::lifetime::Lifetime;
use super::rules::Rule;

/// Where the policy of a connection came from; what it came to is beside it, in `policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Why {
    /// The rule that matches, as it was written: what it wants by itself, also where something that was pushed hides it.
    /// Absent where none matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<Rule>,
    /// True: it still stands under a rule that is not in force any more, since no walk has come by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rule_is_gone: bool,
    /// What was pushed for this one connection. It wins over the rule.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub(crate) pushed: Option<Override>,
    /// What the program has set itself, as far as is known: `keepalive`, `user_timeout`. Nothing is known before options
    /// are applied for the first time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) set_by_program: Vec<String>,
}

/// What was pushed for one connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Override {
    /// The uid that pushed last.
    pub(crate) by_uid: u32,
    /// Whether it was applied; false while it waits for the next walk, or for the end of the handshake.
    pub(crate) applied: bool,
    /// What it wants of the socket options; absent where it says nothing of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<Wanted>,
    /// The lifetimes that it wants, without a limit where it takes them off; absent where it says nothing of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lifetime: Option<Lifetime>,
}
