//! The fields of a document.

use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Serialize};
use serde_with::{apply, skip_serializing_none};
use utoipa::ToSchema;

use crate::api::absent::is_default;
use crate::api::values::{
    CgroupPath, Cidr, Deadline, Direction, Family, Jitter, KeepaliveCount, KeepaliveTime, LifetimeDuration, Manner,
    Mode, OneOrMany, Origin, Ports, Rate, RuleName, Share, Switch, Switchable, Uid, UserTimeout, Written, present,
    read,
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
#[apply(Option => #[schema(nullable = false)])]
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "rule": [{
    "name": "database",
    "match": { "direction": "outbound", "remote_port": 5432 },
    "keepalive": { "idle": "60s", "count": 5, "interval": "10s" },
    "user_timeout": "auto",
}] }))]
pub(crate) struct RuleDocument {
    /// Bounds on how much the rules may close; absent, none, and port 22 is protected.
    pub(crate) guard: Option<RuleGuard>,
    /// At most 1024 rules, with names that differ.
    #[serde(rename = "rule")]
    #[schema(required = false, max_items = 1024)]
    pub(crate) rules: Vec<Rule>,
}

/// Bounds on how much the rules may close. Closes on request are not bounded.
#[apply(Option => #[serde(default, deserialize_with = "present")] #[schema(nullable = false)])]
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleGuard {
    /// The most connections that all rules together may close in a second; absent, no bound.
    pub(crate) closes_per_second: Option<Rate>,
    /// The most connections that one rule may close in a minute, in percent of those that live; absent, no bound.
    pub(crate) percent_per_minute: Option<Share>,
    /// No rule closes a connection with one of these ports at either end; absent, 22. An empty list protects none.
    pub(crate) protect_ports: Option<Vec<Ports>>,
}

/// Which connections, and what is wanted of them.
#[apply(Option => #[serde(default, deserialize_with = "present")] #[schema(nullable = false)])]
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The name, which no other rule has. Connections are shown with it; renaming makes it another rule.
    pub(crate) name: RuleName,
    /// Which connections: those that fit every field that is there. Without it, every connection, but no listener.
    #[serde(rename = "match", default, skip_serializing_if = "RuleMatch::is_empty", deserialize_with = "read")]
    #[schema(required = false)]
    pub(crate) matching: RuleMatch,
    /// The precedence of `keepalive` and `user_timeout` over what the program sets itself: "force" replaces it,
    /// "default" leaves it where there is any, "floor" only tightens it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = "force")]
    pub(crate) mode: Mode,
    /// Keepalive on with these values, or "off"; absent, as the program set it.
    #[schema(inline)]
    pub(crate) keepalive: Option<KeepaliveSwitch>,
    /// TCP_USER_TIMEOUT: a duration, "off", or "auto", which is idle + interval * count of the keepalive beside it;
    /// absent, as the program set it.
    pub(crate) user_timeout: Option<UserTimeout>,
    /// When the connection is closed, or "none"; absent, never.
    #[schema(inline)]
    pub(crate) lifetime: Option<LifetimeSwitch>,
    /// The manner in which it is closed: by a "reset", or by a "fin" first.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = "reset")]
    pub(crate) close: Manner,
    /// Only with `close = "fin"`: the time after the FIN at which the connection is reset if it is still there; absent,
    /// 10s.
    pub(crate) grace: Option<LifetimeDuration>,
    /// False: what the rule would close is logged, and stays open.
    #[serde(default = "yes", deserialize_with = "read", skip_serializing_if = "is_yes")]
    #[schema(default = true)]
    pub(crate) enforce: bool,
    /// True: the connections that the rule matches are never closed by any rule, whatever its place.
    #[serde(default, deserialize_with = "read", skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub(crate) protect: bool,
    /// False: the connections get no conid and no entry, and cost next to nothing; nothing else can be wanted of them.
    #[serde(default = "yes", deserialize_with = "read", skip_serializing_if = "is_yes")]
    #[schema(default = true)]
    pub(crate) track: bool,
}

const fn yes() -> bool {
    true
}

const fn is_yes(value: &bool) -> bool {
    *value
}

