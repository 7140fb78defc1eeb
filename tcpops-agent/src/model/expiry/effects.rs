//! What the model asks the daemon to do.

use tcpops_common::conn::ConnKey;
use tcpops_common::event::Event;

use crate::model::expiry::closing::{CloseStep, Protection};
use crate::model::expiry::lifetimes::Expiry;
use crate::model::expiry::limiter::Delay;

/// Something for the daemon to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read the connection's entry, and its traffic where a limit may be over; answer with
    /// [`Input::Inspected`](super::connections::Input::Inspected).
    Inspect(ConnKey),
    /// Read all entries and judge them; answer with [`Input::Looked`](super::connections::Input::Looked).
    LookAtAll,
    /// Close the connection: its time is over.
    Close(CloseOrder),
    /// Report that a connection's time is over and that it is not closed.
    Exempt(Exemption),
    /// Report that the guard delays a close.
    Throttled(Throttled),
    /// Publish what happened to a connection that is still open.
    Happened(Event),
    /// Publish that a connection ended, with the close that this agent had begun.
    Ended(Option<PendingClose>, Event),
}

/// One step of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseOrder {
    pub(crate) key: ConnKey,
    /// Why it is closed.
    pub(crate) reason: CloseReason,
    /// A FIN or a reset; never [`CloseStep::Wait`].
    pub(crate) step: CloseStep,
    /// False for the reset that follows a grace.
    pub(crate) is_first: bool,
    /// The rule whose limit is over; zero for an override's limit and for a request.
    pub(crate) rule: u32,
    /// When the step was due; `None` for a request, and where the guard delayed it.
    pub(crate) due_boot_ns: Option<u64>,
}

/// Why this agent closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Its time is over.
    Expired(Expiry),
    /// This uid requested it.
    Request(u32),
}

/// A close that was begun with a connection that has not ended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingClose {
    /// Why it is closed.
    pub(crate) reason: CloseReason,
    /// The rule whose limit is over; zero for an override's limit and for a request.
    pub(crate) rule: u32,
    /// The close began with a FIN.
    pub(crate) by_fin: bool,
    /// That FIN is known to have been sent.
    pub(crate) fin_sent: bool,
}

impl From<&CloseOrder> for PendingClose {
    fn from(order: &CloseOrder) -> Self {
        let by_fin = matches!(order.step, CloseStep::Fin { .. });
        Self { reason: order.reason, rule: order.rule, by_fin, fin_sent: false }
    }
}

/// A connection whose time is over by a rule, and that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemption {
    pub(crate) key: ConnKey,
    /// The limit that is over.
    pub(crate) expiry: Expiry,
    /// The rule that set the limit.
    pub(crate) rule: u32,
    /// Why the connection is not closed.
    pub(crate) why: Exempt,
}

/// Why a connection whose time is over is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exempt {
    /// No rule may close it.
    Protected(Protection),
    /// Its rule only reports what it would close.
    NotEnforced,
}

/// A connection whose time is over by a rule, and whose close the guard delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    pub(crate) key: ConnKey,
    /// The limit that is over.
    pub(crate) expiry: Expiry,
    /// The rule that set the limit.
    pub(crate) rule: u32,
    /// Which bound delays it, and until when.
    pub(crate) delay: Delay,
    /// This bound did not delay the connection before.
    pub(crate) is_new: bool,
    /// The rule's delays have not been logged for a minute.
    pub(crate) is_log_due: bool,
}
