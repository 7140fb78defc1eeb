//! Waiting for conditions, never for time to pass.

use std::env;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// Enough for anything that should happen at once, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(5);

/// How often longer than elsewhere things may take here: `TCPOPS_TEST_PATIENCE`, for machines that emulate the processor.
static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    let text = env::var("TCPOPS_TEST_PATIENCE").unwrap_or_else(|_unset| "1".to_owned());
    text.parse().unwrap_or_else(|_error| panic!("TCPOPS_TEST_PATIENCE: expected a number, found {text:?}"))
});

/// What is allowed here where `duration` is allowed elsewhere. For bounds on how long something takes, never for how long
/// something must last.
pub(crate) fn patient(duration: Duration) -> Duration {
    duration * *PATIENCE
}

/// Waits until `condition` holds; panics with `what` if it does not within `timeout`.
pub(crate) fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, timeout, || condition().then_some(()));
}

/// Waits until `found` gives something.
pub(crate) fn wait_for<T>(what: &str, timeout: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let (start, timeout) = (Instant::now(), patient(timeout));
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
    let (start, timeout) = (Instant::now(), patient(SOON));
    loop {
        let value = seen();
        if value == *expected {
            return;
        }
        assert!(start.elapsed() < timeout, "{what}: expected {expected:?} within {timeout:?}, still {value:?}");
        thread::sleep(POLL);
    }
}
