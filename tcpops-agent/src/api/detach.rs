//! Undoing everything.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to `POST /v1/detach`: nothing is left in the kernel, and the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Detached {
    /// True: every socket has the options back that its program had set. False where a network namespace could not be
    /// entered, or where connections were not tracked since the maps were full.
    pub(crate) restored: bool,
}
