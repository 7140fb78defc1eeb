//! Policies: the socket options and lifetimes that are wanted of a connection, and the outcome of applying them.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

/// The setting of one part of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum Setting {
    /// The policy says nothing: the part stays as the program set it, or goes back to that.
    #[default]
    Leave = 0,
    /// The policy's values are wanted.
    Set = 1,
    /// The part is wanted off, whatever the program set.
    Clear = 2,
    /// The policy's values are wanted where the program has not set the part itself.
    Default = 3,
    /// The policy's values are wanted where they are tighter than the program's own.
    Floor = 4,
}

impl Setting {
    /// True if the policy says anything of the part.
    pub const fn speaks(self) -> bool {
        !matches!(self, Self::Leave)
    }
}

/// The limits of `setsockopt` for the options that a policy carries.
///
/// `TCP_KEEPIDLE` and `TCP_KEEPINTVL`: 1 to `MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` seconds; `TCP_KEEPCNT`: 1 to
/// `MAX_TCP_KEEPCNT` probes; `TCP_USER_TIMEOUT`: a non-negative int of milliseconds (kernel `include/net/tcp.h`,
/// `net/ipv4/tcp.c`).
pub mod limits {
    use core::ops::RangeInclusive;

    /// Seconds of `TCP_KEEPIDLE` and `TCP_KEEPINTVL`.
    pub const KEEPALIVE_SECONDS: RangeInclusive<u64> = 1..=32_767;
    /// Probes of `TCP_KEEPCNT`.
    pub const KEEPALIVE_COUNT: RangeInclusive<u64> = 1..=127;
    /// Milliseconds of `TCP_USER_TIMEOUT`; zero turns it off.
    pub const USER_TIMEOUT_MS: RangeInclusive<u64> = 0..=2_147_483_647;
    /// Seconds of the `idle` and `max_age` lifetimes: up to ten years, far beyond any use and far from overflow.
    pub const LIFETIME_SECONDS: RangeInclusive<u64> = 1..=315_360_000;
    /// Percent of jitter.
    pub const JITTER_PERCENT: RangeInclusive<u64> = 0..=100;
}

/// The socket options wanted of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Options {
    /// SO_KEEPALIVE and its parameters.
    pub keepalive: Setting,
    /// TCP_USER_TIMEOUT.
    pub user_timeout: Setting,
    /// TCP_KEEPCNT, probes.
    pub keepcnt: u8,
    /// Explicit padding.
    pub pad: u8,
    /// TCP_KEEPIDLE, seconds.
    pub keepidle_s: u16,
    /// TCP_KEEPINTVL, seconds.
    pub keepintvl_s: u16,
    /// TCP_USER_TIMEOUT, milliseconds.
    pub user_timeout_ms: u32,
}

impl Options {
    /// Nothing wanted.
    pub const NONE: Self = Self {
        keepalive: Setting::Leave,
        user_timeout: Setting::Leave,
        keepcnt: 0,
        pad: 0,
        keepidle_s: 0,
        keepintvl_s: 0,
        user_timeout_ms: 0,
    };

    /// True if the policy says anything of options.
    pub const fn any(&self) -> bool {
        self.keepalive.speaks() || self.user_timeout.speaks()
    }
}

/// The options as `getsockopt` reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketOptions {
    /// SO_KEEPALIVE: 0 or 1.
    pub keepalive: u8,
    /// TCP_KEEPCNT, probes.
    pub keepcnt: u8,
    /// TCP_KEEPIDLE, seconds.
    pub keepidle_s: u16,
    /// TCP_KEEPINTVL, seconds.
    pub keepintvl_s: u16,
    /// Explicit padding.
    pub pad: u16,
    /// TCP_USER_TIMEOUT, milliseconds; 0 is off.
    pub user_timeout_ms: u32,
}

impl SocketOptions {
    /// Everything off, nothing known.
    pub const NONE: Self = Self { keepalive: 0, keepcnt: 0, keepidle_s: 0, keepintvl_s: 0, pad: 0, user_timeout_ms: 0 };
}

/// The limits of a connection's life: the first that is reached closes it; zero means no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Lifetime {
    /// The nanoseconds that may pass with no byte sent or received.
    pub idle_ns: u64,
    /// The nanoseconds that may pass since the connection was established.
    pub max_age_ns: u64,
    /// The time of `CLOCK_BOOTTIME` at which it is over.
    pub deadline_boot_ns: u64,
}

impl Lifetime {
    /// No limit at all.
    pub const NONE: Self = Self { idle_ns: 0, max_age_ns: 0, deadline_boot_ns: 0 };

    /// True if no limit is set.
    pub const fn is_none(&self) -> bool {
        self.idle_ns == 0 && self.max_age_ns == 0 && self.deadline_boot_ns == 0
    }
}

/// The bits of [`Policy::tells`]: the moments at which a limit begins that may be over before the agent looks at all
/// connections next.
pub mod limit_begins {
    /// At connect(2): the time that the handshake may take.
    pub const AT_CONNECT: u8 = 1 << 0;
    /// At the end of the handshake.
    pub const AT_ESTABLISHED: u8 = 1 << 1;
    /// When one side has closed.
    pub const AT_HALF_CLOSED: u8 = 1 << 2;
}

