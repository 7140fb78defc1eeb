//! The latest records: a ring, in which the oldest make room for new ones.

use std::collections::VecDeque;

use crate::model::history::record::{Loss, Record, What};

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the next record that is published.
    Now,
    /// With the oldest record that is kept.
    Oldest,
    /// After the record with this number.
    After(u64),
}

/// The most marks that are kept. A reader that is further behind than these is told of them as of other records.
const MARKS: usize = 1024;

/// The latest records, in order.
#[derive(Debug)]
pub(crate) struct History {
    records: VecDeque<Record>,
    /// The latest records that say what is missing, or that all was read anew. They are kept for longer than others, so
    /// that a slow reader is told of each loss with its own cause and count.
    marks: VecDeque<Record>,
    capacity: usize,
    /// The number of the first record of this agent.
    first_seq: u64,
    /// The number of the next record.
    next_seq: u64,
}

/// How far a reader has read.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// The number of the record that comes next.
    next_seq: u64,
    /// True if the reader asked for the numbers of another agent's records.
    from_other_agent: bool,
}

impl Cursor {
    /// The number of the last record that was read or skipped.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq.saturating_sub(1)
    }
}

impl History {
    /// Makes an empty history of at most `capacity` records, the first of which gets the number `first_seq`.
    pub(crate) fn new(first_seq: u64, capacity: usize) -> Self {
        Self { records: VecDeque::new(), marks: VecDeque::new(), capacity, first_seq, next_seq: first_seq }
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, at_boot_ns: u64, what: What) {
        if self.records.len() == self.capacity {
            self.records.pop_front();
        }
        let record = Record { seq: self.next_seq, at_boot_ns, what };
        if matches!(what, What::Lost(..) | What::Resynchronised(_)) {
            if self.marks.len() == MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back(record);
        }
        self.records.push_back(record);
        self.next_seq += 1;
    }

    /// True if no record was ever appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.next_seq == self.first_seq
    }

    /// The number of the next record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The number of the oldest record that is kept, or of the next one where none is.
    fn oldest_seq(&self) -> u64 {
        self.next_seq - self.records.len() as u64
    }

    /// Makes a cursor that begins there.
    pub(crate) fn cursor(&self, start: Start) -> Cursor {
        let at = |next_seq| Cursor { next_seq, from_other_agent: false };
        match start {
            Start::Now => at(self.next_seq),
            Start::Oldest => at(self.oldest_seq()),
            // The records of an earlier agent have lower numbers, or higher ones if the clock was set back.
            Start::After(seq) if seq >= self.next_seq || seq.saturating_add(1) < self.first_seq => {
                Cursor { next_seq: self.oldest_seq(), from_other_agent: true }
            }
            Start::After(seq) => at(seq + 1),
        }
    }

    /// Appends the next records to `into`, at most `limit` of those that are kept. Where some are not kept any more, records
    /// of the loss come first, each with the number of the last one that is missing, and the marks among them.
    pub(crate) fn read(&self, cursor: &mut Cursor, limit: usize, now_boot_ns: u64, into: &mut Vec<Record>) {
        let oldest = self.oldest_seq();
        let lost = |before: u64, count, loss| Record {
            seq: before.saturating_sub(1),
            at_boot_ns: now_boot_ns,
            what: What::Lost(count, loss),
        };
        if std::mem::take(&mut cursor.from_other_agent) {
            cursor.next_seq = oldest;
            into.push(lost(oldest, None, Loss::AgentRestarted));
        }
        while cursor.next_seq < oldest {
            let next = self.marks.partition_point(|mark| mark.seq < cursor.next_seq);
            let mark = self.marks.get(next).filter(|mark| mark.seq < oldest);
            let until = mark.map_or(oldest, |mark| mark.seq);
            if until > cursor.next_seq {
                into.push(lost(until, Some(until - cursor.next_seq), Loss::SlowReader));
            }
            into.extend(mark);
            cursor.next_seq = until + u64::from(mark.is_some());
        }
        let start = (cursor.next_seq - oldest) as usize;
        let end = self.records.len().min(start.saturating_add(limit));
        into.extend(self.records.range(start..end));
        cursor.next_seq += (end - start) as u64;
    }
}

