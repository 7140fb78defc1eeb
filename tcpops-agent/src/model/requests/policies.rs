//! What a request changes in the override of a connection.

use std::fmt;
use std::time::Duration;

use tcpops_common::conn::Connection;
use tcpops_common::policy::{Lifetime, Options, Policy, Setting, limit_begins};

/// A change to the override of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Turns keepalive on.
    KeepaliveEnable {
        /// TCP_KEEPIDLE, seconds.
        idle_s: u16,
        /// TCP_KEEPCNT.
        count: u8,
        /// TCP_KEEPINTVL, seconds.
        interval_s: u16,
        /// TCP_USER_TIMEOUT, milliseconds, 0 for off; `None` leaves it as it is.
        user_timeout_ms: Option<u32>,
    },
    /// Turns keepalive off.
    KeepaliveDisable,
    /// Replaces the limits in force.
    LifetimeSet {
        /// The limits, of which at least one is set.
        lifetime: Lifetime,
        /// The most that jitter adds to `idle` and `max_age`, percent.
        jitter_percent: u8,
    },
    /// Removes the limits, even those of a rule.
    LifetimeClear,
}

impl Change {
    /// True if it changes lifetimes, which listeners do not have.
    pub(crate) fn is_lifetime(&self) -> bool {
        matches!(self, Self::LifetimeSet { .. } | Self::LifetimeClear)
    }

    /// The new override of `connection`: the one before with this change.
    pub(crate) fn apply(&self, before: Option<Policy>, connection: &Connection, serial: u32, by_uid: u32) -> Policy {
        let before = before.unwrap_or(Policy::NONE);
        // The options of an earlier override are still to be set if no walk has come by since.
        let waiting = before.options_pushed != 0 && connection.awaits(&before);
        let options_pushed = u8::from(waiting || !self.is_lifetime());
        let mut policy = Policy { serial, by_uid, options_pushed, ..before };
        match *self {
            Self::KeepaliveEnable { idle_s, count, interval_s, user_timeout_ms } => {
                policy.options.keepalive = Setting::Set;
                policy.options.keepidle_s = idle_s;
                policy.options.keepcnt = count;
                policy.options.keepintvl_s = interval_s;
                if let Some(user_timeout_ms) = user_timeout_ms {
                    set_user_timeout(&mut policy.options, user_timeout_ms);
                }
            }
            Self::KeepaliveDisable => {
                policy.options = Options { keepalive: Setting::Clear, ..Options::NONE };
                // The user timeout of an override goes with its keepalive: the program gets its own back.
                if before.options.user_timeout != Setting::Leave {
                    set_user_timeout(&mut policy.options, connection.original.user_timeout_ms);
                }
            }
            Self::LifetimeSet { lifetime, jitter_percent } => {
                policy.lifetime_setting = Setting::Set;
                policy.lifetime = lifetime;
                policy.jitter_percent = jitter_percent;
                // Such connections are few, so the length of the limits does not matter.
                policy.tells = limit_begins::AT_ESTABLISHED;
            }
            Self::LifetimeClear => {
                policy.lifetime_setting = Setting::Clear;
                policy.lifetime = Lifetime::NONE;
                policy.jitter_percent = 0;
                policy.tells = 0;
            }
        }
        policy
    }
}

/// The text of the audit: what is wanted, with units.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::KeepaliveEnable { idle_s, count, interval_s, user_timeout_ms } => {
                write!(f, "keepalive on idle={idle_s}s count={count} interval={interval_s}s")?;
                match user_timeout_ms {
                    None => Ok(()),
                    Some(0) => f.write_str(" user_timeout=off"),
                    Some(ms) => write!(f, " user_timeout={:?}", Duration::from_millis(ms.into())),
                }
            }
            Self::KeepaliveDisable => f.write_str("keepalive off"),
            Self::LifetimeSet { lifetime, jitter_percent } => {
                f.write_str("lifetime")?;
                let limits = [
                    ("idle", lifetime.idle_ns),
                    ("max_age", lifetime.max_age_ns),
                    ("deadline_since_boot", lifetime.deadline_boot_ns),
                ];
                for (name, ns) in limits.into_iter().filter(|(_, ns)| *ns != 0) {
                    write!(f, " {name}={:?}", Duration::from_nanos(ns))?;
                }
                if jitter_percent != 0 {
                    write!(f, " jitter={jitter_percent}%")?;
                }
                Ok(())
            }
            Self::LifetimeClear => f.write_str("no lifetime"),
        }
    }
}

