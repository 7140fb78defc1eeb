//! Lines of the log that a caller can cause as often as it likes: they are said once in a while, with how often it was.

use std::time::{Duration, Instant};

/// The time between two such lines.
const PAUSE: Duration = Duration::from_secs(10);

/// What is said seldom.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It happened once more. How often it has since it was said last, if it is to be said again.
    pub(super) fn happened(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_in_a_while_and_all_are_counted() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.happened(start), Some(1));
        for _ in 0..100 {
            assert_eq!(seldom.happened(start + PAUSE - Duration::from_nanos(1)), None);
        }
        assert_eq!(seldom.happened(start + PAUSE), Some(101));
        assert_eq!(seldom.happened(start + PAUSE), None);
    }
}
