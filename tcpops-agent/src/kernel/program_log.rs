//! The log of the kernel programs (aya-log).

use aya_log::EbpfLogger;

use crate::kernel::error::Result;
use crate::kernel::readiness::register;

/// Passes the log of the kernel programs on to the agent's.
pub(crate) struct ProgramLog(pub(crate) EbpfLogger<&'static dyn log::Log>);

impl ProgramLog {
    /// Follows the log for as long as the tokio runtime lives; must be called within it.
    pub(crate) fn follow(self) -> Result<()> {
        let mut log = register("AYA_LOGS", self.0)?;
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
