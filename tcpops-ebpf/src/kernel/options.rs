//! Socket options, by the helpers of the kernel.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_getsockopt, bpf_setsockopt};
use tcpops_common::apply::{OptionAccess, read_each};
use tcpops_common::counters::Counter;
use tcpops_common::option::SOL_TCP;
use tcpops_common::policy::{SocketOptions, TcpOption};

use crate::kernel::counters::bump;
use crate::kernel::socket::Socket;
use crate::kernel::sockops::{STATE_CB_FLAG, SockOps};

const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

/// A socket, by the argument that the helpers take: itself, or a context that has it.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    argument: *mut c_void,
    /// Nothing where the verifier lets no field be loaded.
    socket: Option<&'a Socket>,
}

impl OptionAccess for Target<'_> {
    fn set(&self, option: TcpOption, value: u32) -> Result<(), i32> {
        let (level, number) = option.constants();
        set(self.argument, level, number, value)
    }

    fn get(&self, option: TcpOption) -> Result<u32, i32> {
        let (level, number) = option.constants();
        let mut value = 0_u32;
        // SAFETY: the target is a context or socket that the helper takes; the helper writes the int.
        match unsafe { bpf_getsockopt(self.argument, level, number, (&raw mut value).cast(), 4) } {
            0 => Ok(value),
            error => Err(error as i32),
        }
    }

    /// Loads them from the socket, which costs a tenth of asking for each.
    #[inline(always)]
    fn read(&self) -> SocketOptions {
        match self.socket {
            Some(socket) => socket.keepalive_options(),
            None => read_each(self),
        }
    }

    fn bump(&self, counter: Counter) {
        bump(counter);
    }
}

impl SockOps {
    /// The options of its socket.
    pub(crate) fn options(self, socket: &Socket) -> Target<'_> {
        Target { argument: self.as_ptr(), socket: Some(socket) }
    }
}

impl Socket {
    /// Its options.
    pub(crate) fn options(&self) -> Target<'_> {
        Target { argument: self.as_ptr(), socket: Some(self) }
    }

    /// Its options, where it came from [`Socket::from_context`].
    pub(crate) fn options_in_context(&self) -> Target<'_> {
        Target { argument: self.as_ptr(), socket: None }
    }

    /// True if the state callback is on: then the sockops program hears of each transition.
    pub(crate) fn reports_states(&self) -> bool {
        self.cb_flags() & STATE_CB_FLAG != 0
    }

    /// Turns on the state callback, as [`SockOps::enable_state_callback`] does.
    ///
    /// EINVAL before Linux 6.12, which has no TCP_BPF_SOCK_OPS_CB_FLAGS.
    pub(crate) fn enable_state_callback(&self) -> Result<(), i32> {
        set(self.as_ptr(), SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, self.cb_flags() | STATE_CB_FLAG)
    }
}

fn set(target: *mut c_void, level: i32, number: i32, mut value: u32) -> Result<(), i32> {
    // SAFETY: the target is a context or socket that the helper takes, the value an int on the stack.
    match unsafe { bpf_setsockopt(target, level, number, (&raw mut value).cast(), 4) } {
        0 => Ok(()),
        error => Err(error as i32),
    }
}
