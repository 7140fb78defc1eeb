//! The context of a `cgroup/setsockopt` program.

use aya_ebpf::bindings::bpf_sockopt;
use aya_ebpf::programs::SockoptContext;
use tcpops_common::policy::TcpOption;
use tcpops_common::settings::{APPLY_OVERRIDE, SOL_TCPOPS};

use crate::kernel::socket::Socket;

/// The most that the kernel copies of an option's value for these programs (a page).
const PAGE_SIZE: i32 = 4096;

/// One call of setsockopt(2).
#[derive(Clone, Copy)]
pub(crate) struct SetSockopt(*mut bpf_sockopt);

/// Reads a field of the context whole, as the verifier demands.
macro_rules! read {
    ($sockopt:expr, $($field:tt)+) => {{
        // SAFETY: the context is valid while the program runs, and the field is one that these programs may read.
        unsafe { (&raw const (*$sockopt).$($field)+).read_volatile() }
    }};
}

impl SetSockopt {
    pub(crate) fn new(ctx: &SockoptContext) -> Self {
        Self(ctx.sockopt)
    }

    /// The option, if it is one that policies can set.
    pub(crate) fn option(self) -> Option<TcpOption> {
        TcpOption::from_constants(read!(self.0, level), read!(self.0, optname))
    }

    /// The number by which the caller says that it is the agent, and wants the socket's override applied.
    pub(crate) fn secret(self) -> Option<u64> {
        if read!(self.0, level) != SOL_TCPOPS || read!(self.0, optname) != APPLY_OVERRIDE {
            return None;
        }
        let value = self.place::<u64>()?;
        // SAFETY: `place` has compared with the end of the value.
        Some(unsafe { value.read_volatile() })
    }

    /// Ends the call: the kernel sets nothing, and setsockopt(2) answers 0.
    pub(crate) fn end(self) {
        self.set_length(-1);
    }

    /// The socket, of whatever kind it is.
    pub(crate) fn socket(self) -> Option<Socket> {
        Socket::from_context(read!(self.0, __bindgen_anon_1.sk).cast())
    }

    /// The value, where it is an int.
    pub(crate) fn value(self) -> Option<u32> {
        let value = self.place::<u32>()?;
        // SAFETY: `place` has compared with the end of the value.
        Some(unsafe { value.read_volatile() })
    }

    /// Has the kernel set `value` instead.
    pub(crate) fn replace(self, value: u32) {
        if let Some(place) = self.place::<u32>() {
            // SAFETY: `place` has compared with the end of the value.
            unsafe { place.write_volatile(value) };
        }
    }

    /// Has the kernel use the program's own memory, where the value is so long that it was copied in part only (tables
    /// of netfilter, say): an unchanged length would be an EFAULT on kernels before 6.5.
    pub(crate) fn pass_long_value(self) {
        if read!(self.0, optlen) > PAGE_SIZE {
            self.set_length(0);
        }
    }

    /// Zero means that the value was left alone, -1 that the kernel is to do nothing
    /// (Documentation/bpf/prog_cgroup_sockopt.rst).
    fn set_length(self, length: i32) {
        // SAFETY: the context is valid while the program runs.
        let place = unsafe { &raw mut (*self.0).optlen };
        // SAFETY: these programs may write the field.
        unsafe { place.write_volatile(length) };
    }

    /// The place of a value that is at least a `T` long.
    #[inline(always)]
    fn place<T>(self) -> Option<*mut T> {
        let start: *mut T = read!(self.0, __bindgen_anon_2.optval).cast();
        let end: *mut T = read!(self.0, __bindgen_anon_3.optval_end).cast();
        // Not `add`, of which the compiler may conclude that the comparison is never true.
        (start.wrapping_add(1) <= end).then_some(start)
    }
}
