//! Keepalive of one connection.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::values::{KeepaliveCount, KeepaliveSeconds, UserTimeoutMs};

/// The body of `PUT /v1/connections/{id}/keepalive`, the module's `tcp_keepalive_enable(idle, count, interval)`.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeepaliveRequest {
    /// TCP_KEEPIDLE: seconds without traffic before the first probe, 1 to 32767.
    pub(crate) idle_seconds: KeepaliveSeconds,
    /// TCP_KEEPCNT: unanswered probes after which the kernel gives up, 1 to 127.
    pub(crate) count: KeepaliveCount,
    /// TCP_KEEPINTVL: seconds between two probes, 1 to 32767.
    pub(crate) interval_seconds: KeepaliveSeconds,
    /// TCP_USER_TIMEOUT: milliseconds after which unacknowledged data ends the connection; 0 turns it off. Left out, it
    /// stays as it is.
    pub(crate) user_timeout_ms: Option<UserTimeoutMs>,
}

/// The answer: what `getsockopt` says of the connection now that the request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct KeepaliveResult {
    /// The connection.
    pub(crate) conid: u64,
    /// The options in force.
    #[serde(flatten)]
    pub(crate) options: SocketOptions,
}

/// The socket options as `getsockopt` reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SocketOptions {
    /// SO_KEEPALIVE.
    pub(crate) keepalive: bool,
    /// TCP_KEEPIDLE, seconds.
    pub(crate) idle_seconds: u16,
    /// TCP_KEEPCNT.
    pub(crate) count: u8,
    /// TCP_KEEPINTVL, seconds.
    pub(crate) interval_seconds: u16,
    /// TCP_USER_TIMEOUT, milliseconds; 0 is off.
    pub(crate) user_timeout_ms: u32,
}
