//! Setting what a policy wants on a socket, and giving back what was there.

use tcpops_common::conn::{Connection, OWN_KEEPALIVE, OWN_USER_TIMEOUT};
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

/// Makes the socket's options what `connection.policy` wants. An option of which the policy says nothing, or that it leaves
/// to the program, goes back to what the program had, if it was changed before. When the kernel refuses one, all go back.
pub(crate) fn apply(socket: &impl OptionAccess, connection: &mut Connection, now_boot_ns: u64) {
    if connection.touched == 0 {
        if !connection.policy.options.any() {
            return;
        }
        connection.original = read(socket);
        note_own(connection);
    }
    connection.applied_boot_ns = now_boot_ns;
    connection.outcome = Outcome::Yielded;
    connection.errno = 0;
    connection.refused = TcpOption::None;
    for option in ORDER {
        let bit = 1 << option as u8;
        let value = match wanted_value(connection, option) {
            Some(value) => {
                connection.outcome = Outcome::Applied;
                value
            }
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

/// Gives the socket back the options of one part, [`OWN_KEEPALIVE`] or [`OWN_USER_TIMEOUT`].
pub(crate) fn give_back(socket: &impl OptionAccess, connection: &mut Connection, part: u8) {
    for option in ORDER {
        if own_flag(option) != part || connection.touched & (1 << option as u8) == 0 {
            continue;
        }
        let value = original_value(&connection.original, option);
        if socket.set(option, value).is_err() {
            bump(Counter::RestoreFailed);
        }
        set_field(&mut connection.in_force, option, value);
    }
}

/// The flag of [`Connection::own`] for the part that the option belongs to.
pub(crate) const fn own_flag(option: TcpOption) -> u8 {
    match option {
        TcpOption::UserTimeout => OWN_USER_TIMEOUT,
        _ => OWN_KEEPALIVE,
    }
}

/// What the policy says of the part that the option belongs to.
pub(crate) fn setting(options: &Options, option: TcpOption) -> Setting {
    match option {
        TcpOption::UserTimeout => options.user_timeout,
        _ => options.keepalive,
    }
}

/// Keepalive that is on, and a user timeout, are the program's, since nobody else has touched the socket so far.
fn note_own(connection: &mut Connection) {
    if connection.original.keepalive != 0 {
        connection.own |= OWN_KEEPALIVE;
    }
    if connection.original.user_timeout_ms != 0 {
        connection.own |= OWN_USER_TIMEOUT;
    }
}

/// The value that the policy wants the option to have, in view of what the program wants.
pub(crate) fn wanted_value(connection: &Connection, option: TcpOption) -> Option<u32> {
    let options = &connection.policy.options;
    let wanted = match option {
        TcpOption::UserTimeout => options.user_timeout_ms,
        TcpOption::KeepIdle => u32::from(options.keepidle_s),
        TcpOption::KeepIntvl => u32::from(options.keepintvl_s),
        TcpOption::KeepCnt => u32::from(options.keepcnt),
        TcpOption::KeepAlive | TcpOption::None => 1,
    };
    match setting(options, option) {
        Setting::Leave => None,
        Setting::Set => Some(wanted),
        // Off is off, whatever the parameters are.
        Setting::Clear => matches!(option, TcpOption::KeepAlive | TcpOption::UserTimeout).then_some(0),
        Setting::Default => (connection.own & own_flag(option) == 0).then_some(wanted),
        Setting::Floor => Some(tighter(option, wanted, original_value(&connection.original, option))),
    }
}

/// The tighter of two values: the one under which a dead peer is noticed sooner.
fn tighter(option: TcpOption, wanted: u32, own: u32) -> u32 {
    match option {
        TcpOption::KeepAlive | TcpOption::None => wanted,
        // Zero is no timeout.
        TcpOption::UserTimeout if own == 0 => wanted,
        _ if own < wanted => own,
        _ => wanted,
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

/// Writes an option's value down.
pub(crate) fn set_field(options: &mut SocketOptions, option: TcpOption, value: u32) {
    match option {
        TcpOption::None => {}
        TcpOption::UserTimeout => options.user_timeout_ms = value,
        TcpOption::KeepIdle => options.keepidle_s = value as u16,
        TcpOption::KeepIntvl => options.keepintvl_s = value as u16,
        TcpOption::KeepCnt => options.keepcnt = value as u8,
        TcpOption::KeepAlive => options.keepalive = u8::from(value != 0),
    }
}

/// The options as they are.
pub(crate) fn read(socket: &impl OptionAccess) -> SocketOptions {
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
