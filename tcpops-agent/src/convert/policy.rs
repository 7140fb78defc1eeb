//! Policies and lifetimes from the maps' form to the protocol's.

use std::collections::HashMap;

use tcpops_common::conn::Connection;
use tcpops_common::option::Part;
use tcpops_common::policy::{Lifetime, Options, Outcome, Policy, Setting, SocketOptions, Source, TcpOption};

use crate::api::keepalive::SocketOptions as ApiOptions;
use crate::api::lifetime::Lifetime as ApiLifetime;
use crate::api::policy::{self as api, OptionName, OwnOption};
use crate::api::values::Mode;
use crate::clocks::Clocks;

const NS_PER_SECOND: f64 = 1e9;

/// The policy in force on a connection.
pub(crate) fn policy(connection: &Connection, rule_names: &HashMap<u32, String>, clocks: Clocks) -> api::Policy {
    api::Policy {
        rule: rule_names.get(&connection.rule).cloned(),
        wanted: connection.policy.options.any().then(|| wanted(&connection.policy.options)),
        keepalive_source: source(connection.keepalive_source),
        user_timeout_source: source(connection.user_timeout_source),
        lifetime: Some(lifetime_in_force(&connection.policy, clocks))
            .filter(|limits| *limits != ApiLifetime::default()),
        lifetime_source: source(connection.lifetime_source),
        result: result(connection, clocks),
    }
}

/// The contents of a policy, with the name of the rule that matches.
pub(crate) fn intent(rule: Option<&str>, policy: &Policy, clocks: Clocks) -> api::Intent {
    let limits = match policy.lifetime_setting {
        // A lifetime that is taken off is something that is wanted.
        Setting::Clear => Some(ApiLifetime::default()),
        _ => Some(lifetime_in_force(policy, clocks)).filter(|limits| *limits != ApiLifetime::default()),
    };
    api::Intent {
        rule: rule.map(str::to_owned),
        wanted: policy.options.any().then(|| wanted(&policy.options)),
        lifetime: limits,
    }
}

/// The override of a connection, as its detail shows it.
pub(crate) fn override_of(policy: &Policy, connection: &Connection, clocks: Clocks) -> api::Override {
    let api::Intent { wanted, lifetime, .. } = intent(None, policy, clocks);
    api::Override { by_uid: policy.by_uid, applied: !connection.awaits(policy), wanted, lifetime }
}

/// The options that the program has set itself.
pub(crate) fn set_by_program(connection: &Connection) -> Vec<OwnOption> {
    Part::ALL.iter().filter(|part| connection.is_own(**part)).map(|part| (*part).into()).collect()
}

fn wanted(options: &Options) -> api::Wanted {
    let set = !matches!(options.keepalive, Setting::Leave | Setting::Clear);
    api::Wanted {
        keepalive: match options.keepalive {
            Setting::Leave => None,
            Setting::Set | Setting::Default | Setting::Floor => Some(true),
            Setting::Clear => Some(false),
        },
        idle_seconds: set.then_some(options.keepidle_s),
        count: set.then_some(options.keepcnt),
        interval_seconds: set.then_some(options.keepintvl_s),
        keepalive_mode: mode(options.keepalive),
        user_timeout_mode: mode(options.user_timeout),
        user_timeout_ms: match options.user_timeout {
            Setting::Leave => None,
            Setting::Set | Setting::Default | Setting::Floor => Some(options.user_timeout_ms),
            Setting::Clear => Some(0),
        },
    }
}

/// The precedence over the program's own option; `None` where it is replaced.
fn mode(setting: Setting) -> Option<Mode> {
    match setting {
        Setting::Leave | Setting::Set | Setting::Clear => None,
        Setting::Default => Some(Mode::Default),
        Setting::Floor => Some(Mode::Floor),
    }
}

fn result(connection: &Connection, clocks: Clocks) -> Option<api::ApplyResult> {
    Some(api::ApplyResult {
        outcome: outcome(connection.outcome)?,
        at: clocks.date(connection.applied_boot_ns)?,
        refused_option: option_name(connection.refused),
        errno: (connection.errno != 0).then(|| i32::from(connection.errno)),
        in_force: options(&connection.in_force),
        original: options(&connection.original),
    })
}

