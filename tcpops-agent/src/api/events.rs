//! The stream of events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};
use utoipa::{IntoParams, ToSchema};

use super::connections::Limit;
use super::keepalive::SocketOptions;
use super::lifetime::Lifetime;
use super::policy::{OptionName, Outcome, Source};
use super::values::{CgroupPath, Cidr, Direction, Ports, RuleName, State};

super::values::words::words!(EventType, Loss, CauseName, Side, Detail);

/// The query of `GET /v1/events`. Every filter given must match. `lost`, `resynchronised` and `heartbeat` come whatever
/// the filters.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Events after the one with this number; 0: all that are held. Left out: with `follow` the events to come, else
    /// all that are held.
    pub(crate) since: Option<u64>,
    /// Types, separated by commas.
    #[serde(rename = "type")]
    pub(crate) types: Option<String>,
    /// True, or left out: go on with the events to come. False: end after those that are held.
    pub(crate) follow: Option<bool>,
    /// A heartbeat comes after this many seconds without an event, 1 to 3600; 15 if left out.
    pub(crate) heartbeat_seconds: Option<u32>,
    /// Events of this connection.
    pub(crate) conid: Option<u64>,
    /// Who began.
    pub(crate) direction: Option<Direction>,
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
}

/// The type of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum EventType {
    /// A connection or listener got its conid.
    Opened,
    /// One that was open before the agent was taken in.
    Adopted,
    /// It went from one TCP state to another.
    Transition,
    /// A rule or an override was applied to it.
    Applied,
    /// The kernel refused what a rule or an override wants.
    Refused,
    /// Its time is over: it is about to be closed.
    Expiring,
    /// It ended.
    Closed,
    /// Events are missing here.
    Lost,
    /// All connections were read anew; what follows is complete again.
    Resynchronised,
    /// Nothing happened for a while, up to the event with this number.
    #[default]
    Heartbeat,
}

/// Something that happened. Which fields there are follows from `type`.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Event {
    /// Its number, greater than those of all events before. A `lost` has that of the last event that is missing, a
    /// `heartbeat` that of the last one there was, whether the filters let it through or not.
    pub(crate) seq: u64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::values::time")]
    pub(crate) time: Timestamp,
    /// The type.
    #[serde(rename = "type")]
    pub(crate) kind: EventType,
    /// The connection or listener that it happened to.
    pub(crate) conid: Option<u64>,
    /// The socket's cookie.
    pub(crate) cookie: Option<u64>,
    /// Who began.
    pub(crate) direction: Option<Direction>,
    /// This host's endpoint.
    pub(crate) local: Option<String>,
    /// The peer's endpoint; absent for a listener.
    pub(crate) remote: Option<String>,
    /// The uid that owns the socket.
    pub(crate) uid: Option<u32>,
    /// The network namespace.
    pub(crate) netns_cookie: Option<u64>,
    /// The name of the rule that matches it.
    pub(crate) rule: Option<String>,
    /// The TCP state: with `opened` and `adopted` the first one, with `transition` the new one, with `closed` the last
    /// one.
    pub(crate) state: Option<State>,
    /// With `transition`: the state before.
    pub(crate) old_state: Option<State>,
    /// With `applied` and `refused`: the policy.
    pub(crate) policy: Option<EventPolicy>,
    /// With `expiring` and `closed`: why. Absent for a listener.
    pub(crate) cause: Option<Cause>,
    /// With `closed`: the traffic and times of the connection. Absent for a listener.
    pub(crate) summary: Option<Summary>,
    /// With `lost`: the number that is missing, of all types; absent where that is not known.
    pub(crate) count: Option<u64>,
    /// With `lost`: why.
    pub(crate) reason: Option<Loss>,
    /// With `resynchronised`: the number of connections and listeners.
    pub(crate) tracked: Option<u64>,
}

