//! Connections: the list, one of them, and its state.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};
use utoipa::{IntoParams, ToSchema};

use super::policy::{Policy, Source, Why};
use super::values::{CgroupPath, Cidr, Direction, Family, Origin, Ports, RuleName, State};

super::values::words::words!(Limit, StateName);

/// Which connections: the query of `GET /v1/connections`, and `match` of `POST /v1/policies:batch`. Every filter given
/// must match.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// A TCP state as `ss` spells it, such as `established`.
    pub(crate) state: Option<State>,
    /// Who began.
    pub(crate) direction: Option<Direction>,
    /// The address family on the wire.
    pub(crate) family: Option<Family>,
    /// The way the connection became known.
    pub(crate) origin: Option<Origin>,
    /// An address or network of this host, such as `10.0.0.0/8`.
    pub(crate) local: Option<Cidr>,
    /// An address or network of the peer.
    pub(crate) remote: Option<Cidr>,
    /// A port of this host, or a range such as `5060-5070`.
    pub(crate) local_port: Option<Ports>,
    /// A port of the peer, or a range.
    pub(crate) remote_port: Option<Ports>,
    /// A cgroup2 path such as `/system.slice/sshd.service`, with everything below it.
    pub(crate) cgroup: Option<CgroupPath>,
    /// The uid that owns the socket.
    pub(crate) uid: Option<u32>,
    /// The cookie of the network namespace.
    pub(crate) netns: Option<u64>,
    /// The name of the rule that matches it.
    pub(crate) rule: Option<RuleName>,
    /// The most connections in the answer, 1 to 10000; 1000 if left out. Not for NDJSON, which answers with all, and
    /// not in `match`.
    pub(crate) limit: Option<u32>,
    /// `next` of the answer before: connections with a greater conid follow. Likewise.
    pub(crate) cursor: Option<u64>,
}

/// The answer to `GET /v1/connections`, by rising conid.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConnectionList {
    /// The connections.
    pub(crate) connections: Vec<Connection>,
    /// The `cursor` that goes on from here; absent at the end.
    pub(crate) next: Option<u64>,
}

/// A connection or listener.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Connection {
    /// The number that names it; never used twice.
    pub(crate) conid: u64,
    /// The socket's cookie, as `getsockopt(SO_COOKIE)` and `ss -e` give it.
    pub(crate) cookie: u64,
    /// The TCP state, as `ss` spells it.
    pub(crate) state: State,
    /// Who began.
    pub(crate) direction: Direction,
    /// The way it became known.
    pub(crate) origin: Origin,
    /// The address family on the wire.
    pub(crate) family: Family,
    /// This host's endpoint.
    pub(crate) local: String,
    /// The peer's endpoint; absent for a listener.
    pub(crate) remote: Option<String>,
    /// The network namespace, as `getsockopt(SO_NETNS_COOKIE)` gives it.
    pub(crate) netns_cookie: u64,
    /// The uid that owns the socket.
    pub(crate) uid: u32,
    /// The cgroup2 directory's inode number; absent where the kernel does not tell.
    pub(crate) cgroup_id: Option<u64>,
    /// When the entry was made.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::values::time")]
    pub(crate) opened: Timestamp,
    /// When the handshake ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(serialize_with = "super::values::time")]
    pub(crate) established: Option<Timestamp>,
    /// Seconds since it was opened.
    pub(crate) age_seconds: f64,
    /// Seconds since the present state began.
    pub(crate) state_seconds: f64,
    /// The policy in force, and where it came from.
    pub(crate) policy: Policy,
    /// When this program will close it, if nothing changes; absent where no limit can come.
    pub(crate) expires: Option<Expires>,
}

/// When and why a connection will be closed.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Expires {
    /// The time; for `idle` and `first_byte` the earliest, since a byte puts them off.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::values::time")]
    pub(crate) at: Timestamp,
    /// Seconds until then; zero where that is past.
    pub(crate) seconds: f64,
    /// The limit that comes first.
    pub(crate) limit: Limit,
    /// Where it came from.
    pub(crate) source: Source,
    /// Why it is not closed although it should be, or will not be.
    pub(crate) held: Option<String>,
}

/// A limit of a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Limit {
    /// The time with no byte sent or received.
    Idle,
    /// The time since it was established.
    MaxAge,
    /// A point in time.
    Deadline,
    /// The time since it was accepted without a byte from the peer.
    FirstByte,
    /// The time since one side has closed and the other has not.
    HalfClosed,
    /// The time that its handshake takes.
    Connect,
}

/// The answer to `GET /v1/connections/{id}`: everything known of one connection.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConnectionDetail {
    /// The fields of the list.
    #[serde(flatten)]
    pub(crate) connection: Connection,
    /// The module's code for its state.
    pub(crate) code: i8,
    /// The code in words.
    pub(crate) code_name: StateName,
    /// The cgroup2 path; absent where the directory is gone or not known.
    pub(crate) cgroup: Option<String>,
    /// Why it has its policy.
    #[serde(default)]
    pub(crate) why: Why,
    /// The kernel's `tcp_info` of this moment; absent for a listener, or where the namespace cannot be entered.
    pub(crate) tcp_info: Option<TcpInfo>,
}

/// A part of the kernel's `tcp_info` (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TcpInfo {
    /// Seconds with no byte sent or received.
    pub(crate) idle_seconds: f64,
    /// Smoothed round trip, microseconds.
    pub(crate) rtt_us: u32,
    /// Its variation, microseconds.
    pub(crate) rtt_var_us: u32,
    /// Bytes sent and acknowledged.
    pub(crate) bytes_acked: u64,
    /// Bytes received.
    pub(crate) bytes_received: u64,
    /// Segments sent and not acknowledged.
    pub(crate) unacked: u32,
    /// Retransmissions of the segment that waits now.
    pub(crate) retransmits: u8,
    /// Unanswered probes.
    pub(crate) probes: u8,
    /// The back-off of the retransmission timer.
    pub(crate) backoff: u8,
    /// Retransmitted segments in all.
    pub(crate) total_retrans: u32,
}

/// The module's codes in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum StateName {
    /// 1: the connection is established.
    Ok,
    /// 2: the socket listens, or a handshake from outside is under way.
    Accepting,
    /// 3: a handshake to the outside is under way.
    Connecting,
    /// -1: there is no such connection (any more).
    None,
    /// -2: one side has closed, or both.
    Eof,
    /// -3: the socket holds an error, or it retransmits and gets no answer.
    Error,
    /// -4: the state cannot be told.
    Bad,
}

/// The answer to `GET /v1/connections/{id}/state`, the module's `tcp_conid_state` and `tcp_conid_alive`.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConnectionState {
    /// The connection; absent where the id names none.
    pub(crate) conid: Option<u64>,
    /// 1 ok, 2 accepting, 3 connecting, -1 none, -2 eof, -3 error, -4 bad.
    pub(crate) code: i8,
    /// The code in words.
    pub(crate) name: StateName,
    /// The TCP state, as `ss` spells it; absent with `none`.
    pub(crate) tcp_state: Option<State>,
    /// True from code 1 upward.
    pub(crate) alive: bool,
}
