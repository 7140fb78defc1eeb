//! What the agent has put into the kernel, held so that it can be put there again: the links of its programs, its maps, and
//! the pins of both.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tcpops_common::maps::PINNED;

use crate::kernel::bpf::{link_cgroup_id, object_get, object_pin};
use crate::kernel::error::{KernelError, Result};
use crate::kernel::follow;
use crate::kernel::load::{ATTACHMENTS, Attachment, link};
use crate::kernel::pins::Pins;
use crate::kernel::walk::Walker;

/// The links, maps and pins of an agent.
#[derive(Debug)]
pub(crate) struct Attached {
    cgroup: PathBuf,
    directory: PathBuf,
    /// Empty once they have been let go.
    links: Mutex<Vec<Link>>,
    /// The pinned objects that are no links to the cgroup, by the names of their pins.
    others: Mutex<Vec<(&'static str, OwnedFd)>>,
}

/// A program's link to the cgroup.
#[derive(Debug)]
struct Link {
    attachment: Attachment,
    link: OwnedFd,
    /// The links before, to a directory of this name that was removed: its programs still run for sockets that were made
    /// in it.
    before: Vec<OwnedFd>,
}

/// What was found missing, and is there again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Programs that were not attached: what happened meanwhile went unseen.
    pub(crate) programs: Vec<&'static str>,
    /// Pins that were not there.
    pub(crate) pins: Vec<&'static str>,
}

impl Attached {
    /// Holds what is pinned.
    pub(crate) fn open(pins: &Pins, cgroup: &Path) -> Result<Self> {
        let directory = pins.directory().to_path_buf();
        let mut links = Vec::new();
        for attachment in ATTACHMENTS {
            if directory.join(attachment.pin).exists() {
                links.push(Link { attachment, link: held(&directory, attachment.pin)?, before: Vec::new() });
            }
        }
        let attached =
            Self { cgroup: cgroup.to_path_buf(), directory, links: Mutex::new(links), others: Mutex::default() };
        PINNED.iter().try_for_each(|name| attached.hold(name))?;
        if follow::pinned(&attached.directory) {
            attached.hold_follow()?;
        }
        Ok(attached)
    }

    /// True if the programs at the tracepoint are there.
    pub(crate) fn is_followed(&self) -> bool {
        self.others.lock().iter().any(|(name, _)| follow::PINS.contains(name))
    }

    /// Has the programs at the tracepoint follow the sockets whose callbacks are off.
    pub(crate) fn follow(&self, walker: &Walker) -> Result<()> {
        walker.follow(&self.directory)?;
        self.hold_follow()
    }

    fn hold_follow(&self) -> Result<()> {
        follow::PINS.iter().try_for_each(|name| self.hold(name))
    }

    fn hold(&self, name: &'static str) -> Result<()> {
        let object = held(&self.directory, name)?;
        self.others.lock().push((name, object));
        Ok(())
    }

    /// Lets go of everything, since it is about to be taken back: what is held stays in the kernel.
    pub(crate) fn let_go(&self) {
        self.links.lock().clear();
        self.others.lock().clear();
    }

    /// True if everything was let go.
    pub(crate) fn is_let_go(&self) -> bool {
        self.links.lock().is_empty()
    }

    /// True if the directory that the programs are attached to is there.
    pub(crate) fn has_cgroup(&self) -> bool {
        self.cgroup.is_dir()
    }

    /// Attaches what was detached, and pins what is not pinned any more. Where the cgroup itself is gone, nothing is
    /// attached until it is there again.
    pub(crate) fn restore(&self, walker: &Walker) -> Result<Restored> {
        let mut restored = Restored::default();
        // It is gone.
        let cgroup = fs::metadata(&self.cgroup).ok().map(|metadata| metadata.ino());
        for held in self.links.lock().iter_mut() {
            let pin = self.directory.join(held.attachment.pin);
            let attached_to = link_cgroup_id(held.link.as_fd())
                .map_err(KernelError::syscall("BPF_OBJ_GET_INFO_BY_FD", pin.display()))?;
            if let Some(cgroup) = cgroup
                && attached_to != Some(cgroup)
            {
                let link = walker
                    .with_programs(|ebpf| link(held.attachment.program(ebpf)?, held.attachment.hook, &self.cgroup))?;
                let before = std::mem::replace(&mut held.link, link);
                if attached_to.is_some() {
                    held.before.push(before);
                }
                remove(&pin)?;
                restored.programs.push(held.attachment.name);
            }
            restored.pins.extend(self.pin(held.attachment.pin, &held.link)?);
        }
        for (name, object) in self.others.lock().iter() {
            restored.pins.extend(self.pin(name, object)?);
        }
        // The pin of a link that was made anew was taken away by this agent.
        let anew =
            |pin: &&str| ATTACHMENTS.iter().any(|made| made.pin == *pin && restored.programs.contains(&made.name));
        restored.pins.retain(|pin| !anew(pin));
        Ok(restored)
    }

    /// Pins an object that is not pinned; its name if so.
    fn pin(&self, name: &'static str, object: &OwnedFd) -> Result<Option<&'static str>> {
        let pin = self.directory.join(name);
        if pin.exists() {
            return Ok(None);
        }
        fs::create_dir_all(&self.directory).map_err(KernelError::syscall("mkdir", self.directory.display()))?;
        object_pin(object.as_fd(), &pin).map_err(KernelError::syscall("BPF_OBJ_PIN", pin.display()))?;
        Ok(Some(name))
    }
}

fn held(directory: &Path, name: &str) -> Result<OwnedFd> {
    let pin = directory.join(name);
    object_get(&pin).map_err(KernelError::syscall("BPF_OBJ_GET", pin.display()))
}

fn remove(pin: &Path) -> Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(KernelError::syscall("unlink", pin.display())(error))
        }
        _ => Ok(()),
    }
}
