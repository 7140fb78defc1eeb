//! A close that is wanted, and what came of it.

use std::time::Duration;

use tcpops_common::conn::Connection;
use tokio::sync::oneshot;

use crate::kernel::KernelError;
use crate::kernel::clock::now_boot_ns;
use crate::model::expiry::effects::CloseOrder;

/// A close that is wanted, and who waits for what comes of it.
#[derive(Debug)]
pub(crate) struct CloseRequest {
    pub(crate) order: CloseOrder,
    /// Gets what came of this request, whatever else is asked of the connection at the same time; `None` where a limit
    /// asks.
    pub(crate) answer: Option<oneshot::Sender<CloseOutcome>>,
}

/// The result of trying to close a connection.
#[derive(Debug)]
pub(crate) enum CloseOutcome {
    /// It was reset; where a FIN was wanted, with the reason why that could not be.
    Reset(Option<&'static str>),
    /// It was sent a FIN, and is to be reset at this time.
    Fin {
        /// `CLOCK_BOOTTIME`.
        reset_at_boot_ns: u64,
    },
    /// It was over already.
    Absent,
    /// It cannot be closed, for this reason.
    NotClosable(&'static str),
    /// The kernel refused.
    Failed(KernelError),
}

/// A close that was tried.
#[derive(Debug)]
pub(crate) struct CloseAttempt {
    pub(crate) request: CloseRequest,
    pub(crate) outcome: CloseOutcome,
    /// The entry as it was just before, where there was one.
    pub(crate) connection: Option<Box<Connection>>,
    /// The time since it was due, if a limit asked for it.
    pub(crate) late: Option<Duration>,
}

impl CloseAttempt {
    /// An attempt that ended now.
    pub(super) fn new(request: CloseRequest, outcome: CloseOutcome, connection: Option<Box<Connection>>) -> Self {
        let late = request.order.due_boot_ns.map(|due| Duration::from_nanos(now_boot_ns().saturating_sub(due)));
        Self { request, outcome, connection, late }
    }
}
