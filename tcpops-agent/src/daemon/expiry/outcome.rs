//! What came of connections whose time was over, or that somebody wanted closed: counted, said in the audit, and told to
//! the model and to whoever waits.

use std::collections::hash_map::Entry;

use crate::daemon::counters::AgentCounter;
use crate::daemon::expiry::close::{CloseAttempt, CloseOutcome};
use crate::daemon::main_loop::{Daemon, give};
use crate::daemon::shared::Shared;
use crate::daemon::telling::audit;
use crate::model::expiry::connections::{CloseReason, Exemption, Input, Throttled};
use crate::model::expiry::enforcer::{CloseOrder, Exempt};
use crate::model::expiry::guard::Bound;

/// A connection is not closed although its time is over.
pub(crate) fn exempt(shared: &Shared, exemption: &Exemption) {
    shared.counters.add(match exemption.why {
        Exempt::Protected(_) => AgentCounter::Protected,
        Exempt::NotEnforced => AgentCounter::NotEnforced,
    });
    audit::exempt(shared, exemption);
}

/// A close is held back; `waiting` are, in all.
pub(crate) fn throttled(shared: &Shared, throttled: &Throttled, waiting: usize) {
    if throttled.is_new {
        shared.counters.add(match throttled.hold.bound {
            Bound::Budget => AgentCounter::HeldByBudget,
            Bound::Cap => AgentCounter::HeldByCap,
        });
    }
    if throttled.is_news {
        audit::throttled(shared, throttled, waiting);
    }
}

impl Daemon {
    /// A close was tried.
    pub(crate) fn closed(&mut self, attempt: CloseAttempt) {
        audit::attempt(&self.shared, &attempt);
        let CloseAttempt { order: CloseOrder { key, reason, .. }, closing, late, .. } = attempt;
        let counters = &self.shared.counters;
        let is_request = matches!(reason, CloseReason::Request(_));
        match closing {
            CloseOutcome::Reset(_) => {
                counters.add(if is_request { AgentCounter::RequestedReset } else { AgentCounter::ExpiredReset })
            }
            CloseOutcome::Fin { reset_at_boot_ns } => {
                counters.add(if is_request { AgentCounter::RequestedFin } else { AgentCounter::ExpiredFin });
                self.input(Input::FinSent(key, reset_at_boot_ns));
            }
            CloseOutcome::Absent => self.input(Input::NotClosed(key)),
            CloseOutcome::NotClosable(_) => {
                counters.add(AgentCounter::NotClosable);
                self.input(Input::NotClosed(key));
            }
            CloseOutcome::Failed(_) => {
                counters.add(AgentCounter::CloseFailed);
                self.input(Input::CloseFailed(key));
            }
        }
        if let Some(late) = late.filter(|_| matches!(closing, CloseOutcome::Reset(_) | CloseOutcome::Fin { .. })) {
            self.shared.counters.late(late);
        }
        // Each request had a close of its own.
        if is_request && let Entry::Occupied(mut waiting) = self.closing.entry(key) {
            if let Some(answer) = waiting.get_mut().pop() {
                give(answer, closing);
            }
            if waiting.get().is_empty() {
                waiting.remove();
            }
        }
    }
}
