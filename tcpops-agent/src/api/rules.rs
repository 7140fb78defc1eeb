//! The rules as people write them: one document, as a TOML file (`[[rule]]`) and as the JSON body of `/v1/rules`.
//!
//! The rules are ordered; the first that matches a connection decides alone. A rule that wants nothing (no `keepalive`,
//! `user_timeout` or `lifetime`) says "leave these connections alone": it shields them from the rules after it. Beside
//! them, `guard` bounds how much all of them may close.
//!
//! What one field may hold is checked by its type, see [`values`](super::values); what fields may not say together is
//! checked by [`RuleDocument::check`], which everything that is deserialized has passed. Both errors carry line and
//! column.

mod check;
mod text;

pub(crate) use check::RuleFault;
pub(crate) use text::{RuleFileError, in_toml};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::values::{
    CgroupPath, Cidr, Deadline, Direction, Family, Jitter, KeepaliveCount, KeepaliveTime, LifetimeDuration, Manner,
    Mode, OneOrMany, Origin, Ports, Rate, RuleName, Share, Switch, Switchable, Table, Uid, UserTimeout, flag, list,
    present, present_table, table, tables,
};

// Names without parameters, since the derived `ToSchema` knows only generic types that are derived themselves.
type KeepaliveSwitch = Switch<RuleKeepalive>;
type LifetimeSwitch = Switch<RuleLifetime>;
type Directions = OneOrMany<Direction>;
type Networks = OneOrMany<Cidr>;
type PortList = OneOrMany<Ports>;
type Uids = OneOrMany<Uid>;
type Cgroups = OneOrMany<CgroupPath>;
type Families = OneOrMany<Family>;
type Origins = OneOrMany<Origin>;

/// The ordered rules; the first that matches a connection decides alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "rule": [{
    "name": "database",
    "match": { "direction": "outbound", "remote_port": 5432 },
    "keepalive": { "idle": "60s", "count": 5, "interval": "10s" },
    "user_timeout": "auto",
}] }))]
pub(crate) struct RuleDocument {
    /// What keeps the rules from closing too much; absent, no bounds, and port 22 is protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) guard: Option<RuleGuard>,
    /// At most 1024 rules, with names that differ.
    #[serde(rename = "rule")]
    #[schema(required = false, max_items = 1024)]
    pub(crate) rules: Vec<Rule>,
}

/// What keeps the rules from closing too much. It is not about what somebody asks to be closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleGuard {
    /// How many connections all rules together may close in a second; absent, no bound.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) closes_per_second: Option<Rate>,
    /// How many connections one rule may close in a minute, in percent of those that live; absent, no bound.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) percent_per_minute: Option<Share>,
    /// No rule closes a connection with one of these ports at either end; absent, 22. An empty list protects none.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) protect_ports: Option<Vec<Ports>>,
}

/// Which connections, and what is wanted of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The name, which no other rule has. Connections are shown with it; renaming makes it another rule.
    pub(crate) name: RuleName,
    /// Which connections: those that fit every field that is there. Without it, every connection, but no listener.
    #[serde(rename = "match", default, skip_serializing_if = "RuleMatch::is_empty", deserialize_with = "table")]
    #[schema(required = false)]
    pub(crate) matching: RuleMatch,
    /// How `keepalive` and `user_timeout` stand against what the program sets itself: "force" replaces it, "default"
    /// leaves it where there is any, "floor" only tightens it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = "force")]
    pub(crate) mode: Mode,
    /// Keepalive on with these values, or "off"; absent, as the program set it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) keepalive: Option<KeepaliveSwitch>,
    /// TCP_USER_TIMEOUT: a duration, "off", or "auto", which is idle + interval * count of the keepalive beside it;
    /// absent, as the program set it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) user_timeout: Option<UserTimeout>,
    /// When the connection is closed, or "none"; absent, never.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) lifetime: Option<LifetimeSwitch>,
    /// How it is closed: by a "reset", or by a "fin" first.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = "reset")]
    pub(crate) close: Manner,
    /// With `close = "fin"`: how long after the FIN the connection is reset if it is still there; absent, 10s.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) grace: Option<LifetimeDuration>,
    /// False: what the rule would close is logged, and stays open.
    #[serde(default = "enforced", deserialize_with = "flag", skip_serializing_if = "is_enforced")]
    #[schema(default = true)]
    pub(crate) enforce: bool,
    /// True: the connections that the rule matches are never closed by any rule, whatever its place.
    #[serde(default, deserialize_with = "flag", skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub(crate) protect: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn enforced() -> bool {
    true
}

