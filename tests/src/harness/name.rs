//! Names that no other test has.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Every namespace, cgroup, directory and pin of the tests begins with this.
pub(crate) const PREFIX: &str = "tcpops-test-";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A new name: `tcpops-test-PID-N`.
pub(crate) fn unique() -> String {
    format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
