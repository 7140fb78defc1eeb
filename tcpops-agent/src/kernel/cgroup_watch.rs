//! Notices when a cgroup directory is created again, as systemd does when it restarts a service: its id then differs.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tokio::io::unix::AsyncFd;

use crate::kernel::error::{KernelError, Result};
use crate::kernel::readiness::register;

/// Watches the directories above some cgroups.
pub(crate) struct CgroupWatch {
    mount: PathBuf,
    /// `None` where there is nothing to watch.
    inotify: Option<AsyncFd<OwnedFd>>,
}

impl CgroupWatch {
    /// Watches nothing until [`set`](Self::set) says what, below the cgroup2 `mount`.
    pub(crate) fn new(mount: &Path) -> Self {
        Self { mount: mount.to_path_buf(), inotify: None }
    }

    /// Watches for the creation of these directories, given from the root of the hierarchy, in place of those before. Must
    /// be called within a tokio runtime. A directory created before this call is not reported: look for it afterwards.
    pub(crate) fn set<'a>(&mut self, paths: impl Iterator<Item = &'a str>) -> Result<()> {
        self.inotify = None;
        let mut paths = paths.peekable();
        if paths.peek().is_none() {
            return Ok(());
        }
        let failed = |call| KernelError::syscall(call, self.mount.display());
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed("inotify_init1"))?;
        let events = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        for directory in paths.flat_map(|path| Path::new(path).ancestors().skip(1)) {
            let directory = self.mount.join(directory.strip_prefix("/").unwrap_or(directory));
            match add_watch(&inotify, &directory, events) {
                // A directory that is gone would be created below another that is watched.
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(failed("inotify_add_watch")(error)),
            }
        }
        self.inotify = Some(register("inotify", inotify)?);
        Ok(())
    }

    /// Returns when a directory has been created. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        let Some(inotify) = &mut self.inotify else { return std::future::pending().await };
        let mut guard = inotify.readable().await.map_err(KernelError::syscall("epoll_wait", "inotify"))?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(guard.get_inner(), &mut buffer);
        while events.next().is_ok() {}
        guard.clear_ready();
        Ok(())
    }
}
