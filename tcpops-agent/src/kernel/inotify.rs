//! Waiting for changes of files and directories.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tokio::io::unix::AsyncFd;

use crate::kernel::error::{KernelError, Result};
use crate::kernel::readiness::register;

/// Some watched paths.
#[derive(Debug)]
pub(crate) struct Inotify(AsyncFd<OwnedFd>);

impl Inotify {
    /// Watches nothing yet. Must be called within a tokio runtime.
    pub(crate) fn new() -> Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(KernelError::syscall("inotify_init1", "inotify"))?;
        Ok(Self(register("inotify", inotify)?))
    }

    /// Watches `path` for `events`; one that does not exist is passed over.
    pub(crate) fn watch(&self, path: &Path, events: WatchFlags) -> Result<()> {
        match add_watch(self.0.get_ref(), path, events) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(KernelError::syscall("inotify_add_watch", path.display())(error)),
        }
    }

    /// Returns when something has happened. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        let mut guard = self.0.readable().await.map_err(KernelError::syscall("epoll_wait", "inotify"))?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(guard.get_inner(), &mut buffer);
        while events.next().is_ok() {}
        guard.clear_ready();
        Ok(())
    }
}
