//! A full TCP socket of the kernel, and the fields of it that no helper gives.
//!
//! The offsets of those fields are constants that the agent reads from the running kernel's BTF and sets when it loads
//! the program (rustc emits no CO-RE relocations). The verifier checks each access against the same BTF.

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use tcpops_common::counters::Counter;

use crate::counters::bump;

macro_rules! offsets {
    ($($name:ident: $field:literal,)+) => {
        $(#[doc = concat!("Offset of `", $field, "`, bytes; zero where the kernel has no such field.")]
        #[unsafe(no_mangle)]
        static $name: Global<u32> = Global::new(0);)+
    };
}

offsets! {
    SK_UID: "sock.sk_uid",
    SK_ERR: "sock.sk_err",
    SK_BOUND_DEV_IF: "sock.__sk_common.skc_bound_dev_if",
    SK_CGROUP: "sock.sk_cgrp_data.cgroup",
    CGROUP_PARENT: "cgroup.self.parent",
    CGROUP_KN: "cgroup.kn",
    KN_ID: "kernfs_node.id",
}

/// A `struct tcp_sock`, checked by the kernel to be one.
pub(crate) struct Socket(NonNull<c_void>);

/// A `struct cgroup`.
#[derive(Clone, Copy)]
pub(crate) struct Cgroup(u64);

impl Socket {
    /// The full TCP socket at `common`, a pointer from a context; `None` for null, request and TIME_WAIT sockets.
    pub(crate) fn from_common(common: *mut c_void) -> Option<Self> {
        if common.is_null() {
            return None;
        }
        // SAFETY: the verifier knows the pointer as a socket of the context, and it is not null.
        NonNull::new(unsafe { bpf_skc_to_tcp_sock(common) }.cast()).map(Self)
    }

    /// For helpers that take a socket.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// `SO_COOKIE`. Only for programs that have no context which gives it (tracing programs).
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: in a tracing program the helper takes the socket.
        unsafe { bpf_get_socket_cookie(self.as_ptr()) }
    }

    /// The owner's uid in the initial user namespace.
    pub(crate) fn uid(&self) -> u32 {
        self.field(&SK_UID)
    }

    /// The interface that the socket is bound to; zero for none.
    pub(crate) fn bound_dev_if(&self) -> u32 {
        self.field(&SK_BOUND_DEV_IF)
    }

    /// The errno that the socket holds.
    pub(crate) fn error(&self) -> u32 {
        self.field(&SK_ERR)
    }

    /// The cgroup2 directory of the socket.
    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        read(self.0.as_ptr() as u64, SK_CGROUP.load()).filter(|cgroup| *cgroup != 0).map(Cgroup)
    }

    fn field(&self, offset: &Global<u32>) -> u32 {
        read::<u32>(self.0.as_ptr() as u64, offset.load()).unwrap_or(0)
    }
}

impl Cgroup {
    /// Its inode number in the cgroup file system.
    pub(crate) fn id(self) -> u64 {
        read(self.0, CGROUP_KN.load()).and_then(|node: u64| read(node, KN_ID.load())).unwrap_or(0)
    }

    /// The directory above; `None` at the root.
    pub(crate) fn parent(self) -> Option<Self> {
        // `cgroup.self` is the first field, so a pointer to the parent's is one to the parent (kernel
        // include/linux/cgroup-defs.h).
        read(self.0, CGROUP_PARENT.load()).filter(|parent| *parent != 0).map(Self)
    }
}

/// Reads kernel memory; a failure is counted.
fn read<T>(base: u64, offset: u32) -> Option<T> {
    if base == 0 || offset == 0 {
        return None;
    }
    let address = (base + u64::from(offset)) as *const T;
    // SAFETY: the helper copies and fails on an address that is not mapped; every `T` here is an integer.
    let value = unsafe { bpf_probe_read_kernel(address) };
    if value.is_err() {
        bump(Counter::SocketUnreadable);
    }
    value.ok()
}
