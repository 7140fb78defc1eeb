//! The group whose members may do everything: it is looked up at the start and on SIGHUP, never for a client.
//!
//! The system's databases (nsswitch.conf) may ask the network, and may hang. So a thread of its own looks it up, and nobody
//! waits for that longer than [`PATIENCE`]; what it finds later is taken then. Which groups a client is in, its own
//! credentials say.

use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Its name.
const NAME: &str = "tcpops";
/// The time that a start waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a look-up found: the group's number, if there is such a group.
type Found = Result<Option<u32>, Errno>;

/// The group, as it was found last.
#[derive(Debug)]
pub(super) struct Group {
    gid: Arc<Mutex<Option<u32>>>,
    /// The answer of a look-up that is under way.
    awaited: Option<oneshot::Receiver<Found>>,
}

/// Reads the number of the group.
#[derive(Clone, Debug)]
pub(super) struct GroupId(Arc<Mutex<Option<u32>>>);

impl GroupId {
    pub(super) fn get(&self) -> Option<u32> {
        *self.0.lock()
    }
}

impl Group {
    /// Looks it up. Where that takes too long, there is none until it is found.
    pub(super) async fn find() -> Self {
        let mut group = Self { gid: Arc::default(), awaited: look_up() };
        if let Ok(found) = tokio::time::timeout(PATIENCE, answer(&mut group.awaited)).await {
            group.take(found);
        } else {
            let seconds = PATIENCE.as_secs();
            tracing::warn!(
                seconds,
                "the group {NAME} is still being looked up: until then, only root may do everything"
            );
        }
        group
    }

    pub(super) fn id(&self) -> GroupId {
        GroupId(Arc::clone(&self.gid))
    }

    /// Looks it up again with each SIGHUP, and gives the socket at `path` to it.
    pub(super) async fn follow(mut self, path: &Path, stop: CancellationToken) {
        let mut hang_up = match signal(SignalKind::hangup()) {
            Ok(hang_up) => hang_up,
            Err(error) => return tracing::warn!(%error, "the group {NAME} is not looked up again"),
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                found = answer(&mut self.awaited), if self.awaited.is_some() => {
                    if self.take(found) && let Err(error) = give(path, self.id().get()) {
                        tracing::warn!(%error, socket = %path.display(), "cannot give the socket to the group {NAME}");
                    }
                }
                // While one hangs, no other is begun.
                _ = hang_up.recv(), if self.awaited.is_none() => self.awaited = look_up(),
            }
        }
    }

    /// Takes what was found; true if that is another group than before.
    fn take(&self, found: Found) -> bool {
        match found {
            Ok(gid) => std::mem::replace(&mut *self.gid.lock(), gid) != gid,
            Err(error) => {
                tracing::warn!(%error, "cannot look up the group {NAME}: it stays as it was");
                false
            }
        }
    }
}

/// Gives the socket to the group, or to root's where there is no such group.
pub(super) fn give(path: &Path, gid: Option<u32>) -> std::io::Result<()> {
    chown(path, None, Some(gid.unwrap_or(0)))
}

/// Begins a look-up, on a thread that nobody waits for at the end either.
fn look_up() -> Option<oneshot::Receiver<Found>> {
    let (sender, receiver) = oneshot::channel();
    let find = move || {
        let found = nix::unistd::Group::from_name(NAME).map(|group| group.map(|group| group.gid.as_raw()));
        let _stopping = sender.send(found);
    };
    match thread::Builder::new().name("group".to_owned()).spawn(find) {
        Ok(_) => Some(receiver),
        Err(error) => {
            tracing::warn!(%error, "cannot look up the group {NAME}");
            None
        }
    }
}

/// The answer of the look-up that is under way. Cancel safe.
async fn answer(awaited: &mut Option<oneshot::Receiver<Found>>) -> Found {
    let Some(receiver) = awaited else { return Ok(None) };
    let found = receiver.await;
    *awaited = None;
    found.unwrap_or(Err(Errno::ECANCELED))
}
