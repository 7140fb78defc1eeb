//! Connections: the list, one of them, and its state.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::keepalive::SocketOptions;
use super::lifetime::Lifetime;
use super::seconds::LifetimeSeconds;
use super::values::{CgroupPath, Cidr, Direction, Family, Manner, Mode, Origin, Ports, RuleName};
use super::why::Why;

/// Which connections: the query of `GET /v1/connections`, and `match` of `POST /v1/policies:batch`. Every filter given
/// must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// A TCP state as `ss` spells it, such as `established`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Who began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The address family on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// How the connection became known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// An address or network of this host, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Cidr>,
    /// An address or network of the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Cidr>,
    /// A port of this host, or a range such as `5060-5070`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<Ports>,
    /// A port of the peer, or a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<Ports>,
    /// A cgroup2 path such as `/system.slice/sshd.service`, with everything below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupPath>,
    /// The uid that owns the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The cookie of the network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
    /// The name of the rule that matches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleName>,
    /// How many to answer with at the most, 1 to 10000; 1000 if left out. Not for NDJSON, which answers with all, and
    /// not in `match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next` of the answer before: those with a greater conid follow. Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
}

/// The answer to `GET /v1/connections`, by rising conid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionList {
    /// The connections.
    pub connections: Vec<Connection>,
    /// The `cursor` that goes on from here; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A connection or listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// The number that names it; never used twice.
    pub conid: u64,
    /// The socket's cookie, as `getsockopt(SO_COOKIE)` and `ss -e` give it.
    pub cookie: u64,
    /// The TCP state, as `ss` spells it.
    pub state: String,
    /// `inbound`, `outbound` or `listen`.
    pub direction: String,
    /// `handshake` or `adopted`.
    pub origin: String,
    /// `ipv4` or `ipv6`, as on the wire.
    pub family: String,
    /// This host's endpoint.
    pub local: String,
    /// The peer's endpoint; absent for a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The network namespace, as `getsockopt(SO_NETNS_COOKIE)` gives it.
    pub netns_cookie: u64,
    /// The uid that owns the socket.
    pub uid: u32,
    /// The cgroup2 directory's inode number; absent where the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// When the entry was made.
    #[schema(value_type = String, format = DateTime)]
    pub opened: Timestamp,
    /// When the handshake ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub established: Option<Timestamp>,
    /// Seconds since it was opened.
    pub age_seconds: f64,
    /// Seconds since the present state began.
    pub state_seconds: f64,
    /// The policy in force, and where it came from.
    pub policy: Policy,
    /// When this program will close it, if nothing changes; absent where no limit can come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expires>,
}

/// When and why a connection will be closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Expires {
    /// When; of `idle` and `first_byte` at the earliest, since a byte puts them off.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Seconds until then; zero where that is past.
    pub seconds: f64,
    /// The limit that comes first: `idle`, `max_age`, `deadline`, `first_byte`, `half_closed` or `connect`.
    pub limit: String,
    /// Where it came from: `rule` or `override`.
    pub source: String,
    /// Why it is not closed although it should be, or will not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// The policy in force on a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// The name of the rule that matches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What is wanted of the socket options; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    /// Where the keepalive came from: `rule` or `override`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_source: Option<String>,
    /// Where the user timeout came from: `rule` or `override`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_timeout_source: Option<String>,
    /// The lifetimes in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// Where they came from: `rule` or `override`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_source: Option<String>,
    /// What came of applying the options; absent where nothing was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ApplyResult>,
}

/// What is wanted of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Intent {
    /// The name of the rule that matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What is wanted of the socket options; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    /// The lifetimes; without a limit where none is wanted, absent where nothing is said of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
}

/// What is wanted of the socket options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wanted {
    /// True: on; false: off; absent: as the program has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<bool>,
    /// TCP_KEEPIDLE, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u16>,
    /// TCP_KEEPCNT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u8>,
    /// TCP_KEEPINTVL, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u16>,
    /// How the keepalive stands against the program's own: `default` or `floor`; absent where it replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_mode: Option<Mode>,
    /// TCP_USER_TIMEOUT, milliseconds; 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_timeout_ms: Option<u32>,
    /// How the user timeout stands against the program's own, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_timeout_mode: Option<Mode>,
}

/// What came of applying the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplyResult {
    /// `applied` or `refused`.
    pub outcome: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The option that the kernel refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_option: Option<String>,
    /// The errno with which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The options in force since, as `getsockopt` read them.
    pub in_force: SocketOptions,
    /// The options as the program had them, before the first change; they come back with `detach`.
    pub original: SocketOptions,
}

/// The answer to `GET /v1/connections/{id}`: everything known of one connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionDetail {
    /// What the list says too.
    #[serde(flatten)]
    pub connection: Connection,
    /// The module's code for its state.
    pub code: i8,
    /// The code in words.
    pub code_name: String,
    /// The cgroup2 path; absent where the directory is gone or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Why it has its policy.
    #[serde(default)]
    pub why: Why,
    /// What the kernel's `tcp_info` says now; absent for a listener, or where the namespace cannot be entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_info: Option<TcpInfo>,
}

/// A part of the kernel's `tcp_info` (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TcpInfo {
    /// Seconds with no byte sent or received.
    pub idle_seconds: f64,
    /// Smoothed round trip, microseconds.
    pub rtt_us: u32,
    /// Its variation, microseconds.
    pub rtt_var_us: u32,
    /// Bytes sent and acknowledged.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Retransmissions of the segment that waits now.
    pub retransmits: u8,
    /// Unanswered probes.
    pub probes: u8,
    /// By how much the retransmission timer has backed off.
    pub backoff: u8,
    /// Retransmitted segments in all.
    pub total_retrans: u32,
}

/// The answer to `GET /v1/connections/{id}/state`, the module's `tcp_conid_state` and `tcp_conid_alive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionState {
    /// The connection; absent where the id names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conid: Option<u64>,
    /// 1 ok, 2 accepting, 3 connecting, -1 none, -2 eof, -3 error, -4 bad.
    pub code: i8,
    /// The code in words.
    pub name: String,
    /// The TCP state, as `ss` spells it; absent with `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_state: Option<String>,
    /// True from code 1 upward.
    pub alive: bool,
}

/// The query of `DELETE /v1/connections/{id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CloseQuery {
    /// How; `reset` if left out.
    #[serde(default, skip_serializing_if = "is_reset")]
    pub close: Manner,
    /// With `close=fin`: after how many seconds it is reset if it is still there, 1 to 315360000; 10 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<f64>)]
    pub grace_seconds: Option<LifetimeSeconds>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_reset(manner: &Manner) -> bool {
    *manner == Manner::Reset
}

/// The answer to `DELETE /v1/connections/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Closed {
    /// The connection that was closed.
    pub conid: u64,
    /// With `close=fin`: whether it was sent a FIN, or had to be reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<Manner>,
    /// Where it was sent a FIN: when it is reset, if it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub reset_at: Option<Timestamp>,
    /// Why it was not sent a FIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
