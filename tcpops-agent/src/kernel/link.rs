//! Links of programs to a cgroup. The pin of each outlives the agent; the agent holds it too, so that it notices, and can put
//! back, what somebody takes away.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::programs::ProgramFd;
use aya_obj::generated::bpf_attach_type;

use crate::kernel::bpf::{link_cgroup_id, link_create, link_update, object_get, object_pin};
use crate::kernel::cgroup;
use crate::kernel::error::{KernelError, Result};

/// A program that can be attached to the cgroup, and the place of its pin.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) program: ProgramFd,
    pub(crate) hook: bpf_attach_type,
    pub(crate) cgroup: PathBuf,
    pub(crate) pin: PathBuf,
}

/// The link of an attached program.
#[derive(Debug)]
pub(crate) struct Link {
    link: OwnedFd,
    /// The links before, to a directory of this name that was removed: its programs still run for sockets that were made
    /// in it.
    before: Vec<OwnedFd>,
}

/// What had to be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The program was not attached: what happened meanwhile went unseen.
    Program,
    /// The pin was not there.
    Pin,
}

impl Attachment {
    /// Attaches the program, next to those of others, and pins the link.
    pub(crate) fn attach(&self) -> Result<Link> {
        let link = Link { link: self.link()?, before: Vec::new() };
        self.pin(&link)?;
        Ok(link)
    }

    /// Puts the program behind the link that is pinned, so that no handshake goes without one. Where the cgroup of that link
    /// was removed, the program is attached again: the link goes with the last socket that was made there.
    pub(crate) fn take_over(&self, cgroup_mount: &Path) -> Result<Link> {
        let failed_on = |call| KernelError::syscall(call, self.pin.display());
        let link = object_get(&self.pin).map_err(failed_on("BPF_OBJ_GET"))?;
        let attached_to = link_cgroup_id(link.as_fd()).map_err(failed_on("BPF_OBJ_GET_INFO_BY_FD"))?;
        let is_there = |id: &u64| cgroup::path(cgroup_mount, *id).is_some();
        let Some(attached_to) = attached_to.filter(is_there) else {
            fs::remove_file(&self.pin).map_err(failed_on("unlink"))?;
            return self.attach();
        };
        let wanted = fs::metadata(&self.cgroup).map_err(failed_on("stat"))?.ino();
        if attached_to != wanted {
            let cgroup = self.cgroup.clone();
            return Err(KernelError::AttachedElsewhere { found: attached_to, cgroup, expected: wanted });
        }
        link_update(link.as_fd(), self.program.as_fd()).map_err(failed_on("BPF_LINK_UPDATE"))?;
        Ok(Link { link, before: Vec::new() })
    }

    /// Attaches the program again where somebody has detached it, and pins the link again where its pin is gone. Where the
    /// cgroup is gone, nothing is attached until it is there again. Returns what was missing.
    pub(crate) fn restore(&self, held: &mut Link) -> Result<Option<Missing>> {
        let attached_to = link_cgroup_id(held.link.as_fd())
            .map_err(KernelError::syscall("BPF_OBJ_GET_INFO_BY_FD", self.pin.display()))?;
        // It is gone where there is none.
        let cgroup = fs::metadata(&self.cgroup).ok().map(|metadata| metadata.ino());
        if cgroup.is_some() && attached_to != cgroup {
            let before = std::mem::replace(&mut held.link, self.link()?);
            if attached_to.is_some() {
                held.before.push(before);
            }
            remove(&self.pin)?;
            self.pin(held)?;
            return Ok(Some(Missing::Program));
        }
        if self.pin.exists() {
            return Ok(None);
        }
        self.pin(held)?;
        Ok(Some(Missing::Pin))
    }

    /// Removes the pin: once the link is not held any more either, the program is detached.
    pub(crate) fn unpin(&self) -> Result<()> {
        remove(&self.pin)
    }

    fn link(&self) -> Result<OwnedFd> {
        let cgroup = self.cgroup.display();
        let directory =
            File::open(&self.cgroup).map_err(KernelError::syscall("open", format!("the cgroup {cgroup}")))?;
        link_create(self.program.as_fd(), Some(directory.as_fd()), self.hook)
            .map_err(KernelError::syscall("BPF_LINK_CREATE", cgroup))
    }

    fn pin(&self, link: &Link) -> Result<()> {
        pin(link.link.as_fd(), &self.pin)
    }
}

/// Pins an object, in a directory that is made where it is gone.
pub(crate) fn pin(object: BorrowedFd<'_>, pin: &Path) -> Result<()> {
    if let Some(directory) = pin.parent() {
        fs::create_dir_all(directory).map_err(KernelError::syscall("mkdir", directory.display()))?;
    }
    object_pin(object, pin).map_err(KernelError::syscall("BPF_OBJ_PIN", pin.display()))
}

fn remove(pin: &Path) -> Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(KernelError::syscall("unlink", pin.display())(error))
        }
        _ => Ok(()),
    }
}
