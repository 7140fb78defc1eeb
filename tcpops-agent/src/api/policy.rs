//! The policy of a connection: what is wanted of it, where that came from, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

use super::keepalive::SocketOptions;
use super::lifetime::Lifetime;
use super::rules::Rule;
use super::values::Mode;

super::values::words::words!(Source, Outcome, OptionName, OwnOption);

/// The policy in force on a connection.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Policy {
    /// The name of the rule that matches it.
    pub(crate) rule: Option<String>,
    /// The socket options that are wanted; absent where none are.
    pub(crate) wanted: Option<Wanted>,
    /// Where the keepalive came from.
    pub(crate) keepalive_source: Option<Source>,
    /// Where the user timeout came from.
    pub(crate) user_timeout_source: Option<Source>,
    /// The lifetimes in force.
    pub(crate) lifetime: Option<Lifetime>,
    /// Where they came from.
    pub(crate) lifetime_source: Option<Source>,
    /// The result of applying the options; absent where nothing was applied.
    pub(crate) result: Option<ApplyResult>,
}

/// Where a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Source {
    /// From a rule.
    Rule,
    /// From what was set for the one connection.
    Override,
}

/// The outcome of applying the options of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Outcome {
    /// Every option was taken.
    Applied,
    /// The program has set them itself, and the rule leaves them to such programs.
    #[strum(serialize = "left to the program")]
    Yielded,
    /// The kernel refused an option.
    Refused,
}

/// A socket option, by its constant in tcp(7) and socket(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum OptionName {
    /// TCP_USER_TIMEOUT.
    TcpUserTimeout,
    /// TCP_KEEPIDLE.
    TcpKeepidle,
    /// TCP_KEEPINTVL.
    TcpKeepintvl,
    /// TCP_KEEPCNT.
    TcpKeepcnt,
    /// SO_KEEPALIVE.
    SoKeepalive,
}

/// Options that a program can set itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum OwnOption {
    /// Keepalive and its parameters.
    Keepalive,
    /// The user timeout.
    UserTimeout,
}

/// The policy that is wanted for a connection.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Intent {
    /// The name of the rule that matches.
    pub(crate) rule: Option<String>,
    /// The socket options that are wanted; absent where none are.
    pub(crate) wanted: Option<Wanted>,
    /// The lifetimes; without a limit where none is wanted, absent where nothing is said of them.
    pub(crate) lifetime: Option<Lifetime>,
}

/// The socket options that are wanted.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Wanted {
    /// True: on; false: off; absent: as the program has it.
    pub(crate) keepalive: Option<bool>,
    /// TCP_KEEPIDLE, seconds.
    pub(crate) idle_seconds: Option<u16>,
    /// TCP_KEEPCNT.
    pub(crate) count: Option<u8>,
    /// TCP_KEEPINTVL, seconds.
    pub(crate) interval_seconds: Option<u16>,
    /// The precedence of the keepalive over the program's own: `default` or `floor`; absent where it replaces it.
    pub(crate) keepalive_mode: Option<Mode>,
    /// TCP_USER_TIMEOUT, milliseconds; 0 is off.
    pub(crate) user_timeout_ms: Option<u32>,
    /// The precedence of the user timeout, likewise.
    pub(crate) user_timeout_mode: Option<Mode>,
}

/// The result of applying the options.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ApplyResult {
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::values::time")]
    pub(crate) at: Timestamp,
    /// The option that the kernel refused.
    pub(crate) refused_option: Option<OptionName>,
    /// The errno with which it did.
    pub(crate) errno: Option<i32>,
    /// The options in force since, as `getsockopt` read them.
    pub(crate) in_force: SocketOptions,
    /// The options as the program had them, before the first change; they come back with `detach`.
    pub(crate) original: SocketOptions,
}

/// Where the policy of a connection came from.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Why {
    /// The rule that matches, as it was written, also where an override hides it. Absent where none matches.
    pub(crate) rule: Option<Rule>,
    /// True: the connection still has the policy of a rule that is no longer in force, since no walk has reached it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rule_is_gone: bool,
    /// The policy that was set for this one connection. It wins over the rule.
    pub(crate) r#override: Option<Override>,
    /// Options that the program has set itself, as far as is known. Nothing is known before options
    /// are applied for the first time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) set_by_program: Vec<OwnOption>,
}

/// A policy that was set for one connection.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Override {
    /// The uid that set it last.
    pub(crate) by_uid: u32,
    /// True: it was applied. False while it waits for the next walk, or for the end of the handshake.
    pub(crate) applied: bool,
    /// The socket options that it wants; absent where it says nothing of them.
    pub(crate) wanted: Option<Wanted>,
    /// The lifetimes that it wants, without a limit where it takes them off; absent where it says nothing of them.
    pub(crate) lifetime: Option<Lifetime>,
}
