//! Rules and overrides, put in force on a socket. `tcpops_common::enforce` decides, `tcpops_common::apply` sets
//! options.
//!
//! The larger functions have frames of their own: a program's stack is 512 bytes over all frames that are open at a
//! time.

use tcpops_common::apply::{self, OptionAccess};
use tcpops_common::conn::Connection;
use tcpops_common::enforce::Reconsidered;
use tcpops_common::policy::Policy;

use crate::kernel::candidate::Candidate;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::options::Target;
use crate::kernel::socket::Socket;
use crate::matching::{self, first_match};

/// Puts a handshake to the outside under the limit of the first rule that matches, where some rule has one.
pub(crate) fn limit_handshake(socket: &Socket, connection: &mut Connection) {
    if matching::limits_handshakes()
        && let Some(rule) = first_match(socket, Candidate::of(connection))
    {
        connection.limit_handshake(rule.id, &rule.policy);
    }
}

/// Applies the first rule that matches; false if none does. The clock was read for the state that the connection has just
/// entered, and is not read again.
pub(crate) fn first_rule(options: Target<'_>, socket: &Socket, connection: &mut Connection) -> bool {
    let Some(rule) = first_match(socket, Candidate::of(connection)) else {
        connection.take_no_rule();
        return false;
    };
    connection.take_rule(rule.id, &rule.policy);
    if rule.policy.options.any() {
        let now_boot_ns = connection.state_since_boot_ns;
        apply::apply(&options, connection, now_boot_ns);
    }
    true
}

/// Applies an override over the policy in force.
#[inline(never)]
pub(crate) fn apply_override(options: impl OptionAccess, connection: &mut Connection, override_: &Policy) {
    apply::apply_override(&options, connection, override_, now_boot_ns());
}

/// Judges a connection anew by the rules in force; true if its policy changed. What is wanted as before is left alone.
#[inline(never)]
pub(crate) fn reconsider(socket: &Socket, connection: &mut Connection, override_: Option<&'static Policy>) -> bool {
    let (rule, by_rule) =
        first_match(socket, Candidate::of(connection)).map_or((0, &Policy::NONE), |rule| (rule.id, &rule.policy));
    let reconsidered = connection.reconsider(rule, by_rule, override_.unwrap_or(&Policy::NONE));
    if matches!(reconsidered, Reconsidered::OptionsChanged) {
        apply::reapply(&socket.options(), connection, now_boot_ns());
    }
    !matches!(reconsidered, Reconsidered::Unchanged)
}
