//! What the agent decides about connections. Everything else is read from the maps when it is needed: they are the truth,
//! and only connections whose limits are near take memory here.

use std::collections::HashMap;

use tcpops_common::conn::ConnKey;
use tcpops_common::event::{Event, EventKind, needed};

use crate::model::expiry::closing::Guard;
use crate::model::expiry::deadlines::Deadlines;
use crate::model::expiry::effects::{CloseOrder, Effect};
use crate::model::expiry::enforcer::{Enforcer, Inspection};
use crate::model::expiry::lifetimes::Verdict;
use crate::model::expiry::limiter::Bound;
use crate::model::expiry::looks::Looks;

/// What the agent learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A kernel program reports an event.
    Event(Event),
    /// The time has come that [`Connections::next_due`] gave.
    Due,
    /// The limits of a connection were changed.
    Changed(ConnKey),
    /// There are this many connections now, without listeners.
    Live(usize),
    /// An [`Effect::Inspect`] was done.
    Inspected(ConnKey, Found),
    /// This agent is about to close a connection because somebody requested it.
    Closing(CloseOrder),
    /// A FIN was sent; the connection is reset at this time.
    FinSent(ConnKey, u64),
    /// An attempt to close a connection failed, and may be repeated.
    CloseFailed(ConnKey),
    /// A connection is not closed after all.
    NotClosed(ConnKey),
    /// Other rules are in force, with this guard. They close nothing until [`Input::RulesApplied`].
    RulesChanged {
        guard: Guard,
        /// The shortest of their limits of which the kernel programs do not tell, nanoseconds.
        shortest_untold_ns: Option<u64>,
    },
    /// Every entry carries the limits of the rules in force; [`Input::Judged`] follows.
    RulesApplied,
    /// All connections were judged by the rules in force.
    Judged(Vec<Known>),
    /// An [`Effect::LookAtAll`] was done.
    Looked(Vec<Known>),
    /// Events were lost, and all connections were judged since.
    Resync(Vec<Known>),
}

/// What an inspection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The connection has no entry any more. The record of its end was read, if it was not lost.
    Gone,
    /// It has no limits.
    NoLimits,
    /// It has limits.
    Limits(Inspection),
}

/// A connection as it is found when all are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) key: ConnKey,
    /// The verdict on its limits, where it has any.
    pub(crate) verdict: Option<Verdict>,
}

/// What is known of a connection's end that is not in its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prospect {
    /// When it is inspected next; before that no limit can be over.
    pub(crate) next_look_boot_ns: Option<u64>,
    /// The bound that delays its close.
    pub(crate) throttled: Option<Bound>,
    /// When it is reset, where it was sent a FIN.
    pub(crate) reset_at_boot_ns: Option<u64>,
}

/// The connections whose limits are near, and what is under way with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    looks: Looks,
    deadlines: Deadlines,
    enforcer: Enforcer,
    /// How many inspections of each connection are under way. One that has ended is not among them, so that nothing is
    /// made of an inspection from before its end.
    inspecting: HashMap<ConnKey, u32>,
    /// How many connections there are.
    live: usize,
}

impl Connections {
    /// Takes `input` in, and appends what is to be done to `effects`.
    pub(crate) fn apply(&mut self, now_boot_ns: u64, input: Input, effects: &mut Vec<Effect>) {
        let before = effects.len();
        self.take(now_boot_ns, input, effects);
        for effect in &effects[before..] {
            if let Effect::Inspect(key) = effect {
                *self.inspecting.entry(*key).or_default() += 1;
            }
        }
    }

