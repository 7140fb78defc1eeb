//! The file of the agent's socket, which somebody may delete.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The file that was bound; the server binds another where it is gone.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Its inode, zero where it was gone already.
    inode: AtomicU64,
    gone: Notify,
}

impl SocketFile {
    /// The file that is at this path now.
    pub(crate) fn new(path: PathBuf) -> Self {
        let file = Self { path, inode: AtomicU64::default(), gone: Notify::new() };
        file.note();
        file
    }

    /// Notes that the file at the path is the one.
    pub(crate) fn note(&self) {
        self.inode.store(self.inode_there().unwrap_or(0), Ordering::Relaxed);
    }

    /// True if clients find it.
    pub(crate) fn is_there(&self) -> bool {
        self.inode_there() == Some(self.inode.load(Ordering::Relaxed))
    }

    fn inode_there(&self) -> Option<u64> {
        fs::symlink_metadata(&self.path).ok().map(|metadata| metadata.ino())
    }

    /// Has the server bind another.
    pub(crate) fn renew(&self) {
        self.gone.notify_one();
    }

    /// Returns when another is to be bound. Cancel-safe.
    pub(crate) async fn gone(&self) {
        self.gone.notified().await;
    }
}
