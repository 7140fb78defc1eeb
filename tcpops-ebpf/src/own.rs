//! What programs set themselves, and who wins.

use tcpops_common::conn::Connection;
use tcpops_common::policy::{Outcome, Setting, TcpOption, limits};

use crate::apply::{self, OptionAccess};
use crate::kernel::sockops::now_boot_ns;

/// A program sets an option of a tracked connection. Notes what it wants, which is what it gets back when no policy says
/// otherwise any more. Answers with the value to set instead, where the policy in force wins.
pub(crate) fn program_sets(
    socket: &impl OptionAccess,
    connection: &mut Connection,
    option: TcpOption,
    value: u32,
) -> Option<u32> {
    if !valid(option, value) {
        // The kernel refuses it.
        return None;
    }
    connection.own |= apply::own_flag(option);
    if connection.touched == 0 {
        // The options are as the program has them, and are read before the first change.
        return None;
    }
    apply::set_field(&mut connection.original, option, value);
    let wanted = match apply::setting(&connection.policy.options, option) {
        Setting::Leave => None,
        Setting::Default => {
            give_way(socket, connection, option);
            None
        }
        Setting::Set | Setting::Clear | Setting::Floor => apply::wanted_value(connection, option),
    };
    apply::set_field(&mut connection.in_force, option, wanted.unwrap_or(value));
    wanted.filter(|wanted| *wanted != value)
}

/// Whether the kernel takes the value (`do_tcp_setsockopt` of the kernel's net/ipv4/tcp.c).
fn valid(option: TcpOption, value: u32) -> bool {
    let range = match option {
        TcpOption::None => return false,
        TcpOption::KeepAlive => return true,
        TcpOption::UserTimeout => limits::USER_TIMEOUT_MS,
        TcpOption::KeepIdle | TcpOption::KeepIntvl => limits::KEEPALIVE_SECONDS,
        TcpOption::KeepCnt => limits::KEEPALIVE_COUNT,
    };
    u64::from(value) >= *range.start() && u64::from(value) <= *range.end()
}

/// The program sets one option of a part itself, and the rule leaves the part to such programs: the other options go back
/// to what the program had. The one that it sets now needs no setting.
fn give_way(socket: &impl OptionAccess, connection: &mut Connection, option: TcpOption) {
    connection.outcome = Outcome::Yielded;
    connection.applied_boot_ns = now_boot_ns();
    apply::give_back(socket, connection, apply::own_flag(option));
}
