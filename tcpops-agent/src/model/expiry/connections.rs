//! What the agent keeps of connections, and what it decides about them. Everything else is read from the maps when it
//! is needed: they are the truth.

use std::collections::{HashMap, HashSet};

use tcpops_common::conn::{ConnKey, Direction};
use tcpops_common::event::{EVENT_HAS_LIFETIME, Event, EventKind};
use tcpops_common::state::TcpState;

use crate::model::expiry::closing::Guard;
use crate::model::expiry::deadlines::Deadlines;
use crate::model::expiry::enforcer::{CloseOrder, Enforcer, Exempt, Inspection, PendingClose};
use crate::model::expiry::guard::{Bound, Hold};
use crate::model::expiry::lifetimes::{Expiry, Verdict};

/// What the agent learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Something happened to a connection.
    Event(Event),
    /// The time has come that [`Connections::next_due`] gave.
    Due,
    /// An [`Effect::Inspect`] was done; nothing was seen where the connection is gone or has no limits.
    Inspected(ConnKey, Option<Inspection>),
    /// This agent is about to close it, since somebody asked for that.
    Closing(CloseOrder),
    /// It was sent a FIN; at this time it is reset.
    FinSent(ConnKey, u64),
    /// An attempt to close it came to nothing; it may be tried again.
    CloseFailed(ConnKey),
    /// It is not closed after all.
    NotClosed(ConnKey),
    /// Other rules are in force, with this guard. They close nothing until [`Input::Settled`].
    RulesChanged(Guard),
    /// Every connection has its policy by the rules in force; [`Input::Judged`] follows.
    Settled,
    /// All connections were looked at by the rules in force.
    Judged(Vec<Known>),
    /// Everything is forgotten; these are all connections. The events follow that came while they were read.
    Resync(Vec<Known>),
    /// The events from before that were all said, too.
    Resynced,
}

/// What is known of a connection when all are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The connection.
    pub(crate) key: ConnKey,
    /// Whether it is a listener.
    pub(crate) listens: bool,
    /// The verdict on its limits, where it has any.
    pub(crate) verdict: Option<Verdict>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read its entry, and the kernel's word on its traffic where a limit may be over; then say [`Input::Inspected`].
    Inspect(ConnKey),
    /// Close it: its time is over.
    Close(CloseOrder),
    /// Say that its time is over, and that it is not closed.
    Exempt(Exemption),
    /// Say that its close is held back.
    Throttled(Throttled),
    /// Say that this happened to it; it lives.
    Happened(Event),
    /// Say that it ended, and what this agent had begun with it.
    Ended(Option<PendingClose>, Event),
}

/// A connection whose time is over by a rule, and that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemption {
    /// The connection.
    pub(crate) key: ConnKey,
    /// Which limit is over.
    pub(crate) expiry: Expiry,
    /// Of which rule.
    pub(crate) rule: u32,
    /// Why it is not closed.
    pub(crate) why: Exempt,
}

/// A connection whose time is over by a rule, and whose close is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// The connection.
    pub(crate) key: ConnKey,
    /// Which limit is over.
    pub(crate) expiry: Expiry,
    /// Of which rule.
    pub(crate) rule: u32,
    /// By what, and until when.
    pub(crate) hold: Hold,
    /// Whether it was not held back by this before.
    pub(crate) is_new: bool,
    /// Whether nothing was said of this rule for a minute.
    pub(crate) is_news: bool,
}

/// Why this agent closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Its lifetime was over.
    Expired(Expiry),
    /// This uid asked for it.
    Request(u32),
}

/// The connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    conids: HashMap<u64, u64>,
    /// The cookies of those that are listeners.
    listeners: HashSet<u64>,
    /// The highest conid that events have told of: one that is not above it and not among `conids` has ended.
    newest: u64,
    deadlines: Deadlines,
    enforcer: Enforcer,
}