/// Everything that is wanted of a connection, by a rule or by an override.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Policy {
    /// The socket options.
    pub options: Options,
    /// The setting of the lifetimes.
    pub lifetime_setting: Setting,
    /// 1 in an override that is to set options; one that changed lifetimes alone does not set them again. Unused in a
    /// rule's policy.
    pub options_pushed: u8,
    /// The bits of [`limit_begins`]: the moments at which the agent must be told of the connection.
    pub tells: u8,
    /// The most by which `idle` and `max_age` are made longer, percent. The conid decides the share of it, so that
    /// connections that began together do not end together.
    pub jitter_percent: u8,
    /// The number of an override, from 1, by which a walk knows which one it has applied; zero in a rule's policy.
    pub serial: u32,
    /// The uid that set the override, from `SO_PEERCRED`; meaningful where `serial` is not zero.
    pub by_uid: u32,
    /// The lifetimes, where the setting is [`Setting::Set`].
    pub lifetime: Lifetime,
}

impl Policy {
    /// Nothing wanted.
    pub const NONE: Self = Self {
        options: Options::NONE,
        lifetime_setting: Setting::Leave,
        options_pushed: 0,
        tells: 0,
        jitter_percent: 0,
        serial: 0,
        by_uid: 0,
        lifetime: Lifetime::NONE,
    };

    /// This policy with every part that the override speaks of replaced by the override's, and with its number and
    /// author.
    pub fn overridden_by(&self, override_: &Self) -> Self {
        let mut merged = *self;
        merged.override_with(override_);
        merged
    }

    /// [`Policy::overridden_by`] in place: the stack of the kernel programs is short.
    pub fn override_with(&mut self, override_: &Self) {
        self.serial = override_.serial;
        self.by_uid = override_.by_uid;
        if override_.options.keepalive.speaks() {
            self.options.keepalive = override_.options.keepalive;
            self.options.keepcnt = override_.options.keepcnt;
            self.options.keepidle_s = override_.options.keepidle_s;
            self.options.keepintvl_s = override_.options.keepintvl_s;
        }
        if override_.options.user_timeout.speaks() {
            self.options.user_timeout = override_.options.user_timeout;
            self.options.user_timeout_ms = override_.options.user_timeout_ms;
        }
        if override_.lifetime_setting.speaks() {
            self.lifetime_setting = override_.lifetime_setting;
            self.lifetime = override_.lifetime;
            self.jitter_percent = override_.jitter_percent;
            self.tells = override_.tells;
        }
    }

    /// The lifetimes in force under this policy: none unless they are set.
    pub fn lifetime_in_force(&self) -> Lifetime {
        if matches!(self.lifetime_setting, Setting::Set) { self.lifetime } else { Lifetime::NONE }
    }
}

/// A socket option that a policy sets, in the order in which they are applied: SO_KEEPALIVE comes last, since turning
/// it on starts the timer with the parameters then in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum TcpOption {
    /// No option.
    #[default]
    None = 0,
    /// TCP_USER_TIMEOUT of tcp(7).
    UserTimeout = 1,
    /// TCP_KEEPIDLE of tcp(7).
    KeepIdle = 2,
    /// TCP_KEEPINTVL of tcp(7).
    KeepIntvl = 3,
    /// TCP_KEEPCNT of tcp(7).
    KeepCnt = 4,
    /// SO_KEEPALIVE of socket(7).
    KeepAlive = 5,
}

/// The source of a part of the policy in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum Source {
    /// No policy is in force.
    #[default]
    None = 0,
    /// The rule named in the connection's entry.
    Rule = 1,
    /// An override, set for this one connection.
    Override = 2,
}

/// The outcome of applying the options last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u8)]
pub enum Outcome {
    /// Nothing was applied yet.
    #[default]
    Untouched = 0,
    /// Every option was taken.
    Applied = 1,
    /// The kernel refused an option; the entry says which, and with what errno.
    Refused = 2,
    /// Nothing is set: the program has set the options itself, and the rule leaves them to such programs.
    Yielded = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_replaces_only_what_it_speaks_of() {
        let rule = Policy {
            options: Options {
                keepalive: Setting::Set,
                keepidle_s: 60,
                keepintvl_s: 5,
                keepcnt: 5,
                user_timeout: Setting::Set,
                user_timeout_ms: 85_000,
                ..Options::default()
            },
            ..Policy::default()
        };
        let lifetime = Policy {
            lifetime_setting: Setting::Set,
            lifetime: Lifetime { idle_ns: 7, ..Lifetime::NONE },
            ..Policy::default()
        };
        let merged = rule.overridden_by(&lifetime);
        assert_eq!(merged.options, rule.options);
        assert_eq!(merged.lifetime_in_force().idle_ns, 7);

        let off = Policy { options: Options { keepalive: Setting::Clear, ..Options::default() }, ..Policy::default() };
        let merged = merged.overridden_by(&off);
        assert_eq!(merged.options.keepalive, Setting::Clear);
        assert_eq!(merged.options.user_timeout_ms, 85_000);
        assert_eq!(merged.lifetime_in_force().idle_ns, 7);
    }

    #[test]
    fn a_cleared_lifetime_is_none() {
        let cleared = Policy { lifetime_setting: Setting::Clear, ..Policy::default() };
        let rule = Policy {
            lifetime_setting: Setting::Set,
            lifetime: Lifetime { max_age_ns: 1, ..Lifetime::NONE },
            ..Policy::default()
        };
        assert!(rule.overridden_by(&cleared).lifetime_in_force().is_none());
    }
}
