//! Socket options, by the helpers of the kernel.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_getsockopt, bpf_setsockopt};
use tcpops_common::apply::OptionAccess;
use tcpops_common::counters::Counter;
use tcpops_common::option::SOL_TCP;
use tcpops_common::policy::{SocketOptions, TcpOption};

use crate::kernel::counters::bump;
use crate::kernel::socket::Socket;
use crate::kernel::sockops::{STATE_CB_FLAG, SockOps};

const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

/// A socket whose fields can be loaded, and the argument by which the helpers take it: itself, or a context that has it.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    argument: *mut c_void,
    socket: &'a Socket,
}

/// A socket that came from [`Socket::from_context`], of which the verifier lets no field be loaded.
#[derive(Clone, Copy)]
pub(crate) struct TargetInContext(*mut c_void);

impl OptionAccess for Target<'_> {
    fn set(&self, option: TcpOption, value: u32) -> Result<(), i32> {
        let (level, number) = option.constants();
        set(self.argument, level, number, value)
    }

    fn get(&self, option: TcpOption) -> Result<u32, i32> {
        get(self.argument, option)
    }

    /// Loads them from the socket, which costs a tenth of asking for each.
    #[inline(always)]
    fn read(&self) -> SocketOptions {
        self.socket.keepalive_options()
    }

    fn bump(&self, counter: Counter) {
        bump(counter);
    }
}

impl OptionAccess for TargetInContext {
    fn set(&self, option: TcpOption, value: u32) -> Result<(), i32> {
        let (level, number) = option.constants();
        set(self.0, level, number, value)
    }

    fn get(&self, option: TcpOption) -> Result<u32, i32> {
        get(self.0, option)
    }

    fn bump(&self, counter: Counter) {
        bump(counter);
    }
}

impl SockOps {
    /// The options of its socket.
    pub(crate) fn options(self, socket: &Socket) -> Target<'_> {
        Target { argument: self.as_ptr(), socket }
    }
}

impl Socket {
    /// Its options.
    pub(crate) fn options(&self) -> Target<'_> {
        Target { argument: self.as_ptr(), socket: self }
    }

    /// Its options, where it came from [`Socket::from_context`].
    pub(crate) fn options_in_context(&self) -> TargetInContext {
        TargetInContext(self.as_ptr())
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

fn get(target: *mut c_void, option: TcpOption) -> Result<u32, i32> {
    let (level, number) = option.constants();
    let mut value = 0_u32;
    // SAFETY: the target is a context or socket that the helper takes; the helper writes the int.
    match unsafe { bpf_getsockopt(target, level, number, (&raw mut value).cast(), 4) } {
        0 => Ok(value),
        error => Err(error as i32),
    }
}

fn set(target: *mut c_void, level: i32, number: i32, mut value: u32) -> Result<(), i32> {
    // SAFETY: the target is a context or socket that the helper takes, the value an int on the stack.
    match unsafe { bpf_setsockopt(target, level, number, (&raw mut value).cast(), 4) } {
        0 => Ok(()),
        error => Err(error as i32),
    }
}
