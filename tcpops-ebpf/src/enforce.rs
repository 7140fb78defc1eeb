//! What rules and pushed policies want of a connection, and where it came from.
//!
//! The larger functions have frames of their own: a program's stack is 512 bytes over all frames that are open at a time.

use tcpops_common::conn::Connection;
use tcpops_common::policy::{Outcome, Policy, Setting, Source};
use tcpops_common::state::TcpState;

use crate::apply::{OptionAccess, apply};
use crate::kernel::socket::Socket;
use crate::kernel::sockops::now_boot_ns;
use crate::matching::{self, first_match};

/// Notes the limit that the first rule that matches sets to a handshake to the outside, where there are such rules. Its
/// options wait for the end of the handshake.
pub(crate) fn limit_of_handshake(socket: &Socket, connection: &mut Connection) {
    if matching::limits_handshakes()
        && let Some(rule) = first_match(socket, connection)
    {
        connection.rule = rule.id;
        connection.policy.lifetime_setting = rule.policy.lifetime_setting;
        connection.policy.lifetime = rule.policy.lifetime;
        connection.policy.jitter_percent = rule.policy.jitter_percent;
        connection.lifetime_source = Source::Rule;
    }
}

/// Applies the first rule that matches; false if none does.
pub(crate) fn first_rule(options: &impl OptionAccess, socket: &Socket, connection: &mut Connection) -> bool {
    let Some(rule) = first_match(socket, connection) else {
        if connection.rule != 0 {
            // The rule that limited the handshake is gone.
            connection.rule = 0;
            connection.policy = Policy::NONE;
            connection.lifetime_source = Source::None;
        }
        return false;
    };
    connection.rule = rule.id;
    connection.policy = rule.policy;
    apply_from(options, connection, &rule.policy, Source::Rule, true);
    true
}

/// Applies what was pushed for the connection, over the policy in force. Where the kernel refuses, the policy in force
/// stays, but for its number, by which the agent knows that this push was dealt with.
#[inline(never)]
pub(crate) fn pushed(socket: &impl OptionAccess, connection: &mut Connection, pushed: &Policy) {
    let before = connection.policy;
    connection.policy.override_with(pushed);
    // A push that is about lifetimes alone leaves options as the program may have set them since.
    let about_options = pushed.options_pushed != 0;
    apply_from(socket, connection, pushed, Source::Override, about_options);
    if about_options && matches!(connection.outcome, Outcome::Refused) {
        connection.policy = Policy { serial: pushed.serial, ..before };
    }
}

/// Judges a connection anew by the rules in force; true if its policy changed. What no rule and no push wants any more
/// goes back to what the program had; what is wanted as before is left alone.
#[inline(never)]
pub(crate) fn reconsider(socket: &Socket, connection: &mut Connection, pushed: Option<&'static Policy>) -> bool {
    if matches!(connection.state, TcpState::SynSent | TcpState::SynRecv) {
        // It gets its rule at the end of its handshake.
        return false;
    }
    let rule = first_match(socket, connection);
    let id = rule.map_or(0, |rule| rule.id);
    let by_rule = rule.map_or(&Policy::NONE, |rule| &rule.policy);
    let pushed = pushed.unwrap_or(&Policy::NONE);
    let policy = by_rule.overridden_by(pushed);
    if connection.rule == id && connection.policy == policy {
        return false;
    }
    let options_changed = connection.policy.options != policy.options;
    connection.rule = id;
    connection.policy = policy;
    let source = |in_push: bool, in_rule: bool| match (in_push, in_rule) {
        (true, _) => Source::Override,
        (false, true) => Source::Rule,
        (false, false) => Source::None,
    };
    let speaks = |policy: &Policy| !matches!(policy.lifetime_setting, Setting::Leave);
    connection.lifetime_source = source(speaks(pushed), speaks(by_rule));
    let wants = |setting: Setting| !matches!(setting, Setting::Leave);
    connection.keepalive_source = source(wants(pushed.options.keepalive), wants(by_rule.options.keepalive));
    connection.user_timeout_source = source(wants(pushed.options.user_timeout), wants(by_rule.options.user_timeout));
    if options_changed {
        apply(socket, connection, now_boot_ns());
    }
    if options_changed && !policy.options.any() {
        connection.touched = 0;
        connection.outcome = Outcome::Untouched;
    }
    true
}

fn apply_from(
    options: &impl OptionAccess,
    connection: &mut Connection,
    policy: &Policy,
    source: Source,
    about_options: bool,
) {
    if !matches!(policy.lifetime_setting, Setting::Leave) {
        connection.lifetime_source = source;
    }
    if about_options && policy.options.any() {
        if !matches!(policy.options.keepalive, Setting::Leave) {
            connection.keepalive_source = source;
        }
        if !matches!(policy.options.user_timeout, Setting::Leave) {
            connection.user_timeout_source = source;
        }
        apply(options, connection, now_boot_ns());
    }
}
