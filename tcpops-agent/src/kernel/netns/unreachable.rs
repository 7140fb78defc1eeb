//! The network namespaces that could not be entered.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;

use crate::kernel::error::EnterError;

/// The most namespaces that are noted; more are not reported.
const MAX: usize = 1000;

/// How a namespace that could not be entered is identified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whereabouts {
    /// The netns cookie of its sockets.
    Cookie(u64),
    /// The path of its name, or of the link of a process in it.
    Place(PathBuf),
}

/// A namespace that could not be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreachable {
    pub(crate) whereabouts: Whereabouts,
    pub(crate) why: EnterError,
}

#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<Whereabouts, EnterError>>);

impl Failures {
    pub(crate) fn note(&self, whereabouts: Whereabouts, why: EnterError) {
        let mut noted = self.0.lock();
        if noted.len() < MAX || noted.contains_key(&whereabouts) {
            noted.insert(whereabouts, why);
        }
    }

    pub(crate) fn forget(&self, whereabouts: &Whereabouts) {
        self.0.lock().remove(whereabouts);
    }

    /// Tries each again; returns those that fail again, and forgets the others.
    pub(crate) fn retry(&self, enter: impl Fn(&Whereabouts) -> Result<(), EnterError>) -> Vec<Unreachable> {
        // Without the lock: entering takes a while, and may fail for others meanwhile.
        let noted: Vec<_> = self.0.lock().keys().cloned().collect();
        let mut failing = Vec::new();
        for whereabouts in noted {
            match enter(&whereabouts) {
                Ok(()) => self.forget(&whereabouts),
                Err(why) => failing.push(Unreachable { whereabouts, why }),
            }
        }
        failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_entered_again_is_forgotten() {
        let failures = Failures::default();
        for cookie in [1, 2, 1] {
            failures.note(Whereabouts::Cookie(cookie), EnterError::NotFound);
        }
        let enter = |whereabouts: &Whereabouts| match whereabouts {
            Whereabouts::Cookie(1) => Ok(()),
            _ => Err(EnterError::Panicked),
        };
        let two = Unreachable { whereabouts: Whereabouts::Cookie(2), why: EnterError::Panicked };
        assert_eq!(failures.retry(enter), [two]);
        assert_eq!(failures.retry(|_| Err(EnterError::Panicked)).len(), 1);
        failures.forget(&Whereabouts::Cookie(2));
        assert!(failures.retry(|_| Err(EnterError::Panicked)).is_empty());
    }

    #[test]
    fn there_is_an_end_to_what_is_noted() {
        let failures = Failures::default();
        for cookie in 0..2 * MAX as u64 {
            failures.note(Whereabouts::Cookie(cookie), EnterError::NotFound);
        }
        assert_eq!(failures.retry(|_| Err(EnterError::NotFound)).len(), MAX);
    }
}
