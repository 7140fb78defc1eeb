//! What the kernel programs log with aya-log.

#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use crate::kernel::error::{KernelError, Result};

/// Hands the log of the kernel programs on to this process's.
pub(crate) struct ProgramLog(pub(crate) EbpfLogger<&'static dyn log::Log>);

impl ProgramLog {
    /// Follows the log for as long as the runtime lives. Within a tokio runtime.
    pub(crate) fn follow(self) -> Result<()> {
        // SAFETY: the logger owns its descriptor, gives always the same one, and lives as long as the registration.
        let mut log = unsafe { AsyncFd::register(self.0) }
            .map_err(|error| KernelError::syscall("epoll_ctl", "AYA_LOGS", error))?;
        tokio::spawn(async move {
            loop {
                match log.readable_mut().await {
                    Ok(mut guard) => {
                        guard.get_inner_mut().flush();
                        guard.clear_ready();
                    }
                    Err(error) => {
                        tracing::error!(%error, "the log of the kernel programs has ended");
                        return;
                    }
                }
            }
        });
        Ok(())
    }
}
