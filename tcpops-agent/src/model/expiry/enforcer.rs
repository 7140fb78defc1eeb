//! What follows when a connection's time is over: it is exempt, its close is delayed, or it is closed step by step.

use tcpops_common::conn::ConnKey;

use crate::model::expiry::closing::{CloseStep, Guard, Protection};
use crate::model::expiry::effects::{CloseOrder, CloseReason, Effect, Exempt, Exemption, PendingClose, Throttled};
use crate::model::expiry::lifetimes::{Candidate, Expiry, Look, Verdict, judge};
use crate::model::expiry::limiter::{CloseLimiter, Delay};
use crate::model::expiry::watches::{Phase, Watch, Watches};

/// How long a close may take before the connection is inspected again.
pub(crate) const RETRY_NS: u64 = 1_000_000_000;

/// A connection as it was found at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// What its entry says.
    pub(crate) candidate: Candidate,
    /// Its traffic, where that was read.
    pub(crate) look: Option<Look>,
    /// Why no rule may close it; only found out where its time is over.
    pub(crate) protection: Option<Protection>,
    /// The moment.
    pub(crate) at_boot_ns: u64,
}

/// Closes connections whose time is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enforcer {
    limiter: CloseLimiter,
    /// What is under way.
    pub(crate) watches: Watches,
    /// The rules have changed, and entries may still carry limits of the rules before.
    rules_suspended: bool,
}

impl Enforcer {
    /// Puts the guard of other rules in force. Until [`resume_rules`](Self::resume_rules) no rule closes anything.
    pub(crate) fn suspend_rules(&mut self, guard: Guard, now_boot_ns: u64) {
        self.limiter.set(guard, now_boot_ns);
        self.watches.retain(|_, watch| {
            watch.exempt = 0;
            true
        });
        self.rules_suspended = true;
    }

    /// Every entry carries the limits of the rules in force.
    pub(crate) fn resume_rules(&mut self) {
        self.rules_suspended = false;
    }

    /// Remembers a close that is begun. A grace that has begun goes on.
    pub(crate) fn begin_close(&mut self, order: &CloseOrder) {
        let pending_close = PendingClose::from(order);
        self.watches.update(order.key, |watch| {
            watch.phase = match watch.phase.reset_at() {
                Some(reset_at_boot_ns) => {
                    Phase::Grace(PendingClose { fin_sent: true, ..pending_close }, reset_at_boot_ns)
                }
                None => Phase::Closing(pending_close),
            };
        });
    }

    /// Remembers that a FIN was sent, and when the grace ends; false where the connection has ended since.
    pub(crate) fn begin_grace(&mut self, key: ConnKey, reset_at_boot_ns: u64) -> bool {
        self.watches.update(key, |watch| {
            let Some(pending_close) = watch.phase.pending_close() else { return false };
            watch.phase = Phase::Grace(PendingClose { fin_sent: true, ..pending_close }, reset_at_boot_ns);
            true
        })
    }

    /// Forgets a close that failed, unless the connection is in its grace. Returns after how long to try again: ever less
    /// often, down to about once a minute; `None` where the connection has ended since.
    pub(crate) fn fail_close(&mut self, key: ConnKey) -> Option<u64> {
        self.watches.update(key, |watch| {
            watch.phase.pending_close()?;
            if matches!(watch.phase, Phase::Closing(_)) {
                watch.phase = Phase::Watched;
            }
            let wait_ns = RETRY_NS << watch.failures.min(6);
            watch.failures = watch.failures.saturating_add(1);
            Some(wait_ns)
        })
    }

    /// Forgets a close that is not made after all.
    pub(crate) fn abandon_close(&mut self, key: ConnKey) {
        self.watches.update(key, |watch| *watch = Watch { exempt: watch.exempt, ..Watch::default() });
    }

    /// Forgets a connection that has ended. Returns the close that was begun with it.
    pub(crate) fn forget(&mut self, key: ConnKey) -> Option<PendingClose> {
        self.watches.update(key, std::mem::take).phase.pending_close()
    }

    /// Takes note that a connection's time is not over any more.
    pub(crate) fn release(&mut self, key: ConnKey) {
        self.watches.update(key, |watch| {
            if matches!(watch.phase, Phase::Throttled(_)) {
                watch.phase = Phase::Watched;
            }
        });
    }

