//! Lines that wait to be written, bounded in bytes.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The most bytes that wait. A line that finds no room is refused: those before it say more about what went wrong.
const MAX_BYTES: usize = 1024 * 1024;

/// The queue; many add, and one takes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// There is a line.
    filled: Condvar,
    /// There is none, and the one that was taken is written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// A line was taken, and the next was not yet asked for.
    is_writing: bool,
}

impl Queue {
    /// Adds a line; false where there is no room for it.
    pub(super) fn push(&self, line: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.bytes + line.len() > MAX_BYTES {
            return false;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.into());
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Takes the next line, and waits for it where there is none. The one before is written then.
    pub(super) fn next(&self) -> Box<[u8]> {
        let mut waiting = self.waiting.lock();
        loop {
            waiting.is_writing = false;
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.is_writing = true;
                return line;
            }
            self.emptied.notify_all();
            self.filled.wait(&mut waiting);
        }
    }

    /// True if no more than half of it is taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.lock().bytes <= MAX_BYTES / 2
    }

    /// Waits until everything is written, no longer than `timeout`.
    pub(super) fn wait_until_empty(&self, timeout: Duration) {
        let mut waiting = self.waiting.lock();
        self.emptied.wait_while_for(&mut waiting, |waiting| waiting.is_writing || !waiting.lines.is_empty(), timeout);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn lines_come_in_order_and_what_is_too_much_is_refused() {
        let queue = Queue::default();
        let half = vec![b'x'; MAX_BYTES / 2];
        assert!(queue.push(b"first\n") && queue.push(&half));
        assert!(!queue.has_room() && !queue.push(&half), "it is bounded in bytes");
        assert!(queue.push(b"last\n"));
        assert_eq!(&*queue.next(), b"first\n");
        assert_eq!(&*queue.next(), half);
        assert!(queue.has_room() && queue.push(&half), "what was taken makes room");
        assert_eq!(&*queue.next(), b"last\n");
    }

    #[test]
    fn it_is_empty_when_the_last_line_is_written() {
        let queue = Arc::new(Queue::default());
        queue.push(b"line\n");
        assert_eq!(&*queue.next(), b"line\n");
        let start = Instant::now();
        queue.wait_until_empty(Duration::from_millis(10));
        assert!(start.elapsed() >= Duration::from_millis(10), "it was taken, and may not be written yet");
        let writer = Arc::clone(&queue);
        thread::spawn(move || drop(writer.next()));
        queue.wait_until_empty(Duration::from_secs(100));
        assert!(start.elapsed() < Duration::from_secs(50), "asking for the next says that it is written");
    }
}
