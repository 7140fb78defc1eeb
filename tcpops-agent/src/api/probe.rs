//! Asking the peer of a connection whether it is still there.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::seconds::ProbeSeconds;

/// The body of `POST /v1/connections/{id}/probe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// How long an answer may take, 1 to 20 seconds; 5 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<ProbeSeconds>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProbeResult {
    /// The connection.
    pub conid: u64,
    /// `alive`: the peer answered. `dead`: it did not, though it was asked often enough, or the connection ended
    /// meanwhile. `unknown`: it did not within the time.
    pub verdict: String,
    /// How it was asked: `probes` (keepalive probes), or `retransmissions` (data that waits for an acknowledgement).
    pub method: String,
    /// Seconds that it took.
    pub waited_seconds: f64,
    /// Seconds since anything last came from the peer; absent where the connection ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds_ago: Option<f64>,
    /// Probes without an answer.
    pub probes: u8,
    /// How often the segment that waits was sent again.
    pub retransmits: u8,
    /// In words.
    pub evidence: String,
}
