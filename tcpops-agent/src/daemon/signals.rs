//! The signals that the agent answers.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Caught from before the agent is ready.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// The wish behind a signal.
pub(crate) enum Asked {
    /// To end; the name of the signal.
    Stop(&'static str),
    /// To read the rules file again.
    Reload,
}

impl Signals {
    /// Catches them from now on. Within a tokio runtime.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}
