//! What follows when a connection's time is over: it is spared, held back, or closed step by step.

use std::collections::HashMap;

use tcpops_common::conn::ConnKey;

use crate::model::expiry::closing::{CloseStep, Guard, Protection};
use crate::model::expiry::connections::{CloseReason, Effect, Exemption, Throttled};
use crate::model::expiry::guard::{Bound, CloseLimiter, Hold};
use crate::model::expiry::lifetimes::{Candidate, Expiry, Look, Verdict, judge};

/// How long to wait for what was begun, before it is looked at again.
pub(crate) const RETRY_NS: u64 = 1_000_000_000;

/// A connection that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// What its entry says.
    pub(crate) candidate: Candidate,
    /// What the kernel says of its traffic, where that was asked for.
    pub(crate) look: Option<Look>,
    /// Why no rule closes it; looked for where its time is over at that moment.
    pub(crate) protection: Option<Protection>,
    /// The moment.
    pub(crate) at_boot_ns: u64,
}

/// A close that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseOrder {
    /// The connection.
    pub(crate) key: ConnKey,
    /// Why.
    pub(crate) reason: CloseReason,
    /// The step to take; never one to wait for.
    pub(crate) step: CloseStep,
    /// Whether it is the first, and not the one that follows a grace.
    pub(crate) is_first: bool,
    /// The rule whose limit it was; zero where nobody's or a person's.
    pub(crate) rule: u32,
    /// Since when it is due, where that is not now.
    pub(crate) due_boot_ns: Option<u64>,
}

/// What was begun to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingClose {
    /// Why.
    pub(crate) reason: CloseReason,
    /// The rule whose limit it was; zero where nobody's or a person's.
    pub(crate) rule: u32,
    /// Whether it was begun with a FIN.
    pub(crate) by_fin: bool,
    /// Whether that is known to have been sent.
    pub(crate) fin_sent: bool,
}

impl PendingClose {
    fn of(order: &CloseOrder) -> Self {
        let by_fin = matches!(order.step, CloseStep::Fin { .. });
        Self { reason: order.reason, rule: order.rule, by_fin, fin_sent: false }
    }
}

/// Why a connection whose time is over is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exempt {
    /// No rule closes it.
    Protected(Protection),
    /// Its rule only says what it would do.
    NotEnforced,
}

/// What is under way with connections whose time is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enforcer {
    limiter: CloseLimiter,
    /// What was begun with connections that have not ended yet.
    closing: HashMap<ConnKey, PendingClose>,
    /// Those to which a FIN was sent, and when they are reset.
    graces: HashMap<ConnKey, u64>,
    /// What holds connections back.
    throttled: HashMap<ConnKey, Bound>,
    /// How often closing them has failed in a row.
    failures: HashMap<ConnKey, u32>,
    /// The expiries that connections have survived, as bits: they were told of once.
    exempt: HashMap<ConnKey, u8>,
    /// The rules have changed, and entries may still carry limits of those before.
    unsettled: bool,
}

impl Enforcer {
    /// Other rules are in force; until [`settle`](Self::settle) none closes anything.
    pub(crate) fn unsettle(&mut self, guard: Guard, now_boot_ns: u64) {
        self.limiter.set(guard, now_boot_ns);
        self.exempt.clear();
        self.unsettled = true;
    }

    /// Every connection has been judged by the rules in force.
    pub(crate) fn settle(&mut self) {
        self.unsettled = false;
    }

    /// A close was begun.
    pub(crate) fn begin(&mut self, order: &CloseOrder) {
        self.closing.insert(order.key, PendingClose::of(order));
    }

    /// A FIN was sent to it.
    pub(crate) fn fin_sent(&mut self, key: ConnKey, reset_at_boot_ns: u64) {
        self.graces.insert(key, reset_at_boot_ns);
    }

    /// An attempt to close it failed; one that is in its grace stays so. Returns after how long to try again: what keeps
    /// failing is tried less and less often, down to about once a minute.
    pub(crate) fn failed(&mut self, key: ConnKey) -> u64 {
        if !self.graces.contains_key(&key) {
            self.closing.remove(&key);
        }
        let failures = self.failures.entry(key).or_insert(0);
        let wait_ns = RETRY_NS << (*failures).min(6);
        *failures += 1;
        wait_ns
    }

    /// It has ended, or is not closed after all. Returns what was begun with it.
    pub(crate) fn forget(&mut self, key: ConnKey) -> Option<PendingClose> {
        let fin_sent = self.graces.remove(&key).is_some();
        self.throttled.remove(&key);
        self.failures.remove(&key);
        self.closing.remove(&key).map(|pending_close| PendingClose { fin_sent, ..pending_close })
    }

    /// It has ended.
    pub(crate) fn ended(&mut self, key: ConnKey) -> Option<PendingClose> {
        self.exempt.remove(&key);
        self.forget(key)
    }

