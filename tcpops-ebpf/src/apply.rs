//! Setting what a policy wants on a socket, and giving back what was there.

use tcpops_common::conn::Connection;
use tcpops_common::counters::Counter;
use tcpops_common::policy::{Options, Outcome, Setting, SocketOptions, TcpOption};

use crate::counters::bump;

/// `setsockopt` and `getsockopt` on the socket of a program's context.
pub(crate) trait OptionAccess {
    /// Sets the option; the error is a negative errno.
    fn set(&self, option: TcpOption, value: u32) -> Result<(), i32>;
    /// Reads the option; the error is a negative errno.
    fn get(&self, option: TcpOption) -> Result<u32, i32>;
}

/// The options in the order in which they are set: SO_KEEPALIVE last, since it starts the timer with the others.
const ORDER: [TcpOption; 5] =
    [TcpOption::UserTimeout, TcpOption::KeepIdle, TcpOption::KeepIntvl, TcpOption::KeepCnt, TcpOption::KeepAlive];

/// Makes the socket's options what `connection.policy` wants. An option of which the policy says nothing goes back to
/// what the program had, if this program changed it before. When the kernel refuses one, all go back.
pub(crate) fn apply(socket: &impl OptionAccess, connection: &mut Connection, now_boot_ns: u64) {
    let wanted = connection.policy.options;
    if connection.touched == 0 {
        if !wanted.any() {
            return;
        }
        connection.original = read(socket);
    }
    connection.applied_boot_ns = now_boot_ns;
    connection.outcome = Outcome::Applied;
    connection.errno = 0;
    connection.refused = TcpOption::None;
    for option in ORDER {
        let bit = 1 << option as u8;
        let value = match wanted_value(&wanted, option) {
            Some(value) => value,
            None if connection.touched & bit != 0 => original_value(&connection.original, option),
            None => continue,
        };
        if let Err(errno) = socket.set(option, value) {
            connection.outcome = Outcome::Refused;
            connection.errno = errno.unsigned_abs() as u16;
            connection.refused = option;
            break;
        }
        connection.touched |= bit;
    }
    if matches!(connection.outcome, Outcome::Refused) {
        restore(socket, connection);
        bump(Counter::Refused);
    } else {
        bump(Counter::Applied);
    }
    // Read back rather than reckoned: the program may have changed what this one did not.
    connection.in_force = read(socket);
}

/// Gives the socket back the options that its program had.
pub(crate) fn restore(socket: &impl OptionAccess, connection: &mut Connection) {
    for option in ORDER {
        let bit = 1 << option as u8;
        if connection.touched & bit != 0 && socket.set(option, original_value(&connection.original, option)).is_err() {
            bump(Counter::RestoreFailed);
        }
    }
    connection.touched = 0;
}

/// The value that the policy wants the option to have.
fn wanted_value(wanted: &Options, option: TcpOption) -> Option<u32> {
    match (option, wanted.keepalive, wanted.user_timeout) {
        (TcpOption::UserTimeout, _, Setting::Set) => Some(wanted.user_timeout_ms),
        (TcpOption::UserTimeout, _, Setting::Clear) => Some(0),
        (TcpOption::KeepIdle, Setting::Set, _) => Some(u32::from(wanted.keepidle_s)),
        (TcpOption::KeepIntvl, Setting::Set, _) => Some(u32::from(wanted.keepintvl_s)),
        (TcpOption::KeepCnt, Setting::Set, _) => Some(u32::from(wanted.keepcnt)),
        (TcpOption::KeepAlive, Setting::Set, _) => Some(1),
        (TcpOption::KeepAlive, Setting::Clear, _) => Some(0),
        _ => None,
    }
}

fn original_value(original: &SocketOptions, option: TcpOption) -> u32 {
    match option {
        TcpOption::None => 0,
        TcpOption::UserTimeout => original.user_timeout_ms,
        TcpOption::KeepIdle => u32::from(original.keepidle_s),
        TcpOption::KeepIntvl => u32::from(original.keepintvl_s),
        TcpOption::KeepCnt => u32::from(original.keepcnt),
        TcpOption::KeepAlive => u32::from(original.keepalive),
    }
}

fn read(socket: &impl OptionAccess) -> SocketOptions {
    let get = |option| {
        socket.get(option).unwrap_or_else(|_errno| {
            bump(Counter::GetsockoptFailed);
            0
        })
    };
    SocketOptions {
        keepalive: get(TcpOption::KeepAlive) as u8,
        keepcnt: get(TcpOption::KeepCnt) as u8,
        keepidle_s: get(TcpOption::KeepIdle) as u16,
        keepintvl_s: get(TcpOption::KeepIntvl) as u16,
        pad: 0,
        user_timeout_ms: get(TcpOption::UserTimeout),
    }
}