    fn take(&mut self, now_boot_ns: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Event(event) => self.on_event(event, effects),
            Input::Due => {
                while let Some(key) = self.deadlines.pop_due(now_boot_ns) {
                    effects.push(Effect::Inspect(key));
                }
                if self.looks.begin(now_boot_ns) {
                    effects.push(Effect::LookAtAll);
                }
            }
            Input::Changed(key) => effects.push(Effect::Inspect(key)),
            Input::Live(live) => self.live = live,
            Input::Inspected(key, found) => self.on_inspected(now_boot_ns, key, &found, effects),
            Input::Closing(order) => self.enforcer.begin_close(&order),
            Input::FinSent(key, reset_at_boot_ns) => {
                if self.enforcer.begin_grace(key, reset_at_boot_ns) {
                    self.deadlines.set(key, reset_at_boot_ns);
                }
            }
            Input::CloseFailed(key) => {
                if let Some(wait_ns) = self.enforcer.fail_close(key) {
                    self.deadlines.set(key, now_boot_ns.saturating_add(wait_ns));
                }
            }
            Input::NotClosed(key) => self.enforcer.abandon_close(key),
            Input::RulesChanged { guard, shortest_untold_ns } => {
                self.enforcer.suspend_rules(guard, now_boot_ns);
                self.looks.set(shortest_untold_ns, now_boot_ns);
            }
            Input::RulesApplied => self.enforcer.resume_rules(),
            Input::Judged(connections) => self.on_judged(now_boot_ns, &connections, effects),
            Input::Looked(connections) => self.on_looked(now_boot_ns, &connections, effects),
            Input::Resync(connections) => {
                self.on_judged(now_boot_ns, &connections, effects);
                // The last event of some may be among those that were lost. Those with a deadline are inspected then.
                let unseen = self.enforcer.watches.keys().filter(|key| self.deadlines.get(*key).is_none());
                effects.extend(unseen.map(Effect::Inspect));
            }
        }
    }

    /// When [`Input::Due`] is to be given.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.deadlines.first().into_iter().chain(self.looks.next_due()).min()
    }

    /// How many connections have a limit that is near, or whose traffic is watched.
    pub(crate) fn watched(&self) -> usize {
        self.deadlines.len()
    }

    /// How many closes the guard delays.
    pub(crate) fn throttled(&self) -> usize {
        self.enforcer.watches.throttled()
    }

    /// What is known of a connection's end that is not in its entry.
    pub(crate) fn prospect(&self, key: ConnKey) -> Prospect {
        let phase = self.enforcer.watches.phase(key);
        Prospect {
            next_look_boot_ns: self.deadlines.get(key),
            throttled: phase.throttled_by(),
            reset_at_boot_ns: phase.reset_at(),
        }
    }

    /// Verdicts may be older than the last events, so they bring inspections forward and never put one off: one that comes
    /// too early does no harm.
    fn on_judged(&mut self, now_boot_ns: u64, connections: &[Known], effects: &mut Vec<Effect>) {
        let mut passed_over = false;
        for Known { key, verdict } in connections {
            match verdict {
                None | Some(Verdict::Wait) => {
                    self.enforcer.release(*key);
                    // It may have had limits by the rules before.
                    if self.deadlines.get(*key).is_some() {
                        effects.push(Effect::Inspect(*key));
                    }
                }
                Some(Verdict::At(at_boot_ns)) => {
                    self.enforcer.release(*key);
                    passed_over |= !self.remember(*key, *at_boot_ns, now_boot_ns);
                }
                Some(Verdict::Look | Verdict::Expired(..)) => effects.push(Effect::Inspect(*key)),
            }
        }
        self.looks.looked(passed_over, now_boot_ns);
    }

    /// Of connections that are remembered already, nothing has changed.
    fn on_looked(&mut self, now_boot_ns: u64, connections: &[Known], effects: &mut Vec<Effect>) {
        let mut passed_over = false;
        for Known { key, verdict } in connections {
            if self.deadlines.get(*key).is_some() || self.inspecting.contains_key(key) {
                continue;
            }
            match verdict {
                None | Some(Verdict::Wait) => {}
                Some(Verdict::At(at_boot_ns)) => passed_over |= !self.remember(*key, *at_boot_ns, now_boot_ns),
                // A close that is under way, or that the rules do not allow, is not to be tried anew.
                Some(Verdict::Look | Verdict::Expired(..)) => {
                    if !self.enforcer.watches.has(*key) {
                        effects.push(Effect::Inspect(*key));
                    }
                }
            }
        }
        self.looks.looked(passed_over, now_boot_ns);
    }

    /// Sees to it that a connection is inspected by then; false where a later look will do that.
    fn remember(&mut self, key: ConnKey, at_boot_ns: u64, now_boot_ns: u64) -> bool {
        match self.deadlines.get(key) {
            Some(set) => self.deadlines.set(key, set.min(at_boot_ns)),
            None if self.looks.must_remember(at_boot_ns, now_boot_ns) => self.deadlines.set(key, at_boot_ns),
            None => return false,
        }
        true
    }

    fn on_event(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let Event { key, kind, flags, .. } = event;
        if kind == EventKind::Closed {
            self.inspecting.remove(&key);
            self.deadlines.remove(key);
            effects.push(Effect::Ended(self.enforcer.forget(key), event));
            return;
        }
        if flags & needed::BY_READER != 0 {
            effects.push(Effect::Happened(event));
        }
        if flags & needed::BY_LIMIT != 0 {
            effects.push(Effect::Inspect(key));
        }
    }

    fn on_inspected(&mut self, now_boot_ns: u64, key: ConnKey, found: &Found, effects: &mut Vec<Effect>) {
        // It has ended since.
        let Some(under_way) = self.inspecting.get_mut(&key) else { return };
        *under_way -= 1;
        if *under_way == 0 {
            self.inspecting.remove(&key);
        }
        if *found == Found::Gone {
            // Its last event was lost.
            self.inspecting.remove(&key);
            self.deadlines.remove(key);
            let _unknown_end = self.enforcer.forget(key);
            return;
        }
        let next = match (self.enforcer.continue_close(key, now_boot_ns, effects), found) {
            (Some(next), _) => Some(next),
            (None, Found::Limits(inspection)) => self.enforcer.decide(inspection, self.live, now_boot_ns, effects),
            (None, _) => {
                self.enforcer.release(key);
                None
            }
        };
        match next {
            Some(at_boot_ns) => self.deadlines.set(key, at_boot_ns),
            None => self.deadlines.remove(key),
        }
    }
}

#[cfg(test)]
mod tests;
