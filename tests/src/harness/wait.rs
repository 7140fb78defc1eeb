//! Waiting for conditions, never for time to pass.

use std::thread;
use std::time::{Duration, Instant};

/// Enough for anything that should happen at once, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics with `what` if it does not within `timeout`.
pub(crate) fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, timeout, || condition().then_some(()));
}

/// Waits until `found` gives something.
pub(crate) fn wait_for<T>(what: &str, timeout: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        thread::sleep(POLL);
    }
}

/// Waits until `seen` answers what is expected; panics with what it answered last.
pub(crate) fn wait_to_see<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, mut seen: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        let value = seen();
        if value == *expected {
            return;
        }
        assert!(start.elapsed() < SOON, "{what}: expected {expected:?} within {SOON:?}, still {value:?}");
        thread::sleep(POLL);
    }
}
