//! The results of closes, and of connections whose time is over and that are not closed: they are counted, written to the
//! audit, and given to the model and to the caller that waits.

use crate::daemon::counters::AgentCounter;
use crate::daemon::expiry::audit;
use crate::daemon::expiry::close::{CloseAttempt, CloseOutcome};
use crate::daemon::shared::{Shared, reply};
use crate::daemon::tracker::Tracker;
use crate::model::expiry::connections::Input;
use crate::model::expiry::effects::{CloseReason, Exempt, Exemption, Throttled};
use crate::model::expiry::limiter::Bound;

/// A connection is not closed although its time is over.
pub(crate) fn exempt(shared: &Shared, exemption: &Exemption) {
    shared.counters.add(match exemption.why {
        Exempt::Protected(_) => AgentCounter::Protected,
        Exempt::NotEnforced => AgentCounter::NotEnforced,
    });
    audit::exempt(shared, exemption);
}

/// A close is held back; `waiting` connections are, of all rules.
pub(crate) fn throttled(shared: &Shared, throttled: &Throttled, waiting: usize) {
    if throttled.is_new {
        shared.counters.add(match throttled.delay.bound {
            Bound::Budget => AgentCounter::HeldByBudget,
            Bound::Cap => AgentCounter::HeldByCap,
        });
    }
    if throttled.is_log_due {
        audit::throttled(shared, throttled, waiting);
    }
}

/// A close was tried.
pub(crate) fn closed(shared: &Shared, tracker: &mut Tracker, attempt: CloseAttempt) {
    audit::attempt(shared, &attempt);
    let CloseAttempt { request, outcome, late, .. } = attempt;
    let key = request.order.key;
    let counters = &shared.counters;
    let is_request = matches!(request.order.reason, CloseReason::Request(_));
    match outcome {
        CloseOutcome::Reset(_) => {
            counters.add(if is_request { AgentCounter::RequestedReset } else { AgentCounter::ExpiredReset });
        }
        CloseOutcome::Fin { reset_at_boot_ns } => {
            counters.add(if is_request { AgentCounter::RequestedFin } else { AgentCounter::ExpiredFin });
            tracker.input(Input::FinSent(key, reset_at_boot_ns));
        }
        CloseOutcome::Absent => tracker.input(Input::NotClosed(key)),
        CloseOutcome::NotClosable(_) => {
            counters.add(AgentCounter::NotClosable);
            tracker.input(Input::NotClosed(key));
        }
        CloseOutcome::Failed(_) => {
            counters.add(AgentCounter::CloseFailed);
            tracker.input(Input::CloseFailed(key));
        }
    }
    if let Some(late) = late.filter(|_| matches!(outcome, CloseOutcome::Reset(_) | CloseOutcome::Fin { .. })) {
        counters.late(late);
    }
    if let Some(answer) = request.answer {
        reply(answer, outcome);
    }
}