#[cfg(test)]
mod tests {
    use tcpops_common::conn::{ConnKey, Connection};
    use tcpops_common::state::TcpState;

    use super::*;
    use crate::model::history::record::{Happened, Identity};

    const FIRST: u64 = 1_000;

    /// A history of three records, into which `count` were put.
    fn history(count: u64) -> History {
        let mut history = History::new(FIRST, 3);
        (0..count).for_each(|_| history.push(0, record()));
        history
    }

    /// One of many.
    fn record() -> What {
        What::Of(Identity::of(ConnKey::default(), &Connection::EMPTY), Happened::Vanished(TcpState::Established))
    }

    fn read(history: &History, cursor: &mut Cursor) -> Vec<(u64, What)> {
        let mut records = Vec::new();
        history.read(cursor, 2, 7, &mut records);
        records.into_iter().map(|record| (record.seq, record.what)).collect()
    }

    fn nth(number: u64) -> (u64, What) {
        (FIRST + number, record())
    }

    #[test]
    fn readers_begin_where_they_want_to() {
        let history = history(3);
        let from = |start| read(&history, &mut history.cursor(start));
        assert_eq!(from(Start::Now), []);
        assert_eq!(from(Start::Oldest), [nth(0), nth(1)]);
        assert_eq!(from(Start::After(FIRST)), [nth(1), nth(2)]);
        assert_eq!(from(Start::After(FIRST + 2)), []);
        // The record before the first is no record of an agent before.
        assert_eq!(from(Start::After(FIRST - 1)), [nth(0), nth(1)]);
        let restarted = |seq| (seq, What::Lost(None, Loss::AgentRestarted));
        assert_eq!(from(Start::After(FIRST - 2)), [restarted(FIRST - 1), nth(0), nth(1)]);
        assert_eq!(from(Start::After(FIRST + 3)), [restarted(FIRST - 1), nth(0), nth(1)]);
        assert_eq!(from(Start::After(u64::MAX)).len(), 3);
    }

    #[test]
    fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
        let mut history = history(2);
        let mut cursor = history.cursor(Start::Oldest);
        assert_eq!(read(&history, &mut cursor), [nth(0), nth(1)]);
        (2..9).for_each(|_| history.push(0, record()));
        let lost = (FIRST + 5, What::Lost(Some(4), Loss::SlowReader));
        assert_eq!(read(&history, &mut cursor), [lost, nth(6), nth(7)]);
        assert_eq!(cursor.last_seq(), FIRST + 7);
        assert_eq!(read(&history, &mut cursor), [nth(8)]);
        assert_eq!(read(&history, &mut cursor), []);
        // Who begins too late misses something too.
        assert_eq!(
            read(&history, &mut history.cursor(Start::After(FIRST + 3)))[0],
            (FIRST + 5, What::Lost(Some(2), Loss::SlowReader))
        );
    }

    #[test]
    fn a_slow_reader_is_told_of_each_loss_with_its_own_cause() {
        let mut history = history(2);
        let mut cursor = history.cursor(Start::Oldest);
        let overflow = What::Lost(Some(7), Loss::RingOverflow);
        history.push(0, overflow);
        history.push(0, What::Resynchronised(5));
        (4..9).for_each(|_| history.push(0, record()));
        let slow = |number, count| (FIRST + number, What::Lost(Some(count), Loss::SlowReader));
        assert_eq!(
            read(&history, &mut cursor),
            [slow(1, 2), (FIRST + 2, overflow), (FIRST + 3, What::Resynchronised(5)), slow(5, 2), nth(6), nth(7)]
        );
        assert_eq!(read(&history, &mut cursor), [nth(8)]);
    }

    #[test]
    fn an_empty_history_is_no_loss() {
        let history = history(0);
        assert_eq!(read(&history, &mut history.cursor(Start::Oldest)), []);
        assert_eq!(read(&history, &mut history.cursor(Start::After(FIRST - 1))), []);
    }
}
