//! What the agent knows of connections, and what it decides about them. Everything else is read from the maps when it is
//! needed: they are the truth.

use std::collections::{HashMap, HashSet};

use tcpops_common::conn::{ConnKey, Direction};
use tcpops_common::event::{EVENT_HAS_LIFETIME, Event, EventKind};
use tcpops_common::state::TcpState;

use crate::model::expiry::closing::Guard;
use crate::model::expiry::deadlines::Deadlines;
use crate::model::expiry::effects::{CloseOrder, Effect};
use crate::model::expiry::enforcer::{Enforcer, Inspection};
use crate::model::expiry::lifetimes::Verdict;
use crate::model::expiry::limiter::Bound;

/// What the agent learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A kernel program reports an event.
    Event(Event),
    /// The time has come that [`Connections::next_due`] gave.
    Due,
    /// An [`Effect::Inspect`] was done; `None` where the connection is gone or has no limits.
    Inspected(ConnKey, Option<Inspection>),
    /// This agent is about to close a connection because somebody requested it.
    Closing(CloseOrder),
    /// A FIN was sent; the connection is reset at this time.
    FinSent(ConnKey, u64),
    /// An attempt to close a connection failed, and may be repeated.
    CloseFailed(ConnKey),
    /// A connection is not closed after all.
    NotClosed(ConnKey),
    /// Other rules are in force, with this guard. They close nothing until [`Input::RulesApplied`].
    RulesChanged(Guard),
    /// Every entry carries the limits of the rules in force; [`Input::Judged`] follows.
    RulesApplied,
    /// All connections were judged by the rules in force.
    Judged(Vec<Known>),
    /// Events were lost, so these connections replace all that were known. The events that came while they were read
    /// follow.
    Resync(Vec<Known>),
    /// The events that came during a resync have all been given.
    Resynced,
}

/// A connection as it is found when all are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) key: ConnKey,
    /// Whether it is a listener.
    pub(crate) listens: bool,
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

/// All connections and listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    /// The conid of each socket, by its cookie.
    conids: HashMap<u64, u64>,
    /// The cookies of the listeners.
    listeners: HashSet<u64>,
    /// The highest conid that an event had: a lower one that is not among `conids` has ended.
    newest: u64,
    deadlines: Deadlines,
    enforcer: Enforcer,
}