    /// Continues the close that is under way, whatever limits the connection has now. Returns when to inspect it again;
    /// `None` where no close is under way.
    pub(crate) fn continue_close(&mut self, key: ConnKey, now_boot_ns: u64, effects: &mut Vec<Effect>) -> Option<u64> {
        let phase = self.watches.phase(key);
        let PendingClose { reason, rule, .. } = phase.pending_close()?;
        if let Some(reset_at_boot_ns) = phase.reset_at() {
            if reset_at_boot_ns > now_boot_ns {
                return Some(reset_at_boot_ns);
            }
            let (step, due_boot_ns) = (CloseStep::Reset, Some(reset_at_boot_ns));
            effects.push(Effect::Close(CloseOrder { key, reason, step, is_first: false, rule, due_boot_ns }));
        }
        Some(now_boot_ns.saturating_add(RETRY_NS))
    }

    /// Decides what follows from an inspection of a connection with which no close is under way. Returns when to inspect
    /// it again. `live` connections are there now.
    pub(crate) fn decide(
        &mut self,
        inspection: &Inspection,
        live: usize,
        now_boot_ns: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let Candidate { key, rule, is_override, .. } = inspection.candidate;
        loop {
            let (expiry, due_boot_ns) = match self.judge(inspection) {
                Verdict::Expired(expiry, due_boot_ns) => (expiry, due_boot_ns),
                verdict => {
                    self.release(key);
                    return next_look(key, verdict, effects);
                }
            };
            if self.rules_suspended && !is_override {
                return None;
            }
            let Some(why) = exempt(inspection) else {
                return self.close(inspection, (expiry, due_boot_ns), live, now_boot_ns, effects);
            };
            self.watches.update(key, |watch| watch.exempt |= expiry.bit());
            self.release(key);
            effects.push(Effect::Exempt(Exemption { key, expiry, rule, why }));
            if matches!(why, Exempt::Protected(_)) {
                return None;
            }
            // A rule that is not enforced reports each of its limits, so the others are judged now.
        }
    }

    /// Judges a connection by the limits from which it is not exempt.
    fn judge(&self, inspection: &Inspection) -> Verdict {
        let Inspection { candidate, look, at_boot_ns, .. } = *inspection;
        judge(&candidate.without(self.watches.exempt(candidate.key)), look, at_boot_ns)
    }

    /// Closes a connection whose time is over, unless its grace has begun or the guard delays the close.
    fn close(
        &mut self,
        inspection: &Inspection,
        (expiry, due_boot_ns): (Expiry, u64),
        live: usize,
        now_boot_ns: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let Candidate { key, rule, is_override, manner, state, state_since_boot_ns, .. } = inspection.candidate;
        let step = manner.step(state, state_since_boot_ns, inspection.at_boot_ns);
        if let CloseStep::Wait(at_boot_ns) = step {
            return Some(at_boot_ns);
        }
        if !is_override && let Err(delay) = self.limiter.admit(rule, live, now_boot_ns) {
            effects.extend(self.throttle(key, expiry, rule, delay, now_boot_ns));
            return Some(delay.until_boot_ns);
        }
        // A close that the guard delayed is not late.
        let due_boot_ns = self.watches.phase(key).throttled_by().is_none().then_some(due_boot_ns);
        let rule = if is_override { 0 } else { rule };
        let order = CloseOrder { key, reason: CloseReason::Expired(expiry), step, is_first: true, rule, due_boot_ns };
        self.begin_close(&order);
        effects.push(Effect::Close(order));
        None
    }

    /// Remembers what delays a close, and reports it where that is new or was not logged lately.
    fn throttle(&mut self, key: ConnKey, expiry: Expiry, rule: u32, delay: Delay, now_boot_ns: u64) -> Option<Effect> {
        let phase = Phase::Throttled(delay.bound);
        let before = self.watches.update(key, |watch| std::mem::replace(&mut watch.phase, phase));
        let is_new = before != phase;
        let is_log_due = self.limiter.is_log_due(rule, now_boot_ns);
        (is_new || is_log_due).then_some(Effect::Throttled(Throttled { key, expiry, rule, delay, is_new, is_log_due }))
    }
}

/// When to inspect a connection again whose time is not known to be over.
fn next_look(key: ConnKey, verdict: Verdict, effects: &mut Vec<Effect>) -> Option<u64> {
    match verdict {
        Verdict::At(at_boot_ns) => Some(at_boot_ns),
        Verdict::Look => {
            effects.push(Effect::Inspect(key));
            None
        }
        Verdict::Wait | Verdict::Expired(..) => None,
    }
}

/// Why a rule does not close a connection whose time is over. What an override limits is always closed.
fn exempt(inspection: &Inspection) -> Option<Exempt> {
    let Candidate { is_override, enforce, .. } = inspection.candidate;
    match inspection.protection {
        _ if is_override => None,
        Some(protection) => Some(Exempt::Protected(protection)),
        None => (!enforce).then_some(Exempt::NotEnforced),
    }
}

#[cfg(test)]
mod tests;
