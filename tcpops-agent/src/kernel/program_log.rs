//! The log of the kernel programs (aya-log).

#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use crate::kernel::error::{KernelError, Result};

/// Passes the log of the kernel programs on to the agent's.
pub(crate) struct ProgramLog(pub(crate) EbpfLogger<&'static dyn log::Log>);

impl ProgramLog {
    /// Follows the log for as long as the tokio runtime lives; must be called within it.
    pub(crate) fn follow(self) -> Result<()> {
        // SAFETY: the registration owns the logger, which owns its descriptor and always returns the same one.
        let mut log = unsafe { AsyncFd::register(self.0) }.map_err(KernelError::syscall("epoll_ctl", "AYA_LOGS"))?;
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