const fn is_enforced(enforce: &bool) -> bool {
    *enforce
}

/// Which connections. A field fits if one of its values does; a field that is not there fits always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleMatch {
    /// Who began. Without it, inbound and outbound connections; listeners match only a rule that says "listen".
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) direction: Option<Directions>,
    /// This host's address.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) local: Option<Networks>,
    /// This host's port.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) local_port: Option<PortList>,
    /// The peer's address.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) remote: Option<Networks>,
    /// The peer's port.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) remote_port: Option<PortList>,
    /// The uid that owns the socket.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) uid: Option<Uids>,
    /// The cgroup that the socket was made in, or one above it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) cgroup: Option<Cgroups>,
    /// The address family on the wire.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) family: Option<Families>,
    /// Whether the handshake was seen, or the connection was open before the agent came.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) origin: Option<Origins>,
}

impl RuleMatch {
    /// Whether no field is there.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The parameters of keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleKeepalive {
    /// How long a connection is quiet before the first probe (TCP_KEEPIDLE).
    pub(crate) idle: KeepaliveTime,
    /// How many probes without an answer end it (TCP_KEEPCNT).
    pub(crate) count: KeepaliveCount,
    /// The time between probes (TCP_KEEPINTVL).
    pub(crate) interval: KeepaliveTime,
}

/// When the connection is closed: at the first of these limits to come. At least one of them is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleLifetime {
    /// After so long with no byte sent or received.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) idle: Option<LifetimeDuration>,
    /// So long after the connection was established.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) max_age: Option<LifetimeDuration>,
    /// At this time.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) deadline: Option<Deadline>,
    /// No limit: by how much `idle` and `max_age` are made longer at the most, by another share for each connection.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) jitter: Option<Jitter>,
    /// So long after an inbound connection was established, if no byte came until then.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) first_byte: Option<LifetimeDuration>,
    /// After so long in CLOSE_WAIT or FIN_WAIT2.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) half_closed: Option<LifetimeDuration>,
    /// After so long in SYN_SENT: an outbound connection whose peer does not answer.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) connect: Option<LifetimeDuration>,
}

impl RuleLifetime {
    /// Whether any limit is there.
    pub(crate) fn has_limit(&self) -> bool {
        *self != Self { jitter: self.jitter, ..Self::default() }
    }
}

impl Table for Rule {
    const EXPECTED: &'static str = "a rule with a name ([[rule]])";
}

impl Table for RuleGuard {
    const EXPECTED: &'static str = "a table such as { closes_per_second = 100, percent_per_minute = 20 }";
}

impl Table for RuleMatch {
    const EXPECTED: &'static str = "a table such as { direction = \"inbound\", local_port = 5060 }";
}

impl Table for RuleKeepalive {
    const EXPECTED: &'static str = "a table such as { idle = \"60s\", count = 5, interval = \"5s\" }";
}

impl Switchable for RuleKeepalive {
    const OFF: &'static str = "off";
}

impl Table for RuleLifetime {
    const EXPECTED: &'static str = "a table such as { idle = \"10m\", max_age = \"24h\" }";
}

impl Switchable for RuleLifetime {
    const OFF: &'static str = "none";
}

/// A document whose fields are right each for itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default, deserialize_with = "present_table")]
    guard: Option<RuleGuard>,
    #[serde(rename = "rule", default, deserialize_with = "tables")]
    rules: Vec<Rule>,
}

impl Table for Unchecked {
    const EXPECTED: &'static str = "a table with a list of rules, \"rule\"";
}

impl From<Unchecked> for RuleDocument {
    fn from(Unchecked { guard, rules }: Unchecked) -> Self {
        Self { guard, rules }
    }
}

impl<'de> Deserialize<'de> for RuleDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Self::from(table::<Unchecked, D>(deserializer)?);
        document.check().map_err(D::Error::custom)?;
        Ok(document)
    }
}
