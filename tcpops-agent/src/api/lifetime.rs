//! Lifetimes of one connection.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::seconds::LifetimeSeconds;

/// The body of `PUT /v1/connections/{id}/lifetime`, the module's `tcp_set_connection_lifetime`. At least one limit; the
/// first to come closes the connection. It replaces whatever lifetime was in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LifetimeRequest {
    /// Seconds with no byte sent or received, 1 to 315360000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<LifetimeSeconds>,
    /// Seconds since the connection was established, 1 to 315360000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<LifetimeSeconds>,
    /// A time, as RFC 3339 writes it; in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
}

/// The answer: the lifetimes in force now that the request is done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LifetimeResult {
    /// The connection.
    pub conid: u64,
    /// The limits in force; none of them if the lifetime was cleared.
    #[serde(flatten)]
    pub lifetime: Lifetime,
}

/// The limits in force on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lifetime {
    /// Seconds with no byte sent or received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<f64>,
    /// Seconds since the connection was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<f64>,
    /// A time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
}