impl Connections {
    /// Takes `input` in, and puts what is to be done at the end of `effects`.
    pub(crate) fn apply(&mut self, now_boot_ns: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Event(event) => self.event(event, effects),
            Input::Due => {
                while let Some(key) = self.deadlines.pop_due(now_boot_ns) {
                    effects.push(Effect::Inspect(key));
                }
            }
            Input::Inspected(key, inspection) => self.inspected(now_boot_ns, key, inspection.as_ref(), effects),
            Input::Closing(order) => self.enforcer.begin(&order),
            Input::FinSent(key, reset_at_boot_ns) => {
                if !self.has_ended(key) {
                    self.enforcer.fin_sent(key, reset_at_boot_ns);
                    self.deadlines.set(key, reset_at_boot_ns);
                }
            }
            Input::CloseFailed(key) => {
                if !self.has_ended(key) {
                    let wait_ns = self.enforcer.failed(key);
                    self.deadlines.set(key, now_boot_ns.saturating_add(wait_ns));
                }
            }
            Input::NotClosed(key) => drop(self.enforcer.forget(key)),
            Input::RulesChanged(guard) => self.enforcer.unsettle(guard, now_boot_ns),
            Input::Settled => self.enforcer.settle(),
            Input::Judged(connections) => self.judged(&connections, effects),
            Input::Resync(connections) => self.resync(&connections, effects),
            Input::Resynced => self.resynced(),
        }
    }

    /// When [`Input::Due`] is to be said.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.deadlines.first()
    }

    /// The conid that the socket with this cookie has now, as far as events have told.
    pub(crate) fn conid(&self, cookie: u64) -> Option<u64> {
        self.conids.get(&cookie).copied()
    }

    /// How many connections and listeners there are, as far as events have told.
    pub(crate) fn tracked(&self) -> usize {
        self.conids.len()
    }

    /// How many connections have a limit that is being watched.
    pub(crate) fn watched(&self) -> usize {
        self.deadlines.len()
    }

    /// How many connections wait for the guard to let them be closed.
    pub(crate) fn waiting(&self) -> usize {
        self.enforcer.waiting()
    }

    /// What is known of a connection's end beside its entry.
    pub(crate) fn prospect(&self, key: ConnKey) -> Prospect {
        Prospect {
            next_look_boot_ns: self.deadlines.get(key),
            throttled: self.enforcer.throttled(key),
            reset_at_boot_ns: self.enforcer.grace(key),
        }
    }

    fn resync(&mut self, connections: &[Known], effects: &mut Vec<Effect>) {
        *self = Self { enforcer: std::mem::take(&mut self.enforcer), ..Self::default() };
        for Known { key, listens, .. } in connections {
            self.opened(*key, *listens);
        }
        self.judged(connections, effects);
    }

    /// The last event of a connection with which something was under way may have been lost.
    fn resynced(&mut self) {
        let conids = &self.conids;
        self.enforcer.retain(|key| conids.get(&key.cookie) == Some(&key.conid));
        for (key, at_boot_ns) in self.enforcer.graces() {
            self.deadlines.set(key, at_boot_ns);
        }
    }

    /// Verdicts may be a little older than what events have told since. A look that comes too early does no harm, so none
    /// is put off.
    fn judged(&mut self, connections: &[Known], effects: &mut Vec<Effect>) {
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

    fn opened(&mut self, key: ConnKey, listens: bool) {
        self.newest = self.newest.max(key.conid);
        self.conids.insert(key.cookie, key.conid);
        if listens {
            self.listeners.insert(key.cookie);
        } else {
            self.listeners.remove(&key.cookie);
        }
    }

    fn event(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let Event { key, kind, .. } = event;
        if kind != EventKind::Closed {
            effects.push(Effect::Happened(event));
        }
        match kind {
            EventKind::Opened => {
                self.opened(key, event.connection.direction == Direction::Listen);
                // The limit of a handshake begins at once.
                if event.flags & EVENT_HAS_LIFETIME != 0 {
                    effects.push(Effect::Inspect(key));
                }
            }
            EventKind::Transition | EventKind::Applied => {
                // An event may be older than what was pushed since, so it says only where to look: a connection that has
                // a limit, or had one.
                let may_have_limit = event.flags & EVENT_HAS_LIFETIME != 0 || self.deadlines.contains(key);
                if may_have_limit && event.new_state != TcpState::SynRecv {
                    effects.push(Effect::Inspect(key));
                }
            }
            EventKind::Closed => {
                // The socket may have its next conid already, where the record of its opening came first.
                if self.conids.get(&key.cookie) == Some(&key.conid) {
                    self.conids.remove(&key.cookie);
                    self.listeners.remove(&key.cookie);
                }
                self.deadlines.remove(key);
                effects.push(Effect::Ended(self.enforcer.ended(key), event));
            }
        }
    }

    fn inspected(
        &mut self,
        now_boot_ns: u64,
        key: ConnKey,
        inspection: Option<&Inspection>,
        effects: &mut Vec<Effect>,
    ) {
        if self.has_ended(key) {
            // Its end was told of while it was being looked at.
            return;
        }
        let live = self.conids.len() - self.listeners.len();
        let next = match self.enforcer.go_on(key, now_boot_ns, effects) {
            Some(next) => Some(next),
            None => match inspection {
                Some(inspection) => self.enforcer.follow(inspection, live, now_boot_ns, effects),
                None => {
                    self.enforcer.release(key);
                    None
                }
            },
        };
        match next {
            Some(at_boot_ns) => self.deadlines.set(key, at_boot_ns),
            None => self.deadlines.remove(key),
        }
    }
}

/// What is known of a connection's end beside its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prospect {
    /// When it is looked at next; before that no limit can be over.
    pub(crate) next_look_boot_ns: Option<u64>,
    /// What holds it back.
    pub(crate) throttled: Option<Bound>,
    /// When it is reset, where it was sent a FIN.
    pub(crate) reset_at_boot_ns: Option<u64>,
}

#[cfg(test)]
mod tests;
