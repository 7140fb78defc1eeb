//! The table of the socket options that policies can set. A new option is a row here, and a field of [`SocketOptions`]
//! and of [`Options`].

use core::ops::RangeInclusive;

use strum::{IntoStaticStr, VariantArray};

use crate::policy::{Options, Setting, SocketOptions, TcpOption, limits};

/// The level of the options of socket(7).
const SOL_SOCKET: i32 = 1;
/// The level of the options of tcp(7).
pub const SOL_TCP: i32 = 6;

/// The options that a policy speaks of together, with one [`Setting`]. The number is a bit of
/// [`Connection::own`](crate::conn::Connection::own).
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Part {
    /// SO_KEEPALIVE and its parameters.
    Keepalive = 1,
    /// TCP_USER_TIMEOUT.
    UserTimeout = 2,
}

impl Part {
    /// Every part.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A row of the table.
struct Facts {
    /// The name of the constant in socket(7) and tcp(7).
    name: &'static str,
    /// Level and number, for setsockopt(2).
    constants: (i32, i32),
    part: Part,
    /// The values that the kernel takes (`sk_setsockopt` of net/core/sock.c, `do_tcp_setsockopt` of net/ipv4/tcp.c).
    /// Zero, where it is among them, turns the option off.
    values: RangeInclusive<u64>,
}

const fn row(name: &'static str, constants: (i32, i32), part: Part, values: RangeInclusive<u64>) -> Facts {
    Facts { name, constants, part, values }
}

impl TcpOption {
    /// Every option, in the order in which they are set.
    pub const ORDER: [Self; 5] = [Self::UserTimeout, Self::KeepIdle, Self::KeepIntvl, Self::KeepCnt, Self::KeepAlive];

    #[inline(always)]
    const fn facts(self) -> Facts {
        const ANY_NUMBER: RangeInclusive<u64> = 0..=u32::MAX as u64;
        match self {
            Self::None => row("none", (0, 0), Part::Keepalive, 0..=0),
            Self::UserTimeout => row("TCP_USER_TIMEOUT", (SOL_TCP, 18), Part::UserTimeout, limits::USER_TIMEOUT_MS),
            Self::KeepIdle => row("TCP_KEEPIDLE", (SOL_TCP, 4), Part::Keepalive, limits::KEEPALIVE_SECONDS),
            Self::KeepIntvl => row("TCP_KEEPINTVL", (SOL_TCP, 5), Part::Keepalive, limits::KEEPALIVE_SECONDS),
            Self::KeepCnt => row("TCP_KEEPCNT", (SOL_TCP, 6), Part::Keepalive, limits::KEEPALIVE_COUNT),
            Self::KeepAlive => row("SO_KEEPALIVE", (SOL_SOCKET, 9), Part::Keepalive, ANY_NUMBER),
        }
    }

    /// The name of the constant in socket(7) and tcp(7).
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Level and number, for setsockopt(2).
    pub const fn constants(self) -> (i32, i32) {
        self.facts().constants
    }

    /// The option with this level and number, if policies can set it.
    pub fn from_constants(level: i32, number: i32) -> Option<Self> {
        Self::ORDER.into_iter().find(|option| option.constants() == (level, number))
    }

    /// The part of a policy that speaks of it.
    pub const fn part(self) -> Part {
        self.facts().part
    }

    /// True if the kernel takes this value.
    pub fn takes(self, value: u32) -> bool {
        self.facts().values.contains(&u64::from(value))
    }

    /// True if zero turns it off.
    pub fn can_be_off(self) -> bool {
        self.takes(0)
    }

    /// Its bit in [`Connection::touched`](crate::conn::Connection::touched).
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Options {
    /// The setting of a part.
    pub const fn setting(&self, part: Part) -> Setting {
        match part {
            Part::Keepalive => self.keepalive,
            Part::UserTimeout => self.user_timeout,
        }
    }

    /// The value for an option, where the setting of its part calls for one.
    pub const fn get(&self, option: TcpOption) -> u32 {
        match option {
            TcpOption::None => 0,
            TcpOption::UserTimeout => self.user_timeout_ms,
            TcpOption::KeepIdle => self.keepidle_s as u32,
            TcpOption::KeepIntvl => self.keepintvl_s as u32,
            TcpOption::KeepCnt => self.keepcnt as u32,
            TcpOption::KeepAlive => 1,
        }
    }
}

impl SocketOptions {
    /// The value of an option.
    pub const fn get(&self, option: TcpOption) -> u32 {
        match option {
            TcpOption::None => 0,
            TcpOption::UserTimeout => self.user_timeout_ms,
            TcpOption::KeepIdle => self.keepidle_s as u32,
            TcpOption::KeepIntvl => self.keepintvl_s as u32,
            TcpOption::KeepCnt => self.keepcnt as u32,
            TcpOption::KeepAlive => self.keepalive as u32,
        }
    }

    /// Writes the value of an option.
    pub const fn set(&mut self, option: TcpOption, value: u32) {
        match option {
            TcpOption::None => {}
            TcpOption::UserTimeout => self.user_timeout_ms = value,
            TcpOption::KeepIdle => self.keepidle_s = value as u16,
            TcpOption::KeepIntvl => self.keepintvl_s = value as u16,
            TcpOption::KeepCnt => self.keepcnt = value as u8,
            TcpOption::KeepAlive => self.keepalive = (value != 0) as u8,
        }
    }
}
