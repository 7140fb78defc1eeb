//! The log of what happened: one history, from which every reader reads at its own pace.
//!
//! Publishing appends to the history and never waits. A reader is only a cursor. If it is too slow, the oldest records have
//! made room for new ones: it gets a record of how many it missed, and goes on.

mod demand;
mod history;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use strum::VariantArray;
use tokio::sync::watch;

pub(crate) use demand::{Demand, Demanded};
pub(crate) use history::Start;

use self::history::{Cursor, History};
use crate::model::history::cause::CauseKind;
use crate::model::history::record::{Kind, Kinds, Loss, Record, What};
use crate::model::rules::in_force::RuleNames;

/// How many records are kept for readers that are slow or begin later: up to 3.3 MiB, taken as it fills. The oldest make
/// room for new ones.
const CAPACITY: usize = 16_384;
/// How many names of rules are kept; beyond that, only the names of the rules in force.
const MAX_NAMES: usize = 8192;
/// The most records that a reader takes at a time.
const BATCH: usize = 128;

/// What readers wait for a change of.
#[derive(Clone, Copy, Debug)]
struct Newest {
    next_seq: u64,
    closed: bool,
}

/// The log that the agent publishes to.
#[derive(Debug)]
pub(crate) struct EventLog {
    history: Mutex<History>,
    newest: watch::Sender<Newest>,
    /// The names of the rules in the records, which may not be in force any more.
    names: RwLock<Arc<RuleNames>>,
    counts: Counts,
    demands: Arc<demand::Counts>,
}

/// How many records were published and missed, for the metrics.
#[derive(Debug, Default)]
struct Counts {
    published: [AtomicU64; Kind::VARIANTS.len()],
    closes: [AtomicU64; CauseKind::VARIANTS.len()],
    missed: AtomicU64,
}

/// Reads the log at its own pace.
#[derive(Debug)]
pub(crate) struct Reader {
    event_log: Arc<EventLog>,
    cursor: Cursor,
    newest: watch::Receiver<Newest>,
    _demand: Option<Demand>,
}

impl EventLog {
    /// Makes an empty log whose first record has the number `first_seq`: the microseconds from 1970 to the agent's start,
    /// which keep the numbers of two runs apart and are exact in JSON.
    pub(crate) fn new(first_seq: u64) -> Self {
        Self {
            history: Mutex::new(History::new(first_seq, CAPACITY)),
            newest: watch::Sender::new(Newest { next_seq: first_seq, closed: false }),
            names: RwLock::default(),
            counts: Counts::default(),
            demands: Arc::default(),
        }
    }

    /// Appends a record. Readers that wait only wake with [`announce`](Self::announce).
    pub(crate) fn publish(&self, at_boot_ns: u64, what: What) {
        self.counts.published[what.kind() as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(cause) = what.cause() {
            self.counts.closes[cause.kind() as usize].fetch_add(1, Ordering::Relaxed);
        }
        self.history().push(at_boot_ns, what);
    }

    /// True if nothing was published yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.history().is_empty()
    }

    /// Wakes the readers that wait, if there is something new: once for everything published in the meantime.
    pub(crate) fn announce(&self) {
        let next_seq = self.history().next_seq();
        self.newest.send_if_modified(|newest| std::mem::replace(&mut newest.next_seq, next_seq) != next_seq);
    }

    /// Ends the log: readers end once they have read what is there.
    pub(crate) fn close(&self) {
        self.announce();
        self.newest.send_modify(|newest| newest.closed = true);
    }

    /// Registers a reader of events of these kinds that wants them as they happen.
    pub(crate) fn demand(&self, kinds: Kinds) -> Demand {
        Demand::new(Arc::clone(&self.demands), kinds)
    }

    /// What the readers together want.
    pub(crate) fn demanded(&self) -> Demanded {
        self.demands.demanded()
    }

    /// Makes a reader that begins there; without a demand it reads what there is.
    pub(crate) fn read_from(self: &Arc<Self>, start: Start, demand: Option<Demand>) -> Reader {
        let cursor = self.history().cursor(start);
        Reader { event_log: Arc::clone(self), cursor, newest: self.newest.subscribe(), _demand: demand }
    }

    /// Adds the names of the rules in force.
    pub(crate) fn learn_names(&self, in_force: &RuleNames) {
        let mut names = self.names.write();
        let mut known = RuleNames::clone(&names);
        known.extend(in_force.iter().map(|(id, name)| (*id, name.clone())));
        *names = Arc::new(if known.len() > MAX_NAMES { in_force.clone() } else { known });
    }

    /// The names of the rules in the records.
    pub(crate) fn names(&self) -> Arc<RuleNames> {
        Arc::clone(&self.names.read())
    }

