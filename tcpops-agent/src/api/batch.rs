//! Many changes in one request, with a result for each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keepalive::{KeepaliveRequest, SocketOptions};
use super::lifetime::{Lifetime, LifetimeRequest};
use super::problem::Problem;

/// The body of `POST /v1/policies:batch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The changes, at most 10000. They share one walk over the sockets.
    pub changes: Vec<BatchChange>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchChange {
    /// The connection: a conid, `cookie:`, `remote:`, `local:` or `fd:`.
    pub id: String,
    /// What to do.
    pub action: BatchAction,
    /// With `keepalive_enable`: the parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<KeepaliveRequest>,
    /// With `lifetime_set`: the limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<LifetimeRequest>,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchAction {
    /// As `PUT .../keepalive`, with the parameters in `keepalive`.
    KeepaliveEnable,
    /// As `DELETE .../keepalive`.
    KeepaliveDisable,
    /// As `PUT .../lifetime`, with the limits in `lifetime`.
    LifetimeSet,
    /// As `DELETE .../lifetime`.
    LifetimeClear,
    /// As `DELETE /v1/connections/{id}`.
    Close,
}

/// The answer: a result for each change, in their order. The status is 200 even where some failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchResponse {
    /// How many were done.
    pub done: usize,
    /// How many were not.
    pub failed: usize,
    /// The results.
    pub results: Vec<BatchResult>,
}

/// The result of one change: `conid` and what is in force, or `problem`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// The connection as the change named it.
    pub id: String,
    /// The connection that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conid: Option<u64>,
    /// The options in force, after a change of keepalive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<SocketOptions>,
    /// The lifetimes in force, after a change of lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}
