//! The kernel's events on their way to the model: in order, and complete again after a loss.
//!
//! Events are hints: nothing is decided by an event alone. So those from before the start are passed over, and all entries
//! are read instead. When the ring has overflowed, all connections are read anew as soon as the ring has been read up to
//! the loss.

use tcpops_common::counters::Counter;
use tcpops_common::event::Event;

use crate::daemon::jobs::Job;
use crate::daemon::shared::Shared;
use crate::daemon::telling::publish::Publisher;
use crate::daemon::tracker::Tracker;
use crate::daemon::walks::read_all;
use crate::kernel::Result;
use crate::kernel::events::{BATCH, CAPACITY, Events};
use crate::model::expiry::connections::{Input, Known};
use crate::model::history::record::Loss;

/// Reads events, and sees to it that none is missed unnoticed.
pub(crate) struct Intake {
    pub(crate) ring: Events,
    /// Reads all connections anew.
    pub(crate) resync: Job<(), Result<Vec<Known>>>,
    /// The kernel's count of lost events, as far as it was looked at.
    lost: u64,
    /// Events read since a loss was seen. Those that the ring held then are older than the loss.
    read_since_loss: Option<usize>,
}

impl Intake {
    /// Passes over what the ring holds: the maps say it too.
    ///
    /// # Errors
    /// Fails if the counters cannot be read.
    pub(crate) fn new(mut ring: Events, shared: &Shared) -> Result<Self> {
        ring.discard();
        let lost = shared.settings.counter(Counter::EventsLost)?;
        Ok(Self { ring, resync: Job::new(read_all::run), lost, read_since_loss: None })
    }

    /// True if the ring is to be read to its end, without waiting for more.
    pub(crate) fn is_behind(&self) -> bool {
        self.read_since_loss.is_some()
    }

    /// Takes in what was read.
    pub(crate) fn take(
        &mut self,
        shared: &Shared,
        tracker: &mut Tracker,
        publisher: &Publisher,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        self.look_for_loss(shared, publisher, events.len())?;
        for event in events.drain(..) {
            tracker.input(Input::Event(event));
        }
        Ok(())
    }

    /// If events were lost, has all connections read anew as soon as the ring has been read up to the loss: what is missing
    /// then lies between the record of the loss and the one that says that all is complete again.
    fn look_for_loss(&mut self, shared: &Shared, publisher: &Publisher, read: usize) -> Result<()> {
        let all = shared.settings.counter(Counter::EventsLost)?;
        let lost = all.saturating_sub(self.lost);
        if lost > 0 {
            tracing::warn!(lost, "events were lost; reading all connections anew");
            self.lost = all;
            publisher.lost(Some(lost), Loss::RingOverflow);
            self.read_since_loss.get_or_insert(0);
        }
        if let Some(since_loss) = &mut self.read_since_loss {
            *since_loss += read;
            let was_emptied = read < BATCH && lost == 0;
            if was_emptied || *since_loss >= CAPACITY {
                self.read_since_loss = None;
                self.resync.want(());
            }
        }
        Ok(())
    }
}
