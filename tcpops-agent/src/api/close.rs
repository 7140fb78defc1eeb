//! Closing a connection.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::absent::is_default;
use super::values::{LifetimeSeconds, Manner};

/// The query of `DELETE /v1/connections/{id}`.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CloseQuery {
    /// The manner; `reset` if left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) close: Manner,
    /// Only with `close=fin`: the seconds after which it is reset if it is still there, 1 to 315360000; 10 if left out.
    #[param(value_type = Option<f64>)]
    pub(crate) grace_seconds: Option<LifetimeSeconds>,
}

/// The answer to `DELETE /v1/connections/{id}`.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Closed {
    /// The connection that was closed.
    pub(crate) conid: u64,
    /// Only with `close=fin`: `fin` if it was sent one, `reset` if it had to be reset.
    pub(crate) close: Option<Manner>,
    /// After a FIN: when it is reset if it is still there.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) reset_at: Option<Timestamp>,
    /// Why it was not sent a FIN.
    pub(crate) detail: Option<String>,
}
