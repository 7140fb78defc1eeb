//! The origin of a request: who asks, and its process.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use tokio::net::UnixStream;

use crate::kernel::KernelError;
use crate::kernel::descriptor::{Peer, peer_groups};
use crate::model::requests::access::Caller;

/// The group whose members may do everything.
const GROUP: &str = "tcpops";

/// The process at the other end of the socket, as of its connect(2).
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Who asks.
    pub(crate) caller: Caller,
    /// A handle to its process; an error where the kernel gives none.
    pub(crate) peer: Arc<Result<Peer, KernelError>>,
}

impl Origin {
    /// The origin of requests on an accepted stream.
    ///
    /// # Errors
    /// Fails if the kernel does not tell the peer's credentials.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let uid = credentials.uid();
        let privileged = uid == 0 || is_member(stream, credentials.gid())?;
        Ok(Self { caller: Caller { uid, privileged }, peer: Arc::new(Peer::of(stream.as_fd())) })
    }
}

fn is_member(stream: &UnixStream, gid: u32) -> io::Result<bool> {
    match group_id() {
        Some(group) => Ok(gid == group || peer_groups(stream.as_fd())?.contains(&group)),
        None => Ok(false),
    }
}

/// The id of the group whose members may do everything, if there is one.
pub(crate) fn group_id() -> Option<u32> {
    nix::unistd::Group::from_name(GROUP).ok().flatten().map(|group| group.gid.as_raw())
}
