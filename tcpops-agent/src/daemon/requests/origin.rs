//! The origin of a request: who asks, and its process.

use std::io;
use std::os::fd::{AsFd as _, RawFd};
use std::sync::Arc;

use tokio::net::UnixStream;

use crate::api::problem::{Code, Problem};
use crate::daemon::refusal;
use crate::kernel::KernelError;
use crate::kernel::descriptor::Descriptor;
use crate::kernel::peer::{Credentials, Peer, peer_groups};
use crate::model::requests::access::Caller;

/// The process at the other end of the socket.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Who asks.
    pub(crate) caller: Caller,
    /// A handle to its process; an error where the kernel gives none.
    peer: Arc<Result<Peer, KernelError>>,
    /// The group whose members may do everything.
    group: Option<u32>,
}

impl Origin {
    /// The origin of requests on an accepted stream, with the rights that its process had at its connect(2); members of
    /// `group` may do everything. It asks nobody but the kernel.
    ///
    /// # Errors
    /// Fails if the kernel does not tell the peer's credentials.
    pub(crate) fn of(stream: &UnixStream, group: Option<u32>) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let uid = credentials.uid();
        let privileged = uid == 0 || is_member(stream, credentials.gid(), group)?;
        let peer = Peer::of(stream.as_fd(), credentials.pid().unwrap_or(0));
        Ok(Self { caller: Caller { uid, privileged }, peer: Arc::new(peer), group })
    }

    /// The same with the rights that the process has now, if these are fewer: whoever else holds the stream has no more of
    /// them. Those of a process that has ended, or cannot be seen, stay as they were.
    ///
    /// # Errors
    /// Forbidden where it acts for another uid now.
    pub(crate) fn now(&self) -> Result<Self, Problem> {
        let Some(Credentials { uids, gids, groups, .. }) = self.credentials() else { return Ok(self.clone()) };
        let Caller { uid, privileged } = self.caller;
        if uids[1] != uid {
            let detail =
                format!("the caller connected as uid {uid} and is uid {} now: expected a new connection", uids[1]);
            return Err(Problem::new(Code::Forbidden, detail));
        }
        let is_member = || self.group.is_some_and(|group| gids[1] == group || groups.contains(&group));
        let caller = Caller { uid, privileged: privileged && (uid == 0 || is_member()) };
        Ok(Self { caller, peer: Arc::clone(&self.peer), group: self.group })
    }

    /// A duplicate of the descriptor `number` of the process; `None` if it has no such descriptor. The agent may fetch any, so
    /// the right to it is decided here: a process that came by the rights of another uid with execve(2) holds what is not the
    /// caller's.
    ///
    /// # Errors
    /// Forbidden where the process is not wholly the caller's; invalid where the kernel gives none.
    pub(crate) fn descriptor(&self, number: RawFd) -> Result<Option<Descriptor>, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
        let peer = self.peer.as_ref().as_ref().map_err(|error| invalid(refusal::chain(error)))?;
        let fetch = || {
            let failed = |error| invalid(format!("fd:{number} of the calling process cannot be fetched: {error}"));
            peer.descriptor(number).map_err(failed)
        };
        if self.caller.privileged {
            return fetch();
        }
        let before = fetch();
        let uid = self.caller.uid;
        let is_own = |now: &Credentials| now.dumpable && now.uids == [uid; 4];
        if !self.credentials().as_ref().is_some_and(is_own) {
            let detail = format!(
                "fd:{number} is for a process that is wholly uid {uid}'s, and the calling one has other rights, is not \
                 dumpable, or cannot be seen: expected a cookie or conid"
            );
            return Err(Problem::new(Code::Forbidden, detail));
        }
        // What it held both before and after it was seen to be the caller's, it held as such.
        let (before, after) = (before?, fetch()?);
        let cookie = |descriptor: &Option<Descriptor>| descriptor.as_ref().and_then(Descriptor::cookie);
        Ok(if cookie(&before) == cookie(&after) { after } else { None })
    }

    fn credentials(&self) -> Option<Credentials> {
        self.peer.as_ref().as_ref().ok().and_then(Peer::credentials)
    }
}

fn is_member(stream: &UnixStream, gid: u32, group: Option<u32>) -> io::Result<bool> {
    match group {
        Some(group) => Ok(gid == group || peer_groups(stream.as_fd())?.contains(&group)),
        None => Ok(false),
    }
}
