//! Notices when a cgroup directory is removed, or created again, as systemd does when it restarts a service: its id then
//! differs.

use std::path::{Path, PathBuf};

use rustix::fs::inotify::WatchFlags;

use crate::kernel::error::Result;
use crate::kernel::inotify::Inotify;

/// Watches the directories above some cgroups.
pub(crate) struct CgroupWatch {
    mount: PathBuf,
    /// `None` where there is nothing to watch.
    inotify: Option<Inotify>,
}

impl CgroupWatch {
    /// Watches nothing until [`set`](Self::set) says what, below the cgroup2 `mount`.
    pub(crate) fn new(mount: &Path) -> Self {
        Self { mount: mount.to_path_buf(), inotify: None }
    }

    /// Watches for the creation and the removal of these directories, given from the root of the hierarchy, in place of
    /// those before. Must be called within a tokio runtime. What happened before this call is not reported: look for it
    /// afterwards.
    pub(crate) fn set<'a>(&mut self, paths: impl Iterator<Item = &'a str>) -> Result<()> {
        self.inotify = None;
        let mut paths = paths.peekable();
        if paths.peek().is_none() {
            return Ok(());
        }
        let inotify = Inotify::new()?;
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::ONLYDIR;
        // A directory that is gone would be created below another that is watched.
        for directory in paths.flat_map(|path| Path::new(path).ancestors().skip(1)) {
            inotify.watch(&self.mount.join(directory.strip_prefix("/").unwrap_or(directory)), events)?;
        }
        self.inotify = Some(inotify);
        Ok(())
    }

    /// Returns when a directory has been created or removed. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        match &mut self.inotify {
            Some(inotify) => inotify.changed().await,
            None => std::future::pending().await,
        }
    }
}
