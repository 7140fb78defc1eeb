//! Asking the peer of a connection whether it is still there.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

use super::values::ProbeSeconds;

super::values::words::words!(Verdict, Method);

/// The body of `POST /v1/connections/{id}/probe`.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProbeRequest {
    /// The time that an answer may take, 1 to 20 seconds; 5 if it is left out.
    pub(crate) timeout_seconds: Option<ProbeSeconds>,
}

/// The answer.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ProbeResult {
    /// The connection.
    pub(crate) conid: u64,
    /// The answer to the question.
    pub(crate) verdict: Verdict,
    /// The way it was asked.
    pub(crate) method: Method,
    /// Seconds that it took.
    pub(crate) waited_seconds: f64,
    /// Seconds since anything last came from the peer; absent where the connection ended.
    pub(crate) heard_seconds_ago: Option<f64>,
    /// Probes without an answer.
    pub(crate) probes: u8,
    /// How often the segment that waits was sent again.
    pub(crate) retransmits: u8,
    /// In words.
    pub(crate) evidence: String,
}

/// The answer to whether the peer of a connection is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Verdict {
    /// It answered.
    Alive,
    /// It did not, though it was asked often enough; or the connection ended meanwhile.
    Dead,
    /// It did not within the time.
    Unknown,
}

/// The way a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Method {
    /// Keepalive probes.
    Probes,
    /// Data that waits for an acknowledgement.
    Retransmissions,
}
