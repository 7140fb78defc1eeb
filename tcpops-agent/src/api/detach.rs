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

/// What `tcpops detach --force` prints where the pins were broken, or somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ForceDetached {
    /// False: what options the programs had set was not to be found out.
    pub(crate) restored: bool,
    /// What was amiss.
    pub(crate) broken: String,
    /// The paths that were removed, directories after what was in them.
    pub(crate) removed: Vec<String>,
    /// True if more were removed than are listed.
    pub(crate) more: bool,
}