/// Socket options as the API shows them.
pub(crate) fn options(options: &SocketOptions) -> ApiOptions {
    ApiOptions {
        keepalive: options.keepalive != 0,
        idle_seconds: options.keepidle_s,
        count: options.keepcnt,
        interval_seconds: options.keepintvl_s,
        user_timeout_ms: options.user_timeout_ms,
    }
}

/// The lifetimes in force under a policy, as the API shows them.
pub(crate) fn lifetime_in_force(policy: &Policy, clocks: Clocks) -> ApiLifetime {
    let Lifetime { idle_ns, max_age_ns, deadline_boot_ns } = policy.lifetime_in_force();
    let given = |ns: u64| (ns != 0).then(|| ns as f64 / NS_PER_SECOND);
    let spread = policy.jitter_percent != 0 && (idle_ns != 0 || max_age_ns != 0);
    ApiLifetime {
        idle_seconds: given(idle_ns),
        max_age_seconds: given(max_age_ns),
        deadline: clocks.date(deadline_boot_ns),
        jitter_percent: spread.then_some(policy.jitter_percent),
    }
}

/// Where a policy came from; `None` where there is none.
pub(crate) fn source(source: Source) -> Option<api::Source> {
    match source {
        Source::None => None,
        Source::Rule => Some(api::Source::Rule),
        Source::Override => Some(api::Source::Override),
    }
}

/// The outcome of applying options; `None` where none were applied.
pub(crate) fn outcome(outcome: Outcome) -> Option<api::Outcome> {
    match outcome {
        Outcome::Untouched => None,
        Outcome::Applied => Some(api::Outcome::Applied),
        Outcome::Yielded => Some(api::Outcome::Yielded),
        Outcome::Refused => Some(api::Outcome::Refused),
    }
}

/// The option that the kernel refused; `None` where it refused none.
pub(crate) fn option_name(option: TcpOption) -> Option<OptionName> {
    match option {
        TcpOption::None => None,
        TcpOption::UserTimeout => Some(OptionName::TcpUserTimeout),
        TcpOption::KeepIdle => Some(OptionName::TcpKeepidle),
        TcpOption::KeepIntvl => Some(OptionName::TcpKeepintvl),
        TcpOption::KeepCnt => Some(OptionName::TcpKeepcnt),
        TcpOption::KeepAlive => Some(OptionName::SoKeepalive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    const CLOCKS: Clocks = Clocks { wall_ns: 1_700_000_000_000_000_000, boot_ns: 10_000_000_000 };

    #[test]
    fn what_is_wanted_says_how_it_stands_against_the_program() {
        let mut entry = testing::connection();
        entry.policy.options = Options {
            keepalive: Setting::Floor,
            user_timeout: Setting::Default,
            user_timeout_ms: 5_000,
            keepidle_s: 60,
            ..Options::NONE
        };
        entry.policy.lifetime_setting = Setting::Set;
        entry.policy.lifetime.idle_ns = 60_000_000_000;
        entry.policy.jitter_percent = 10;
        let shown = policy(&entry, &HashMap::new(), CLOCKS);
        let wanted = shown.wanted.unwrap();
        assert_eq!((wanted.keepalive, wanted.idle_seconds), (Some(true), Some(60)));
        assert_eq!((wanted.keepalive_mode, wanted.user_timeout_mode), (Some(Mode::Floor), Some(Mode::Default)));
        let lifetime = shown.lifetime.unwrap();
        assert_eq!((lifetime.idle_seconds, lifetime.jitter_percent), (Some(60.0), Some(10)));
        entry.policy.options = Options { keepalive: Setting::Set, ..entry.policy.options };
        entry.policy.lifetime = Lifetime { deadline_boot_ns: 11_000_000_000, ..Lifetime::NONE };
        let shown = policy(&entry, &HashMap::new(), CLOCKS);
        assert_eq!(shown.wanted.unwrap().keepalive_mode, None);
        assert_eq!(shown.lifetime.unwrap().jitter_percent, None, "a deadline is exact");
    }
}
