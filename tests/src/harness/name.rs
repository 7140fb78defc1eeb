//! Names that no other test has.

use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// Every namespace, cgroup, directory and pin of the tests begins with this.
pub(crate) const PREFIX: &str = "tcpops-test-";

/// It begins at a number of the clock's, since a test that was killed leaves its names, and another may get its PID.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    AtomicU32::new(now.subsec_micros())
});

/// A new name: `tcpops-test-PID-N`.
pub(crate) fn unique() -> String {
    format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