/// Which connections. A field fits if one of its values does; a field that is not there fits always.
#[apply(Option => #[serde(default, deserialize_with = "present")] #[schema(inline, nullable = false)])]
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleMatch {
    /// Who began. Without it, inbound and outbound connections; listeners match only a rule that says "listen".
    pub(crate) direction: Option<Directions>,
    /// This host's address.
    pub(crate) local: Option<Networks>,
    /// This host's port.
    pub(crate) local_port: Option<PortList>,
    /// The peer's address.
    pub(crate) remote: Option<Networks>,
    /// The peer's port.
    pub(crate) remote_port: Option<PortList>,
    /// The uid that owns the socket.
    pub(crate) uid: Option<Uids>,
    /// The cgroup that the socket was made in, or one above it.
    pub(crate) cgroup: Option<Cgroups>,
    /// The address family on the wire.
    pub(crate) family: Option<Families>,
    /// The way the connection became known: its handshake was seen, or it was open before the agent came.
    pub(crate) origin: Option<Origins>,
}

impl RuleMatch {
    /// True where no field is there.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The parameters of keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleKeepalive {
    /// The time without traffic before the first probe (TCP_KEEPIDLE).
    pub(crate) idle: KeepaliveTime,
    /// The number of unanswered probes that end the connection (TCP_KEEPCNT).
    pub(crate) count: KeepaliveCount,
    /// The time between probes (TCP_KEEPINTVL).
    pub(crate) interval: KeepaliveTime,
}

/// When the connection is closed: at the first of these limits to come. At least one of them is there.
#[apply(Option => #[serde(default, deserialize_with = "present")] #[schema(nullable = false)])]
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleLifetime {
    /// The time with no byte sent or received.
    pub(crate) idle: Option<LifetimeDuration>,
    /// The time since the connection was established.
    pub(crate) max_age: Option<LifetimeDuration>,
    /// A point in time.
    pub(crate) deadline: Option<Deadline>,
    /// Jitter: `idle` and `max_age` are made longer by up to this share, by another amount for each connection.
    pub(crate) jitter: Option<Jitter>,
    /// The time since an inbound connection was established, if no byte came until then.
    pub(crate) first_byte: Option<LifetimeDuration>,
    /// The time in CLOSE_WAIT or FIN_WAIT2.
    pub(crate) half_closed: Option<LifetimeDuration>,
    /// The time in SYN_SENT: an outbound connection whose peer does not answer.
    pub(crate) connect: Option<LifetimeDuration>,
}

impl RuleLifetime {
    /// True where any limit is there.
    pub(crate) fn has_limit(&self) -> bool {
        *self != Self { jitter: self.jitter, ..Self::default() }
    }
}

impl Switchable for RuleKeepalive {
    const OFF: &'static str = "off";
}

impl Switchable for RuleLifetime {
    const OFF: &'static str = "none";
}

/// A document whose fields are right each for itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unchecked {
    #[serde(default, deserialize_with = "present")]
    guard: Option<RuleGuard>,
    #[serde(rename = "rule", default, deserialize_with = "read")]
    rules: Vec<Rule>,
}

impl From<Unchecked> for RuleDocument {
    fn from(Unchecked { guard, rules }: Unchecked) -> Self {
        Self { guard, rules }
    }
}

/// [`Written`] of structs that stand in a document as tables. A derived `Deserialize` alone would also take a list of
/// the fields in their order.
macro_rules! tables {
    ($($type:ident, $expected:literal;)+) => {$(
        impl Written for $type {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn from_table<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
                Self::deserialize(MapAccessDeserializer::new(map))
            }
        }
    )+};
}

tables! {
    Unchecked, "a table with a list of rules, \"rule\"";
    RuleGuard, "a table such as { closes_per_second = 100, percent_per_minute = 20 }";
    Rule, "a rule with a name ([[rule]])";
    RuleMatch, "a table such as { direction = \"inbound\", local_port = 5060 }";
    RuleKeepalive, "a table such as { idle = \"60s\", count = 5, interval = \"5s\" }";
    RuleLifetime, "a table such as { idle = \"10m\", max_age = \"24h\" }";
}
