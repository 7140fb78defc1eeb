//! The link of the setsockopt program, which is there only while something needs it: the kernel copies the arguments of every
//! setsockopt(2) of a cgroup that has such a program (`__cgroup_bpf_run_filter_setsockopt` of its kernel/bpf/cgroup.c).

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

use crate::kernel::clock::now_boot_ns;
use crate::kernel::error::Result;
use crate::kernel::link::{Attachment, Link, Missing};

/// The program stays attached this much longer than something needs it, so that one change after another does not attach it
/// anew.
const LINGER: Duration = Duration::from_secs(10);

/// Attaches the setsockopt program when something needs it, and detaches it when nothing does.
#[derive(Debug)]
pub(crate) struct SetsockoptLink {
    attachment: Attachment,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    link: Option<Link>,
    /// When something needed it last, or was found to need it.
    needed_boot_ns: u64,
}

impl SetsockoptLink {
    /// Takes the link over that an earlier agent left pinned, if there is one: what needed it may still be there.
    pub(crate) fn open(attachment: Attachment, cgroup_mount: &Path) -> Result<Self> {
        let is_there = attachment.pin.exists();
        let link = is_there.then(|| attachment.take_over(cgroup_mount)).transpose()?;
        Ok(Self { attachment, state: Mutex::new(State { link, needed_boot_ns: now_boot_ns() }) })
    }

    /// Attaches the program, if it is not: from now on it upholds what is set, and answers the agent's own calls.
    ///
    /// # Errors
    /// Fails where the cgroup takes no more programs, or is gone.
    pub(crate) fn need(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.needed_boot_ns = now_boot_ns();
        if state.link.is_none() {
            state.link = Some(self.attachment.attach()?);
        }
        Ok(())
    }

    /// Detaches the program, if nothing has needed it for [`LINGER`] and `is_needed` denies that something does. Returns when
    /// to ask again.
    ///
    /// # Errors
    /// The pin cannot be removed, or `is_needed` cannot tell: the program stays attached.
    pub(crate) fn release(&self, is_needed: impl FnOnce() -> Result<bool>) -> Result<Option<u64>> {
        let mut state = self.state.lock();
        if state.link.is_none() {
            return Ok(None);
        }
        let now_boot_ns = now_boot_ns();
        let until_boot_ns = state.needed_boot_ns.saturating_add(LINGER.as_nanos() as u64);
        if now_boot_ns < until_boot_ns {
            return Ok(Some(until_boot_ns));
        }
        // The next look is as far off again, whatever comes of this one.
        state.needed_boot_ns = now_boot_ns;
        if !is_needed()? {
            self.attachment.unpin()?;
            state.link = None;
        }
        Ok(None)
    }

    /// Puts back what somebody has taken away, and returns what was missing. Nothing where the program is not to be attached.
    pub(crate) fn restore(&self) -> Result<Option<Missing>> {
        let mut state = self.state.lock();
        let Some(link) = &mut state.link else { return Ok(None) };
        self.attachment.restore(link)
    }

    /// Lets go of the link; the pin holds it.
    pub(crate) fn let_go(&self) {
        self.state.lock().link = None;
    }
}
