//! What the bench and its load processes say to each other: a line of JSON each, over pipes.

use serde::{Deserialize, Serialize};

/// The ends of its connections that a load process has made within the cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tracked {
    /// Those that connected and those that were accepted.
    Both,
    /// Those that connected.
    Outbound,
    /// Those that were accepted.
    Inbound,
}

/// What a load process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Connect, accept and close both ends, again and again.
    Churn {
        /// For so long.
        milliseconds: u64,
        /// Not more often than this; as often as can be without it.
        per_second: Option<u32>,
    },
}

/// What came of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The process is ready for the first order.
    Ready,
    /// Connections came and went.
    Churned(Churned),
    /// It did not work, for this reason.
    Failed(String),
}

/// What came of a churn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Churned {
    /// The connections; each has two ends.
    pub(crate) pairs: u64,
    /// The time that it took.
    pub(crate) elapsed_ns: u64,
    /// From before connect(2) to after accept(2), the median.
    pub(crate) handshake_p50_ns: f64,
    /// Likewise, of 99 in 100.
    pub(crate) handshake_p99_ns: f64,
}

impl Churned {
    /// Connections a second.
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    pub(crate) fn rate(&self) -> f64 {
        self.pairs as f64 * 1e9 / self.elapsed_ns as f64
    }
}
