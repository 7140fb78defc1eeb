//! What the agent has put into the kernel, held so that it can be put there again: the links of its programs, its maps, and
//! the pins of both.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapInfo};
use parking_lot::Mutex;
use tcpops_common::maps::PINNED;

use crate::kernel::bpf::object_get;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::follow;
use crate::kernel::link::{Attachment, Link, Missing, pin};
use crate::kernel::object::{SETSOCKOPT, SOCKOPS};
use crate::kernel::pins::{SETSOCKOPT_LINK, SOCKOPS_LINK};
use crate::kernel::setsockopt::SetsockoptLink;
use crate::kernel::walk::Walker;

/// The links, maps and pins of an agent.
#[derive(Debug)]
pub(crate) struct Attached {
    directory: PathBuf,
    sockops: Attachment,
    /// The link of the sockops program; `None` once everything was let go.
    sockops_link: Mutex<Option<Link>>,
    /// The setsockopt program.
    pub(crate) setsockopt: SetsockoptLink,
    /// The pinned objects that are no links to the cgroup, by the names of their pins.
    others: Mutex<Vec<(&'static str, Other)>>,
}

/// A pinned object.
#[derive(Debug)]
enum Other {
    /// A map, by its number: the programs hold it, and the agent has few descriptors to spare.
    Map(u32),
    /// The link of a program at the tracepoint.
    Link(OwnedFd),
}

/// What was found missing, and is there again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Programs that were not attached: what happened meanwhile went unseen.
    pub(crate) programs: Vec<&'static str>,
    /// Pins that were not there.
    pub(crate) pins: Vec<&'static str>,
}

impl Restored {
    fn note(&mut self, program: &'static str, pin: &'static str, missing: Option<Missing>) {
        match missing {
            None => {}
            Some(Missing::Program) => self.programs.push(program),
            Some(Missing::Pin) => self.pins.push(pin),
        }
    }
}

impl Attached {
    /// Holds what is pinned in `directory`.
    pub(crate) fn hold(
        directory: &Path,
        (sockops, link): (Attachment, Link),
        setsockopt: SetsockoptLink,
    ) -> Result<Self> {
        let attached = Self {
            directory: directory.to_path_buf(),
            sockops,
            sockops_link: Mutex::new(Some(link)),
            setsockopt,
            others: Mutex::default(),
        };
        for name in PINNED {
            let info = MapInfo::from_pin(attached.directory.join(name)).map_err(KernelError::map(name))?;
            attached.others.lock().push((name, Other::Map(info.id())));
        }
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
        for name in follow::PINS {
            let pin = self.directory.join(name);
            let link = object_get(&pin).map_err(KernelError::syscall("BPF_OBJ_GET", pin.display()))?;
            self.others.lock().push((name, Other::Link(link)));
        }
        Ok(())
    }

    /// Lets go of everything, since it is about to be taken back: what is held stays in the kernel.
    pub(crate) fn let_go(&self) {
        *self.sockops_link.lock() = None;
        self.setsockopt.let_go();
        self.others.lock().clear();
    }

    /// True if everything was let go.
    pub(crate) fn is_let_go(&self) -> bool {
        self.sockops_link.lock().is_none()
    }

    /// True if the directory that the programs are attached to is there.
    pub(crate) fn has_cgroup(&self) -> bool {
        self.sockops.cgroup.is_dir()
    }

    /// Attaches what was detached, and pins what is not pinned any more. Where the cgroup itself is gone, nothing is
    /// attached until it is there again.
    pub(crate) fn restore(&self) -> Result<Restored> {
        let mut restored = Restored::default();
        if let Some(link) = &mut *self.sockops_link.lock() {
            restored.note(SOCKOPS, SOCKOPS_LINK, self.sockops.restore(link)?);
        }
        restored.note(SETSOCKOPT, SETSOCKOPT_LINK, self.setsockopt.restore()?);
        for (name, object) in self.others.lock().iter() {
            let path = self.directory.join(name);
            if path.exists() {
                continue;
            }
            match object {
                Other::Map(id) => {
                    let map = MapData::from_id(*id).map_err(KernelError::map(name))?;
                    pin(map.fd().as_fd(), &path)?;
                }
                Other::Link(link) => pin(link.as_fd(), &path)?,
            }
            restored.pins.push(name);
        }
        Ok(restored)
    }
}
