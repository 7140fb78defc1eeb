//! What the bench and its load processes say to each other: a line of JSON each, over pipes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Make connections and keep both their ends.
    Hold {
        /// So many more.
        pairs: usize,
    },
    /// Change the keepalive of a connection that is kept, by its descriptor.
    ChangeOwn {
        /// The agent's socket.
        socket: PathBuf,
        /// So often.
        times: u32,
    },
    /// Read a file to its end: an iterator of the kernel, which runs in the namespace of who opens it.
    Read {
        /// The file.
        file: PathBuf,
        /// So often.
        times: u32,
    },
    /// Make connections, and wait until each is closed by an agent whose rule gives them this age.
    Outlive {
        /// For so long.
        milliseconds: u64,
        /// So often.
        per_second: u32,
        /// The age.
        age_milliseconds: u64,
    },
    /// Make one connection after the other, with a pause, and say when each was closed.
    Visit {
        /// So many.
        times: u32,
        /// So long.
        pause_milliseconds: u64,
    },
    /// Send data over one connection.
    Exchange {
        /// For so long, half of it in bulk and half in requests and responses.
        milliseconds: u64,
    },
    /// Set an option that is none of the agent's.
    SetOption {
        /// So often.
        times: u32,
    },
}

/// What came of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The process is ready for the first order.
    Ready,
    /// Connections came and went.
    Churned(Churned),
    /// Connections are kept.
    Held {
        /// Where they were accepted.
        listener: SocketAddr,
    },
    /// How long each thing took, in nanoseconds.
    Times(Vec<f64>),
    /// Connections were made one after the other.
    Visited(Vec<Visit>),
    /// Data was sent.
    Exchanged(Exchanged),
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
    /// The part of that time in which the load could run, and others had its processor.
    pub(crate) waited_ns: u64,
    /// From before connect(2) to after accept(2), the median.
    pub(crate) handshake_p50_ns: f64,
    /// Likewise, of 99 in 100.
    pub(crate) handshake_p99_ns: f64,
}

/// A connection that was made and closed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Visit {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The end that was accepted.
    pub(crate) server: SocketAddr,
    /// The time of the last close, on `CLOCK_MONOTONIC`.
    pub(crate) closed_ns: u64,
}

/// What came of sending data.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Exchanged {
    /// Bytes a second, in bulk.
    pub(crate) bytes_per_second: f64,
    /// From a request to its response, of 99 in 100.
    pub(crate) response_p99_ns: f64,
}

impl Churned {
    /// Connections a second of the time in which the load had its processor. So other work on a busy machine counts little.
    pub(crate) fn rate(&self) -> f64 {
        self.rate_with(Duration::ZERO)
    }

    /// Likewise, where this much of another's processor time counts as the load's own.
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    pub(crate) fn rate_with(&self, other: Duration) -> f64 {
        let own_ns = self.elapsed_ns.saturating_sub(self.waited_ns);
        self.pairs as f64 / (Duration::from_nanos(own_ns) + other).as_secs_f64()
    }

    /// Connections a second of all the time.
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    pub(crate) fn true_rate(&self) -> f64 {
        self.pairs as f64 / Duration::from_nanos(self.elapsed_ns).as_secs_f64()
    }
}
