//! Publishing what happened: from the loop to the event log.

use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::event::Event;

use crate::events::EventLog;
use crate::kernel::clock::now_boot_ns;
use crate::model::expiry::effects::{Effect, PendingClose};
use crate::model::expiry::lifetimes::Expiry;
use crate::model::history::cause::{Author, Cause};
use crate::model::history::ending::Ending;
use crate::model::history::record::{Happened, Identity, Loss, What};

/// Publishes what the loop learns.
pub(crate) struct Publisher {
    event_log: Arc<EventLog>,
}

impl Publisher {
    pub(crate) fn new(event_log: Arc<EventLog>) -> Self {
        Self { event_log }
    }

    /// Publishes what the model says has happened; what it asks to be done is for others.
    pub(crate) fn publish(&self, effect: &Effect) {
        match effect {
            Effect::Happened(event) => self.happened(event),
            Effect::Ended(pending_close, event) => self.ended(event, *pending_close),
            Effect::Inspect(_) | Effect::LookAtAll | Effect::Close(_) | Effect::Exempt(_) | Effect::Throttled(_) => {}
        }
    }

    /// Something happened to a connection that lives.
    fn happened(&self, event: &Event) {
        if let Some(what) = What::of_open(event) {
            self.event_log.publish(event.at_boot_ns, what);
        }
    }

    /// A connection ended; this agent may have begun to close it.
    fn ended(&self, event: &Event, pending_close: Option<PendingClose>) {
        let cause = Cause::of(event, pending_close);
        tracing::debug!(conid = event.key.conid, ?cause, state = event.old_state.name(), errno = event.errno, "ended");
        let ending = Ending::of(event, cause);
        let identity = Identity::of(event.key, &event.connection);
        self.event_log.publish(event.at_boot_ns, What::Of(identity, Happened::Closed(ending)));
    }

    /// Events are missing; `count` of them, if that is known.
    pub(crate) fn lost(&self, count: Option<u64>, loss: Loss) {
        self.event_log.publish(now_boot_ns(), What::Lost(count, loss));
    }

    /// What happens to connections that live is published from now on; nobody wanted that before.
    pub(crate) fn read_again(&self) {
        if !self.event_log.is_empty() {
            self.lost(None, Loss::Unread);
        }
    }

    /// All connections were read anew.
    pub(crate) fn resynchronised(&self, tracked: u64) {
        self.event_log.publish(now_boot_ns(), What::Resynchronised(tracked));
    }

    /// Wakes the readers that wait for what was published.
    pub(crate) fn announce(&self) {
        self.event_log.announce();
    }
}

/// A connection is about to be closed because its time is over, by this rule or by an override. Its reset may be told before
/// the loop hears of it, so this is told from where it is closed.
pub(crate) fn expiring(event_log: &EventLog, key: ConnKey, connection: &Connection, expiry: Expiry, rule: u32) {
    let expiring = Happened::Expiring(expiry, Author::of_limit(rule, connection));
    event_log.publish(now_boot_ns(), What::Of(Identity::of(key, connection), expiring));
}