/// A policy that was applied or refused.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventPolicy {
    /// Where it came from; absent where no rule wants anything any more.
    pub(crate) source: Option<Source>,
    /// With `override`: the uid that set it.
    pub(crate) by_uid: Option<u32>,
    /// With `applied`: what came of its options; absent where it wants none.
    pub(crate) outcome: Option<Outcome>,
    /// With `applied`: the options in force since, as `getsockopt` read them; absent where none were set.
    pub(crate) in_force: Option<SocketOptions>,
    /// With `applied`: the lifetimes in force.
    pub(crate) lifetime: Option<Lifetime>,
    /// With `refused`: the option; absent where the socket could not be reached.
    pub(crate) refused_option: Option<OptionName>,
    /// With `refused`: the errno.
    pub(crate) errno: Option<i32>,
}

/// Why a connection ends or ended.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Cause {
    /// The kind of end.
    pub(crate) name: CauseName,
    /// With `fin` and `reset`: the side that began it; absent where that cannot be told.
    pub(crate) side: Option<Side>,
    /// More about the kind of end, where there is more to say.
    pub(crate) detail: Option<Detail>,
    /// With `expired`: which of the limits.
    pub(crate) lifetime: Option<Limit>,
    /// With `expired`: the name of the rule that wanted it.
    pub(crate) rule: Option<String>,
    /// With `expired` and `closed_by_request`: the uid that wanted it.
    pub(crate) by_uid: Option<u32>,
    /// The errno that the socket held, if it held one.
    pub(crate) errno: Option<i32>,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Loss {
    /// The reader was too slow, or asked for them too late: they are not kept any more.
    SlowReader,
    /// The kernel's ring was full.
    RingOverflow,
    /// The kernel program was detached by somebody else; connections ended unseen.
    Detached,
    /// They are those of an agent before.
    AgentRestarted,
    /// Nobody read events: only ends and the agent's own doings were recorded.
    Unread,
}

/// The kinds of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum CauseName {
    /// An orderly close.
    Fin,
    /// A reset.
    Reset,
    /// The peer did not answer.
    Timeout,
    /// The handshake was refused, or there was no way to the peer.
    Refused,
    /// Its time was over, and this agent closed it.
    Expired,
    /// This agent closed it on request.
    ClosedByRequest,
    /// Somebody else destroyed the socket, such as `ss -K`.
    Aborted,
    /// It cannot be told.
    Unknown,
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Side {
    /// This host's.
    Local,
    /// The other.
    Peer,
}

/// Details of the kind of end: of `timeout` what had no answer, of `refused` that there is no way to the peer, of `fin`
/// that the program did not wait for the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Detail {
    /// Keepalive probes had no answer.
    Keepalive,
    /// There was no answer within the TCP_USER_TIMEOUT.
    UserTimeout,
    /// Data was sent again and again without an acknowledgement.
    Retransmissions,
    /// The handshake did not end.
    Handshake,
    /// A host said that there is no way to the peer.
    Unreachable,
}

/// The traffic and times of a connection that ended.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Summary {
    /// Seconds since it was opened, or adopted.
    pub(crate) age_seconds: f64,
    /// Seconds since the last byte of data, as exact as the kernel's ticks; absent where the handshake did not end.
    pub(crate) idle_seconds: Option<f64>,
    /// Bytes of data received.
    pub(crate) bytes_in: u64,
    /// Bytes of data sent, each counted once.
    pub(crate) bytes_out: u64,
    /// Retransmitted segments.
    pub(crate) retransmissions: u32,
    /// The time in each state.
    pub(crate) states: StateSeconds,
}

/// Seconds in each TCP state. A state that it was not in, or whose time is not known, is absent.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct StateSeconds {
    /// SYN_SENT.
    pub(crate) syn_sent: Option<f64>,
    /// SYN_RECV, from the end of the handshake on.
    pub(crate) syn_recv: Option<f64>,
    /// ESTABLISHED.
    pub(crate) established: Option<f64>,
    /// FIN_WAIT1.
    #[serde(rename = "fin-wait-1")]
    pub(crate) fin_wait_1: Option<f64>,
    /// FIN_WAIT2.
    #[serde(rename = "fin-wait-2")]
    pub(crate) fin_wait_2: Option<f64>,
    /// CLOSE_WAIT.
    pub(crate) close_wait: Option<f64>,
    /// CLOSING.
    pub(crate) closing: Option<f64>,
    /// LAST_ACK.
    pub(crate) last_ack: Option<f64>,
}
