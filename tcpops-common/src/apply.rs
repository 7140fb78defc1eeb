//! The options that a policy wants are set on a socket, and those that were there are given back.

use crate::conn::Connection;
use crate::counters::Counter;
use crate::option::Part;
use crate::policy::{Outcome, Policy, SocketOptions, TcpOption};

/// A socket whose options can be read and set, and where to count what fails.
pub trait OptionAccess {
    /// Sets the option; the error is a negative errno.
    fn set(&self, option: TcpOption, value: u32) -> Result<(), i32>;
    /// Reads the option; the error is a negative errno.
    fn get(&self, option: TcpOption) -> Result<u32, i32>;
    /// Reads all of them.
    fn read(&self) -> SocketOptions {
        let mut options = SocketOptions::NONE;
        for option in TcpOption::ORDER {
            match self.get(option) {
                Ok(value) => options.set(option, value),
                Err(_errno) => self.bump(Counter::GetsockoptFailed),
            }
        }
        options
    }
    /// Adds one to a counter.
    fn bump(&self, counter: Counter);
}

/// Makes the socket's options what the policy in force wants. An option of which it says nothing, or that it leaves to
/// the program, goes back to what the program had, if it was changed before. When the kernel refuses one, all go back.
pub fn apply(socket: &impl OptionAccess, connection: &mut Connection, now_boot_ns: u64) {
    if connection.touched == 0 {
        if !connection.policy.options.any() {
            return;
        }
        connection.note_original(socket.read());
    }
    connection.applied_boot_ns = now_boot_ns;
    connection.outcome = Outcome::Yielded;
    connection.errno = 0;
    connection.refused = TcpOption::None;
    for option in TcpOption::ORDER {
        let value = match connection.wanted(option) {
            Some(value) => {
                connection.outcome = Outcome::Applied;
                value
            }
            None if connection.has_touched(option) => connection.original.get(option),
            None => continue,
        };
        if let Err(errno) = socket.set(option, value) {
            connection.outcome = Outcome::Refused;
            connection.errno = errno.unsigned_abs() as u16;
            connection.refused = option;
            break;
        }
        connection.touched |= option.bit();
    }
    if matches!(connection.outcome, Outcome::Refused) {
        restore(socket, connection);
        socket.bump(Counter::Refused);
    } else {
        socket.bump(Counter::Applied);
    }
    // Read back rather than reckoned: the program may have changed what this one did not.
    connection.in_force = socket.read();
}

/// Applies an override over the policy in force. Where the kernel refuses, the policy in force stays, but for its
/// serial, by which the agent knows that this override was dealt with.
pub fn apply_override(socket: &impl OptionAccess, connection: &mut Connection, override_: &Policy, now_boot_ns: u64) {
    let before = connection.policy;
    if connection.take_override(override_) {
        apply(socket, connection, now_boot_ns);
        if matches!(connection.outcome, Outcome::Refused) {
            connection.policy = Policy { serial: override_.serial, ..before };
        }
    }
}

/// Makes the socket's options what a connection wants that was judged anew. Where nothing is wanted any more, all are
/// the program's again.
pub fn reapply(socket: &impl OptionAccess, connection: &mut Connection, now_boot_ns: u64) {
    apply(socket, connection, now_boot_ns);
    if !connection.policy.options.any() {
        connection.touched = 0;
        connection.outcome = Outcome::Untouched;
    }
}

/// Gives the socket back the options that its program had.
pub fn restore(socket: &impl OptionAccess, connection: &mut Connection) {
    for option in TcpOption::ORDER {
        give_back(socket, connection, option);
    }
    connection.touched = 0;
}

/// The program has set an option of the part itself, and the policy leaves the part to such programs: its options go
/// back to what the program had.
pub fn give_way(socket: &impl OptionAccess, connection: &mut Connection, part: Part, now_boot_ns: u64) {
    connection.outcome = Outcome::Yielded;
    connection.applied_boot_ns = now_boot_ns;
    for option in TcpOption::ORDER {
        if option.part() == part && connection.has_touched(option) {
            give_back(socket, connection, option);
            connection.in_force.set(option, connection.original.get(option));
        }
    }
}

fn give_back(socket: &impl OptionAccess, connection: &Connection, option: TcpOption) {
    if connection.has_touched(option) && socket.set(option, connection.original.get(option)).is_err() {
        socket.bump(Counter::RestoreFailed);
    }
}