impl Connections {
    /// Takes `input` in, and appends what is to be done to `effects`.
    pub(crate) fn apply(&mut self, now_boot_ns: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Event(event) => self.on_event(event, effects),
            Input::Due => {
                while let Some(key) = self.deadlines.pop_due(now_boot_ns) {
                    effects.push(Effect::Inspect(key));
                }
            }
            Input::Inspected(key, inspection) => self.on_inspected(now_boot_ns, key, inspection.as_ref(), effects),
            Input::Closing(order) => self.enforcer.begin_close(&order),
            Input::FinSent(key, reset_at_boot_ns) => {
                if !self.has_ended(key) {
                    self.enforcer.begin_grace(key, reset_at_boot_ns);
                    self.deadlines.set(key, reset_at_boot_ns);
                }
            }
            Input::CloseFailed(key) => {
                if !self.has_ended(key) {
                    let wait_ns = self.enforcer.fail_close(key);
                    self.deadlines.set(key, now_boot_ns.saturating_add(wait_ns));
                }
            }
            Input::NotClosed(key) => self.enforcer.abandon_close(key),
            Input::RulesChanged(guard) => self.enforcer.suspend_rules(guard, now_boot_ns),
            Input::RulesApplied => self.enforcer.resume_rules(),
            Input::Judged(connections) => self.on_judged(&connections, effects),
            Input::Resync(connections) => self.on_resync(&connections, effects),
            Input::Resynced => self.on_resynced(),
        }
    }

    /// When [`Input::Due`] is to be given.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.deadlines.first()
    }

    /// The conid that the socket with this cookie has, by the events so far.
    pub(crate) fn conid(&self, cookie: u64) -> Option<u64> {
        self.conids.get(&cookie).copied()
    }

    /// How many connections and listeners there are, by the events so far.
    pub(crate) fn tracked(&self) -> usize {
        self.conids.len()
    }

    /// How many connections have a limit that is being watched.
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

    fn on_resync(&mut self, connections: &[Known], effects: &mut Vec<Effect>) {
        *self = Self { enforcer: std::mem::take(&mut self.enforcer), ..Self::default() };
        for Known { key, listens, .. } in connections {
            self.open(*key, *listens);
        }
        self.on_judged(connections, effects);
    }

    /// Forgets the closes of connections whose last event was lost.
    fn on_resynced(&mut self) {
        let conids = &self.conids;
        self.enforcer.watches.retain(|key, _| conids.get(&key.cookie) == Some(&key.conid));
        for (key, at_boot_ns) in self.enforcer.watches.graces() {
            self.deadlines.set(key, at_boot_ns);
        }
    }

    /// Verdicts may be older than the last events, so they bring inspections forward and never put one off: one that comes
    /// too early does no harm.
    fn on_judged(&mut self, connections: &[Known], effects: &mut Vec<Effect>) {
        for Known { key, verdict, .. } in connections {
            match verdict {
                _ if self.has_ended(*key) => {}
                None | Some(Verdict::Wait) => self.enforcer.release(*key),
                Some(Verdict::At(at_boot_ns)) => {
                    self.enforcer.release(*key);
                    let set = self.deadlines.get(*key).unwrap_or(u64::MAX);
                    self.deadlines.set(*key, set.min(*at_boot_ns));
                }
                Some(Verdict::Look | Verdict::Expired(..)) => effects.push(Effect::Inspect(*key)),
            }
        }
    }

    fn has_ended(&self, key: ConnKey) -> bool {
        key.conid <= self.newest && self.conid(key.cookie) != Some(key.conid)
    }

    fn open(&mut self, key: ConnKey, listens: bool) {
        self.newest = self.newest.max(key.conid);
        self.conids.insert(key.cookie, key.conid);
        if listens {
            self.listeners.insert(key.cookie);
        } else {
            self.listeners.remove(&key.cookie);
        }
    }

    fn on_event(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let Event { key, kind, .. } = event;
        if kind != EventKind::Closed {
            effects.push(Effect::Happened(event));
        }
        match kind {
            EventKind::Opened => {
                self.open(key, event.connection.direction == Direction::Listen);
                // The limit of a handshake begins at once.
                if event.flags & EVENT_HAS_LIFETIME != 0 {
                    effects.push(Effect::Inspect(key));
                }
            }
            EventKind::Transition | EventKind::Applied => {
                // An event may be older than an override that was set since, so it only says where to look: at a connection
                // that has a limit, or had one.
                let may_have_limit = event.flags & EVENT_HAS_LIFETIME != 0 || self.deadlines.get(key).is_some();
                if may_have_limit && event.new_state != TcpState::SynRecv {
                    effects.push(Effect::Inspect(key));
                }
            }
            EventKind::Closed => {
                // The socket may have its next conid already: that event may come first.
                if self.conids.get(&key.cookie) == Some(&key.conid) {
                    self.conids.remove(&key.cookie);
                    self.listeners.remove(&key.cookie);
                }
                self.deadlines.remove(key);
                effects.push(Effect::Ended(self.enforcer.forget(key), event));
            }
        }
    }

    fn on_inspected(
        &mut self,
        now_boot_ns: u64,
        key: ConnKey,
        inspection: Option<&Inspection>,
        effects: &mut Vec<Effect>,
    ) {
        if self.has_ended(key) {
            return;
        }
        let live = self.conids.len() - self.listeners.len();
        let next = match (self.enforcer.continue_close(key, now_boot_ns, effects), inspection) {
            (Some(next), _) => Some(next),
            (None, Some(inspection)) => self.enforcer.decide(inspection, live, now_boot_ns, effects),
            (None, None) => {
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
