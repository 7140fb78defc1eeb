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

/// The latest records, in order.
#[derive(Debug)]
pub(crate) struct History {
    records: VecDeque<Record>,
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
        Self { records: VecDeque::new(), capacity, first_seq, next_seq: first_seq }
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, at_boot_ns: u64, what: What) {
        if self.records.len() == self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(Record { seq: self.next_seq, at_boot_ns, what });
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

    /// Appends the next records to `into`, at most `limit`. Where some are not kept any more, a record of the loss comes
    /// first, with the number of the last one that is missing.
    pub(crate) fn read(&self, cursor: &mut Cursor, limit: usize, now_boot_ns: u64, into: &mut Vec<Record>) {
        let oldest = self.oldest_seq();
        let missing = oldest.saturating_sub(cursor.next_seq);
        let loss = if std::mem::take(&mut cursor.from_other_agent) {
            Some((None, Loss::AgentRestarted))
        } else {
            (missing > 0).then_some((Some(missing), Loss::SlowReader))
        };
        if let Some((count, loss)) = loss {
            cursor.next_seq = oldest;
            into.push(Record { seq: cursor.last_seq(), at_boot_ns: now_boot_ns, what: What::Lost(count, loss) });
        }
        let start = (cursor.next_seq - oldest) as usize;
        let end = self.records.len().min(start.saturating_add(limit));
        into.extend(self.records.range(start..end));
        cursor.next_seq += (end - start) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1_000;

    /// A history of three records, into which `count` were put.
    fn history(count: u64) -> History {
        let mut history = History::new(FIRST, 3);
        (0..count).for_each(|number| history.push(number, What::Resynchronised(number)));
        history
    }

    fn read(history: &History, cursor: &mut Cursor) -> Vec<(u64, What)> {
        let mut records = Vec::new();
        history.read(cursor, 2, 7, &mut records);
        records.into_iter().map(|record| (record.seq, record.what)).collect()
    }

    fn nth(number: u64) -> (u64, What) {
        (FIRST + number, What::Resynchronised(number))
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
        (2..9).for_each(|number| history.push(number, What::Resynchronised(number)));
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
    fn an_empty_history_is_no_loss() {
        let history = history(0);
        assert_eq!(read(&history, &mut history.cursor(Start::Oldest)), []);
        assert_eq!(read(&history, &mut history.cursor(Start::After(FIRST - 1))), []);
    }
}
