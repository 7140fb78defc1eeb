//! Notices when the pins or the agent's socket are taken away.

use std::path::{Path, PathBuf};

use rustix::fs::inotify::WatchFlags;

use crate::kernel::error::Result;
use crate::kernel::inotify::Inotify;

/// Watches the directory of the pins, and the file of the socket: not its directory, in which others may do much.
pub(crate) struct FileWatch {
    pins: PathBuf,
    socket: PathBuf,
    inotify: Inotify,
}

impl FileWatch {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(pins: &Path, socket: &Path) -> Result<Self> {
        let mut watch = Self { pins: pins.to_path_buf(), socket: socket.to_path_buf(), inotify: Inotify::new()? };
        watch.set()?;
        Ok(watch)
    }

    /// Watches what is at these paths now. What happened before is not reported: look for it afterwards.
    pub(crate) fn set(&mut self) -> Result<()> {
        self.inotify = Inotify::new()?;
        let gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        self.inotify.watch(&self.pins, WatchFlags::DELETE | WatchFlags::MOVED_FROM | gone)?;
        if let Some(base) = self.pins.parent() {
            self.inotify.watch(base, gone)?;
        }
        // The agent itself holds the socket, so that its deletion is a change of its attributes.
        self.inotify.watch(&self.socket, WatchFlags::ATTRIB | gone)
    }

    /// Returns when something was taken away, or may have been. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        self.inotify.changed().await
    }
}
