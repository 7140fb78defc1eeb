//! The link of the setsockopt program, which is there only while something needs it: the kernel copies the arguments of every
//! setsockopt(2) of a cgroup that has such a program (`__cgroup_bpf_run_filter_setsockopt` of its kernel/bpf/cgroup.c).

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::ProgramFd;
use aya_obj::generated::bpf_attach_type;
use parking_lot::Mutex;

use crate::kernel::clock::now_boot_ns;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::link::{attach, take_over};

const HOOK: bpf_attach_type = bpf_attach_type::BPF_CGROUP_SETSOCKOPT;

/// The program stays attached this much longer than something needs it, so that one change after another does not attach it
/// anew.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// Attaches the setsockopt program when something needs it, and detaches it when nothing does.
#[derive(Debug)]
pub(crate) struct SetsockoptLink {
    program: ProgramFd,
    cgroup: PathBuf,
    pin: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    is_attached: bool,
    /// When something needed it last, or was found to need it.
    needed_boot_ns: u64,
}

impl SetsockoptLink {
    /// Takes the link over that an earlier agent left at `pin`, if there is one: what needed it may still be there.
    pub(crate) fn open(program: ProgramFd, cgroup: &Path, pin: PathBuf) -> Result<Self> {
        let is_attached = pin.exists();
        if is_attached {
            take_over(program.as_fd(), HOOK, cgroup, &pin)?;
        }
        let state = Mutex::new(State { is_attached, needed_boot_ns: now_boot_ns() });
        Ok(Self { program, cgroup: cgroup.to_path_buf(), pin, state })
    }

    /// Attaches the program, if it is not: from now on it upholds what is set, and answers the agent's own calls.
    ///
    /// # Errors
    /// Fails where the cgroup takes no more programs, or is gone.
    pub(crate) fn need(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.needed_boot_ns = now_boot_ns();
        if !state.is_attached {
            attach(self.program.as_fd(), HOOK, &self.cgroup, &self.pin)?;
            state.is_attached = true;
        }
        Ok(())
    }

    /// Detaches the program, if nothing has needed it for [`LINGER`] and `is_needed` denies that something does. Returns when
    /// to ask again.
    pub(crate) fn release(&self, is_needed: impl FnOnce() -> Result<bool>) -> Result<Option<u64>> {
        let mut state = self.state.lock();
        if !state.is_attached {
            return Ok(None);
        }
        let now_boot_ns = now_boot_ns();
        let until_boot_ns = state.needed_boot_ns.saturating_add(LINGER.as_nanos() as u64);
        if now_boot_ns < until_boot_ns {
            return Ok(Some(until_boot_ns));
        }
        if is_needed()? {
            state.needed_boot_ns = now_boot_ns;
            return Ok(None);
        }
        match fs::remove_file(&self.pin) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(KernelError::syscall("unlink", self.pin.display())(error));
            }
            _ => state.is_attached = false,
        }
        Ok(None)
    }
}
