//! Has tokio wait for a descriptor.

#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use std::os::fd::{AsRawFd, OwnedFd};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use crate::kernel::error::{KernelError, Result};

/// A type that owns its descriptor and always returns the same one.
pub(crate) trait Owner: AsRawFd {}

impl Owner for OwnedFd {}
impl Owner for RingBuf<MapData> {}
impl Owner for EbpfLogger<&'static dyn log::Log> {}

/// Registers the descriptor of `what` with tokio; must be called within its runtime.
pub(crate) fn register<T: Owner>(what: &'static str, owner: T) -> Result<AsyncFd<T>> {
    // SAFETY: the registration takes the owner, so the descriptor stays open and the same for as long as it lives.
    unsafe { AsyncFd::register(owner) }.map_err(KernelError::syscall("epoll_ctl", what))
}