fn set_user_timeout(options: &mut Options, user_timeout_ms: u32) {
    options.user_timeout = if user_timeout_ms == 0 { Setting::Clear } else { Setting::Set };
    options.user_timeout_ms = user_timeout_ms;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::connection;

    const ENABLE: Change =
        Change::KeepaliveEnable { idle_s: 60, count: 5, interval_s: 5, user_timeout_ms: Some(85_000) };

    #[test]
    fn changes_add_up() {
        let connection = connection();
        let first = ENABLE.apply(None, &connection, 1, 1000);
        assert_eq!((first.serial, first.by_uid), (1, 1000));
        let lifetime = Lifetime { idle_ns: 5, ..Lifetime::NONE };
        let second = Change::LifetimeSet { lifetime, jitter_percent: 10 }.apply(Some(first), &connection, 2, 0);
        assert_eq!(second.options, first.options);
        assert_eq!((second.lifetime_in_force(), second.jitter_percent), (lifetime, 10));
        let third = Change::LifetimeClear.apply(Some(second), &connection, 3, 0);
        assert_eq!((third.lifetime_setting, third.jitter_percent), (Setting::Clear, 0));
        assert_eq!(third.options, first.options);
    }

    #[test]
    fn the_text_says_what_is_wanted() {
        let lifetime = Lifetime { idle_ns: 1_500_000_000, max_age_ns: 0, deadline_boot_ns: 7_000_000_000 };
        let changes = [
            (ENABLE, "keepalive on idle=60s count=5 interval=5s user_timeout=85s"),
            (
                Change::KeepaliveEnable { idle_s: 1, count: 2, interval_s: 3, user_timeout_ms: None },
                "keepalive on idle=1s count=2 interval=3s",
            ),
            (
                Change::KeepaliveEnable { idle_s: 1, count: 2, interval_s: 3, user_timeout_ms: Some(0) },
                "keepalive on idle=1s count=2 interval=3s user_timeout=off",
            ),
            (Change::KeepaliveDisable, "keepalive off"),
            (
                Change::LifetimeSet { lifetime, jitter_percent: 10 },
                "lifetime idle=1.5s deadline_since_boot=7s jitter=10%",
            ),
            (Change::LifetimeClear, "no lifetime"),
        ];
        for (change, text) in changes {
            assert_eq!(change.to_string(), text);
        }
    }

    #[test]
    fn a_lifetime_does_not_set_options_again_that_were_set() {
        let mut connection = connection();
        let options = ENABLE.apply(None, &connection, 1, 0);
        assert_eq!(options.options_pushed, 1);
        assert_eq!(Change::LifetimeClear.apply(Some(options), &connection, 2, 0).options_pushed, 1);
        connection.policy.serial = 1;
        assert_eq!(Change::LifetimeClear.apply(Some(options), &connection, 2, 0).options_pushed, 0);
    }

    #[test]
    fn disabling_gives_the_user_timeout_back() {
        let mut connection = connection();
        connection.original.user_timeout_ms = 7_000;
        let enabled = ENABLE.apply(None, &connection, 1, 0);
        let disabled = Change::KeepaliveDisable.apply(Some(enabled), &connection, 2, 0);
        assert_eq!(disabled.options.keepalive, Setting::Clear);
        assert_eq!((disabled.options.user_timeout, disabled.options.user_timeout_ms), (Setting::Set, 7_000));
    }

    #[test]
    fn disabling_leaves_a_user_timeout_that_no_override_set() {
        let disabled = Change::KeepaliveDisable.apply(None, &connection(), 1, 0);
        assert_eq!(disabled.options.user_timeout, Setting::Leave);
    }
}
