//! Having the kernel programs tell what readers of events want, and no more.

use std::time::Duration;

use tcpops_common::settings::tell;

use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::clock::now_boot_ns;

/// What happens to connections that live is told this much longer than somebody wants it, so that a reader that connects
/// again misses nothing.
const LINGER: Duration = Duration::from_secs(10);

/// What the kernel programs are told to tell.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// The bits of [`tell`] that are set.
    bits: u32,
    /// When somebody last wanted to know what happens to connections that live.
    wanted_boot_ns: u64,
}

impl Telling {
    /// Has the kernel programs tell what is wanted now; `waits` says that the end of a connection is waited for.
    /// Returns true if they tell of connections that live from now on, and did not before.
    pub(crate) fn update(&mut self, shared: &Shared, waits: bool) -> Result<bool> {
        let demanded = shared.event_log.demanded();
        let was_told = self.bits & tell::ALL != 0;
        let mut bits = if demanded.at_once || waits { tell::AT_ONCE } else { 0 };
        if demanded.of_living {
            self.wanted_boot_ns = now_boot_ns();
            bits |= tell::ALL;
        } else if was_told && !self.is_over() {
            bits |= tell::ALL;
        }
        if bits != self.bits {
            shared.settings.set_telling(bits)?;
            self.bits = bits;
        }
        Ok(bits & tell::ALL != 0 && !was_told)
    }

    /// Sets the bits once more, since a kernel program has added to them.
    pub(crate) fn set_anew(&self, shared: &Shared) -> Result<()> {
        shared.settings.set_telling(self.bits)
    }

    /// True if somebody reads.
    pub(crate) fn is_at_once(&self) -> bool {
        self.bits != 0
    }

    fn is_over(&self) -> bool {
        now_boot_ns().saturating_sub(self.wanted_boot_ns) > u64::try_from(LINGER.as_nanos()).unwrap_or(u64::MAX)
    }
}
