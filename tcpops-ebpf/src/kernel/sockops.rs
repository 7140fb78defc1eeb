//! The context of a sockops program.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_sock_ops;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockOpsContext;

use crate::kernel::socket::{Ends, Socket};

/// `BPF_SOCK_OPS_STATE_CB_FLAG` of the kernel's include/uapi/linux/bpf.h.
pub(crate) const STATE_CB_FLAG: u32 = 1 << 2;

/// The callbacks that this program answers (`enum` in the kernel's include/uapi/linux/bpf.h).
pub(crate) mod op {
    pub(crate) const TCP_CONNECT: u32 = 3;
    pub(crate) const ACTIVE_ESTABLISHED: u32 = 4;
    pub(crate) const PASSIVE_ESTABLISHED: u32 = 5;
    pub(crate) const STATE: u32 = 10;
    pub(crate) const TCP_LISTEN: u32 = 11;
}

/// One call of the sockops program.
#[derive(Clone, Copy)]
pub(crate) struct SockOps(*mut bpf_sock_ops);

/// Reads a field of the context: the verifier takes aligned loads of whole fields only, so the compiler may not join
/// or split them.
macro_rules! read {
    ($ops:expr, $($field:tt)+) => {{
        // SAFETY: the context is valid while the program runs, and the field is one that sockops programs may read.
        unsafe { (&raw const (*$ops).$($field)+).read_volatile() }
    }};
}

impl SockOps {
    pub(crate) fn new(ctx: &SockOpsContext) -> Self {
        Self(ctx.ops)
    }

    /// The pointer for helpers that take the context.
    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0.cast()
    }

    pub(crate) fn op(self) -> u32 {
        read!(self.0, op)
    }

    /// The arguments of the state callback: the numbers of the old and the new state.
    pub(crate) fn transition(self) -> (u32, u32) {
        (read!(self.0, __bindgen_anon_1.args[0]), read!(self.0, __bindgen_anon_1.args[1]))
    }

    pub(crate) fn socket(self) -> Option<Socket> {
        Socket::from_common(read!(self.0, __bindgen_anon_2.sk).cast())
    }

    pub(crate) fn cookie(self) -> u64 {
        // SAFETY: the helper takes this context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    pub(crate) fn netns_cookie(self) -> u64 {
        // SAFETY: the helper takes this context.
        unsafe { bpf_get_netns_cookie(self.0.cast()) }
    }

    /// Turns on the state callback of this socket and leaves other programs' flags as they are.
    pub(crate) fn enable_state_callback(self) -> Result<(), i32> {
        let flags = read!(self.0, bpf_sock_ops_cb_flags);
        if flags & STATE_CB_FLAG != 0 {
            return Ok(());
        }
        SockOpsContext::new(self.0).set_cb_flags((flags | STATE_CB_FLAG).cast_signed())
    }

    /// Both ends.
    pub(crate) fn ends(self) -> Ends {
        // All fields are read whatever the family is. Of reads in two branches the compiler makes one with an offset
        // that varies, which the verifier refuses: "dereference of modified ctx ptr R1 off=24 disallowed".
        // remote_port is in network order, local_port in host order (struct bpf_sock_ops in the kernel's
        // include/uapi/linux/bpf.h).
        Ends {
            family: read!(self.0, family),
            local_port: read!(self.0, local_port) as u16,
            remote_port: u32::from_be(read!(self.0, remote_port)) as u16,
            local_ip4: read!(self.0, local_ip4),
            remote_ip4: read!(self.0, remote_ip4),
            local_ip6: [
                read!(self.0, local_ip6[0]),
                read!(self.0, local_ip6[1]),
                read!(self.0, local_ip6[2]),
                read!(self.0, local_ip6[3]),
            ],
            remote_ip6: [
                read!(self.0, remote_ip6[0]),
                read!(self.0, remote_ip6[1]),
                read!(self.0, remote_ip6[2]),
                read!(self.0, remote_ip6[3]),
            ],
        }
    }
}