    /// How many records of a kind were published.
    pub(crate) fn published(&self, kind: Kind) -> u64 {
        self.counts.published[kind as usize].load(Ordering::Relaxed)
    }

    /// How many connections ended for a cause of this kind.
    pub(crate) fn closes(&self, kind: CauseKind) -> u64 {
        self.counts.closes[kind as usize].load(Ordering::Relaxed)
    }

    /// How many records readers missed.
    pub(crate) fn missed(&self) -> u64 {
        self.counts.missed.load(Ordering::Relaxed)
    }

    /// How many readers there are.
    pub(crate) fn readers(&self) -> usize {
        self.newest.receiver_count()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }
}

impl Reader {
    /// Appends the next records to `into`, at most a batch; nothing where none are there yet.
    pub(crate) fn take(&mut self, now_boot_ns: u64, into: &mut Vec<Record>) {
        let before = into.len();
        self.event_log.history().read(&mut self.cursor, BATCH, now_boot_ns, into);
        for record in &into[before..] {
            if let What::Lost(Some(count), Loss::SlowReader) = record.what {
                self.event_log.counts.missed.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Waits until there is more; false where nothing more comes. It is safe to drop the future and call this again.
    pub(crate) async fn more(&mut self) -> bool {
        let next_seq = self.last_seq() + 1;
        match self.newest.wait_for(|newest| newest.next_seq > next_seq || newest.closed).await {
            Ok(newest) => newest.next_seq > next_seq,
            Err(_gone) => false,
        }
    }

    /// The number of the last record that was taken or skipped.
    pub(crate) fn last_seq(&self) -> u64 {
        self.cursor.last_seq()
    }

    /// The names of the rules in the records.
    pub(crate) fn names(&self) -> Arc<RuleNames> {
        self.event_log.names()
    }
}

#[cfg(test)]
mod tests {
    use tcpops_common::conn::{ConnKey, Connection};
    use tcpops_common::state::TcpState;

    use super::*;
    use crate::model::history::record::{Happened, Identity};

    fn take(reader: &mut Reader) -> Vec<u64> {
        let mut records = Vec::new();
        reader.take(0, &mut records);
        records.iter().map(|record| record.seq).collect()
    }

    #[tokio::test]
    async fn readers_are_woken_once_for_what_was_published() {
        let event_log = Arc::new(EventLog::new(1_000_000));
        let mut reader = event_log.read_from(Start::Now, None);
        let waiting = tokio::spawn(async move { (reader.more().await, reader) });
        event_log.publish(1, What::Resynchronised(1));
        event_log.publish(2, What::Resynchronised(2));
        event_log.announce();
        let (more, mut reader) = waiting.await.unwrap();
        assert!(more);
        assert_eq!(take(&mut reader), [1_000_000, 1_000_001]);
        assert_eq!(event_log.readers(), 1);
        // With nothing new, nobody is woken.
        event_log.announce();
        assert!(!reader.newest.has_changed().unwrap());
        event_log.publish(3, What::Resynchronised(3));
        event_log.close();
        assert!(reader.more().await, "what was published before the end is read");
        assert_eq!(take(&mut reader), [1_000_002]);
        assert!(!reader.more().await);
        drop(reader);
        assert_eq!((event_log.readers(), event_log.published(Kind::Resynchronised)), (0, 3));
    }

    #[test]
    fn a_sleeping_reader_holds_nothing_up_and_is_told_what_it_missed() {
        let event_log = Arc::new(EventLog::new(1_000_000));
        let mut reader = event_log.read_from(Start::Now, None);
        let count = CAPACITY as u64 + 10;
        let what =
            What::Of(Identity::of(ConnKey::default(), &Connection::EMPTY), Happened::Vanished(TcpState::Established));
        (0..count).for_each(|number| event_log.publish(number, what));
        let mut records = Vec::new();
        reader.take(0, &mut records);
        assert_eq!(records[0].what, What::Lost(Some(10), Loss::SlowReader));
        assert_eq!((records[1].seq, records.len()), (1_000_010, BATCH + 1));
        assert_eq!(event_log.missed(), 10);
    }

    #[test]
    fn rules_that_went_are_remembered_for_a_while() {
        let event_log = EventLog::new(1_000_000);
        let rules = |ids: std::ops::Range<u32>| ids.map(|id| (id, format!("rule {id}"))).collect::<RuleNames>();
        event_log.learn_names(&rules(0..2));
        event_log.learn_names(&rules(5..6));
        assert_eq!(event_log.names().get(&1).map(String::as_str), Some("rule 1"));
        event_log.learn_names(&rules(6..6 + MAX_NAMES as u32));
        assert_eq!((event_log.names().len(), event_log.names().get(&1)), (MAX_NAMES, None));
    }
}
