//! The unix socket: HTTP/1.1 with JSON, every error a problem, and no client able to hold up another.

mod router;
mod routes;

mod admission;
mod extract;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DEFAULT_SOCKET;
use crate::daemon::{Handle, Origin, group_id};
use crate::kernel::own_directory;

use self::admission::{Admission, ClientLimits};

/// The time that a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of a request, bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The time that requests under way have to end when the agent stops.
const GRACE: Duration = Duration::from_secs(2);

/// The most clients at a time.
const CLIENTS: ClientLimits = ClientLimits { per_uid: 32, of_users: 192, of_root: 256 };

/// The socket, bound and not yet served.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Which socket it is: device and inode.
    place: (u64, u64),
}

impl Listener {
    /// Binds the socket: 0660, of the group `tcpops` where there is one. A socket that nobody serves is replaced.
    ///
    /// # Errors
    /// Fails where another agent serves it, or something else is at the path; and where others can put something in its place,
    /// unless `shared` allows that.
    pub(crate) fn bind(path: &Path, shared: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| anyhow::anyhow!("cannot make the directory of the socket {shown}: {error}"))?;
            if !shared {
                own_directory::check(parent).with_context(|| {
                    format!(
                        "cannot put the socket at {shown}; expected a directory of root's in which nobody else can make \
                         anything, such as that of {DEFAULT_SOCKET}, or --socket-directory shared"
                    )
                })?;
            }
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                anyhow::bail!("{shown} is there and not a socket; expected a free path for the agent's socket")
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                anyhow::bail!(
                    "the socket {shown} is in use by another agent; stop it, or give this one other --socket and --pins"
                )
            }
            Ok(_) => fs::remove_file(path).map_err(|error| anyhow::anyhow!("cannot replace {shown}: {error}"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => anyhow::bail!("cannot look at {shown}: {error}"),
        }
        let listener = UnixListener::bind(path).map_err(|error| anyhow::anyhow!("cannot bind {shown}: {error}"))?;
        let place = place(path).map_err(|error| anyhow::anyhow!("cannot look at {shown}: {error}"))?;
        let listener = Self { listener, path: path.to_path_buf(), place };
        if let Some(gid) = group_id() {
            chown(path, None, Some(gid))
                .map_err(|error| anyhow::anyhow!("cannot give {shown} to the group tcpops: {error}"))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))
            .map_err(|error| anyhow::anyhow!("cannot set the mode of {shown}: {error}"))?;
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let removed = match place(&self.path) {
            Ok(place) if place == self.place => fs::remove_file(&self.path),
            Ok(_) => Err(io::Error::other("another is in its place")),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(socket = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// What is at a path: device and inode.
fn place(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Serves the socket until it is told to stop.
pub(crate) struct Server {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts to serve. Must be called within a tokio runtime.
    pub(crate) fn start(listener: Listener, handle: Handle) -> Self {
        let server = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let tasks = server.tasks.clone();
        let stop = server.stop.clone();
        let router = router::router(handle);
        server.tasks.spawn(async move {
            let admission = Admission::new(CLIENTS);
            loop {
                let stream = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = accept(&listener) => accepted,
                };
                if let Some((stream, origin)) = stream {
                    // A client without a place finds its connection closed.
                    let Some(place) = admission.admit(origin.caller.uid) else {
                        tracing::warn!(uid = origin.caller.uid, "too many clients of this user");
                        continue;
                    };
                    let serving = serve(stream, origin, router.clone(), stop.clone());
                    tasks.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
            }
        });
        server
    }

    /// Takes no more requests, and gives those under way a little time to end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests that did not end in time are cut off");
        }
    }
}

async fn accept(listener: &Listener) -> Option<(UnixStream, Origin)> {
    let accepted = listener.listener.accept().await.and_then(|(stream, _address)| {
        let origin = Origin::of(&stream)?;
        Ok((stream, origin))
    });
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a client");
            // Out of descriptors, say; others may end meanwhile.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn serve(stream: UnixStream, origin: Origin, router: Router, stop: CancellationToken) {
    let service = service_fn(move |request| router::answer(router.clone(), origin.clone(), request));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client went away, or sent what is not HTTP");
    }
}
