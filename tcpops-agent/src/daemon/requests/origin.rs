//! The origin of a request: who asks, and its process.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use tokio::net::UnixStream;

use crate::kernel::KernelError;
use crate::kernel::descriptor::{Peer, peer_groups};
use crate::model::requests::access::Caller;

/// The process at the other end of the socket, as of its connect(2).
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Who asks.
    pub(crate) caller: Caller,
    /// A handle to its process; an error where the kernel gives none.
    pub(crate) peer: Arc<Result<Peer, KernelError>>,
}

impl Origin {
    /// The origin of requests on an accepted stream; members of `group` may do everything. It asks nobody but the kernel.
    ///
    /// # Errors
    /// Fails if the kernel does not tell the peer's credentials.
    pub(crate) fn of(stream: &UnixStream, group: Option<u32>) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let uid = credentials.uid();
        let privileged = uid == 0 || is_member(stream, credentials.gid(), group)?;
        Ok(Self { caller: Caller { uid, privileged }, peer: Arc::new(Peer::of(stream.as_fd())) })
    }
}

fn is_member(stream: &UnixStream, gid: u32, group: Option<u32>) -> io::Result<bool> {
    match group {
        Some(group) => Ok(gid == group || peer_groups(stream.as_fd())?.contains(&group)),
        None => Ok(false),
    }
}