    /// Forgets all that `live` does not hold.
    pub(crate) fn retain(&mut self, live: impl Fn(&ConnKey) -> bool) {
        self.closing.retain(|key, _| live(key));
        self.graces.retain(|key, _| live(key));
        self.throttled.retain(|key, _| live(key));
        self.failures.retain(|key, _| live(key));
        self.exempt.retain(|key, _| live(key));
    }

    /// The connections in their grace, and when that is over.
    pub(crate) fn graces(&self) -> impl Iterator<Item = (ConnKey, u64)> {
        self.graces.iter().map(|(key, at)| (*key, *at))
    }

    /// When a connection in its grace is reset.
    pub(crate) fn grace(&self, key: ConnKey) -> Option<u64> {
        self.graces.get(&key).copied()
    }

    /// What holds a connection back.
    pub(crate) fn throttled(&self, key: ConnKey) -> Option<Bound> {
        self.throttled.get(&key).copied()
    }

    /// How many connections are held back.
    pub(crate) fn waiting(&self) -> usize {
        self.throttled.len()
    }

    /// Its time is not over any more.
    pub(crate) fn release(&mut self, key: ConnKey) {
        self.throttled.remove(&key);
    }

    /// What is under way with a connection goes on, whatever limits it has now: when to look again.
    pub(crate) fn go_on(&mut self, key: ConnKey, now_boot_ns: u64, effects: &mut Vec<Effect>) -> Option<u64> {
        let PendingClose { reason, rule, .. } = *self.closing.get(&key)?;
        match self.graces.get(&key) {
            Some(end) if *end > now_boot_ns => return Some(*end),
            Some(end) => effects.push(Effect::Close(CloseOrder {
                key,
                reason,
                step: CloseStep::Reset,
                is_first: false,
                rule,
                due_boot_ns: Some(*end),
            })),
            None => {}
        }
        Some(now_boot_ns.saturating_add(RETRY_NS))
    }

    /// What follows from a look at a connection with which nothing is under way: when to look again.
    pub(crate) fn follow(
        &mut self,
        inspection: &Inspection,
        live: usize,
        now_boot_ns: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let key = inspection.candidate.key;
        let exempt = self.exempt.get(&key).copied().unwrap_or(0);
        let verdict = judge(&inspection.candidate.without(exempt), inspection.look, inspection.at_boot_ns);
        let (expiry, due_boot_ns) = match verdict {
            Verdict::Expired(expiry, due_boot_ns) => (expiry, due_boot_ns),
            other => {
                self.release(key);
                return match other {
                    Verdict::At(at_boot_ns) => Some(at_boot_ns),
                    Verdict::Look => {
                        effects.push(Effect::Inspect(key));
                        None
                    }
                    _ => None,
                };
            }
        };
        let Candidate { rule, is_override, enforce, manner, state, state_since_boot_ns, .. } = inspection.candidate;
        if !is_override {
            if self.unsettled {
                return None;
            }
            if let Some(protection) = inspection.protection {
                self.exempt(key, expiry, rule, Exempt::Protected(protection), effects);
                return None;
            }
            if !enforce {
                self.exempt(key, expiry, rule, Exempt::NotEnforced, effects);
                // Its other limits are watched further.
                return self.follow(inspection, live, now_boot_ns, effects);
            }
        }
        let step = manner.step(state, state_since_boot_ns, inspection.at_boot_ns);
        if let CloseStep::Wait(at_boot_ns) = step {
            return Some(at_boot_ns);
        }
        if !is_override && let Err(hold) = self.limiter.admit(rule, live, now_boot_ns) {
            self.hold(key, expiry, rule, hold, now_boot_ns, effects);
            return Some(hold.until_boot_ns);
        }
        // How late it is, the guard does not count.
        let waited = self.throttled.remove(&key).is_some();
        let reason = CloseReason::Expired(expiry);
        let rule = if is_override { 0 } else { rule };
        let due_boot_ns = (!waited).then_some(due_boot_ns);
        let order = CloseOrder { key, reason, step, is_first: true, rule, due_boot_ns };
        self.begin(&order);
        effects.push(Effect::Close(order));
        None
    }

    fn exempt(&mut self, key: ConnKey, expiry: Expiry, rule: u32, why: Exempt, effects: &mut Vec<Effect>) {
        *self.exempt.entry(key).or_insert(0) |= expiry.bit();
        self.release(key);
        effects.push(Effect::Exempt(Exemption { key, expiry, rule, why }));
    }

    fn hold(
        &mut self,
        key: ConnKey,
        expiry: Expiry,
        rule: u32,
        hold: Hold,
        now_boot_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        let is_new = self.throttled.insert(key, hold.bound) != Some(hold.bound);
        let is_news = self.limiter.is_news(rule, now_boot_ns);
        if is_new || is_news {
            effects.push(Effect::Throttled(Throttled { key, expiry, rule, hold, is_new, is_news }));
        }
    }
}

#[cfg(test)]
mod tests;
