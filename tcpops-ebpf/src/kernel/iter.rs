//! The context of an `iter/tcp` program.

use core::ffi::c_void;

use crate::kernel::socket::Socket;

/// `struct bpf_iter__tcp` (kernel net/ipv4/tcp_ipv4.c).
#[repr(C)]
pub(crate) struct IterTcp {
    meta: *mut c_void,
    sk_common: *mut c_void,
    uid: u32,
}

/// The full TCP socket of this step of the walk; `None` for request and TIME_WAIT sockets, and at the end.
pub(crate) fn socket(ctx: *mut IterTcp) -> Option<Socket> {
    // SAFETY: the kernel calls the program with a valid context.
    let common = unsafe { &raw const (*ctx).sk_common };
    // SAFETY: as above; a whole field, which the verifier lets iterators read.
    Socket::from_common(unsafe { common.read_volatile() })
}
