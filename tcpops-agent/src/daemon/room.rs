//! Descriptors: a part of them is kept from clients, for what closes connections on time.

use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Enough for all clients that there can be, the two descriptors that each holds, and what their requests open.
const WANTED: u64 = 4096;
/// The fewest that are kept from clients: for sock_diag and a namespace in each job, walks, processes that hold sockets, and
/// requests under way.
const RESERVE: u64 = 20;
/// More that are kept from all clients but root's.
const OF_ROOT: u64 = 2;
/// As many of those that are kept may be taken, for a moment, by clients that are told that there is no place.
const OF_REFUSED: u64 = 4;

/// Asks for as many descriptors as are wanted, as far as the hard limit goes.
pub(crate) fn ask_for_enough() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::warn!(%error, wanted, "cannot raise the limit on open files");
    }
}

/// True if a client of `uid` may keep this descriptor. The kernel gives out the lowest number that is free, so there are as
/// many open as the number says, whatever they are for.
pub(crate) fn is_for(uid: u32, descriptor: &impl AsRawFd) -> bool {
    is_below(descriptor, |limit| bound(uid, limit))
}

/// True if a client may keep this descriptor until it has its refusal.
pub(crate) fn is_for_refusal(descriptor: &impl AsRawFd) -> bool {
    is_below(descriptor, |limit| bound(0, limit) + OF_REFUSED)
}

fn is_below(descriptor: &impl AsRawFd, bound: impl FnOnce(u64) -> u64) -> bool {
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(u64::MAX);
    getrlimit(Resource::Nofile).current.is_none_or(|limit| number < bound(limit))
}

/// The numbers below this are for clients of `uid`.
fn bound(uid: u32, limit: u64) -> u64 {
    let kept = RESERVE.max(limit / 4) + if uid == 0 { 0 } else { OF_ROOT };
    limit.saturating_sub(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_from_clients_and_another_from_all_but_root() {
        assert_eq!((bound(0, 64), bound(1000, 64)), (44, 42));
        assert_eq!((bound(0, 4096), bound(1000, 4096)), (3072, 3070));
        assert_eq!((bound(0, 20), bound(1000, 20)), (0, 0));
    }
}
