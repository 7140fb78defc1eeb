//! Lifetimes of one connection.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::values::{JitterPercent, LifetimeSeconds};

/// The body of `PUT /v1/connections/{id}/lifetime`, the module's `tcp_set_connection_lifetime`. At least one limit; the
/// first to come closes the connection. It replaces whatever lifetime was in force.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LifetimeRequest {
    /// Seconds with no byte sent or received, 1 to 315360000.
    pub(crate) idle_seconds: Option<LifetimeSeconds>,
    /// Seconds since the connection was established, 1 to 315360000.
    pub(crate) max_age_seconds: Option<LifetimeSeconds>,
    /// A time, as RFC 3339 writes it; in the future.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(serialize_with = "super::values::time")]
    pub(crate) deadline: Option<Timestamp>,
    /// Jitter, 0 to 100: `idle_seconds` and `max_age_seconds`, of which one must be there, are made longer by up to
    /// this share, by another amount for each connection, so that they do not end together.
    pub(crate) jitter_percent: Option<JitterPercent>,
}

/// The answer: the lifetimes in force now that the request is done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LifetimeResult {
    /// The connection.
    pub(crate) conid: u64,
    /// The limits in force; none of them if the lifetime was cleared.
    #[serde(flatten)]
    pub(crate) lifetime: Lifetime,
}

/// The limits in force on a connection.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Lifetime {
    /// Seconds with no byte sent or received.
    pub(crate) idle_seconds: Option<f64>,
    /// Seconds since the connection was established.
    pub(crate) max_age_seconds: Option<f64>,
    /// A time.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(serialize_with = "super::values::time")]
    pub(crate) deadline: Option<Timestamp>,
    /// The jitter that may lengthen idle time and age, percent; absent where they are exact.
    pub(crate) jitter_percent: Option<u8>,
}
