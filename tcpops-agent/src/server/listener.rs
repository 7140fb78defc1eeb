//! The socket: bound, and bound again where somebody removes its file.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::net::{UnixListener, UnixStream};

use super::group::{self, Group, GroupId};
use crate::config::DEFAULT_SOCKET;
use crate::daemon::Origin;
use crate::kernel::own_directory;

/// The socket; its file is removed with this value.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Others may be able to put something in its place.
    shared: bool,
    /// Which file it is: device and inode.
    place: (u64, u64),
    group: Option<Group>,
    members: GroupId,
}

impl Listener {
    /// Binds the socket: 0660, of the group `tcpops` where there is one. A socket that nobody serves is replaced.
    ///
    /// # Errors
    /// Fails where another agent serves it, or something else is at the path; and where others can put something in its place,
    /// unless `shared` allows that.
    pub(crate) async fn bind(path: &Path, shared: bool) -> anyhow::Result<Self> {
        let group = Group::find().await;
        let members = group.id();
        let (listener, place) = bind_at(path, shared, &members)?;
        Ok(Self { listener, path: path.to_path_buf(), shared, place, group: Some(group), members })
    }

    /// The group that it belongs to, to be followed, and its path.
    pub(super) fn take_group(&mut self) -> (Group, PathBuf) {
        (self.group.take().expect("it is taken once"), self.path.clone())
    }

    /// The next client.
    pub(super) async fn accept(&self, members: &GroupId) -> io::Result<(UnixStream, Origin)> {
        let (stream, _address) = self.listener.accept().await?;
        let origin = Origin::of(&stream, members.get())?;
        Ok((stream, origin))
    }

    /// Binds the socket anew, since its file is gone; true if that could be done. Clients of the one before are served on.
    pub(super) fn bind_again(&mut self) -> bool {
        let socket = self.path.display().to_string();
        match bind_at(&self.path, self.shared, &self.members) {
            Ok((listener, place)) => {
                (self.listener, self.place) = (listener, place);
                tracing::warn!(socket, "somebody has removed the socket; bound again");
                true
            }
            Err(error) => {
                tracing::error!(socket, %error, "somebody has removed the socket, and it cannot be bound again");
                false
            }
        }
    }
}

fn bind_at(path: &Path, shared: bool, members: &GroupId) -> anyhow::Result<(UnixListener, (u64, u64))> {
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
    let ready = || -> anyhow::Result<(u64, u64)> {
        let place = place(path).map_err(|error| anyhow::anyhow!("cannot look at {shown}: {error}"))?;
        if let Some(gid) = members.get() {
            group::give(path, Some(gid))
                .map_err(|error| anyhow::anyhow!("cannot give {shown} to the group tcpops: {error}"))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))
            .map_err(|error| anyhow::anyhow!("cannot set the mode of {shown}: {error}"))?;
        Ok(place)
    };
    match ready() {
        Ok(place) => Ok((listener, place)),
        Err(error) => {
            // Nobody is to find a socket that is not as it should be.
            let _gone = fs::remove_file(path);
            Err(error)
        }
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
