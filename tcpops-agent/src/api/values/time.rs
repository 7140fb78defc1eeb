//! Durations, with the limits of `setsockopt` and of the lifetimes.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use jiff::{SignedDuration, SpanRelativeTo};
use serde_with::SerializeDisplay;
use tcpops_common::policy::limits;
use utoipa::openapi::ObjectBuilder;

use super::numbers::KeepaliveCount;
use super::read::{Found, ValueError, Written, text};

const NS_PER_MS: u64 = 1_000_000;
const MS_PER_SECOND: u64 = 1_000;
const LIFETIME_MS: RangeInclusive<u64> =
    *limits::LIFETIME_SECONDS.start() * MS_PER_SECOND..=*limits::LIFETIME_SECONDS.end() * MS_PER_SECOND;

/// A keepalive time (`idle` or `interval`): whole seconds within [`limits::KEEPALIVE_SECONDS`]; "60s", "5m".
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay)]
pub(crate) struct KeepaliveTime(u16);

impl KeepaliveTime {
    /// The time of a number of seconds, if it is within the limits.
    pub(crate) fn from_seconds(seconds: u64) -> Option<Self> {
        let within = limits::KEEPALIVE_SECONDS.contains(&seconds);
        u16::try_from(seconds).ok().filter(|_| within).map(Self)
    }

    /// The time, seconds.
    pub(crate) const fn seconds(self) -> u16 {
        self.0
    }
}

text!(KeepaliveTime, "a duration of 1s to 32767s such as \"60s\"", ObjectBuilder::new().examples(["60s", "5m"]));

impl FromStr for KeepaliveTime {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = || Self::refuse(Found::Text(text));
        let duration = parse(text).ok_or_else(refused)?;
        if duration.subsec_nanos() != 0 {
            return Err(ValueError::new("a duration of whole seconds such as \"60s\"", Found::Text(text)));
        }
        u64::try_from(duration.as_secs()).ok().and_then(Self::from_seconds).ok_or_else(refused)
    }
}

impl fmt::Display for KeepaliveTime {
    /// In seconds, as `ss -o` and setsockopt have it: what forgets connections is known as "350 s", not as "5m 50s".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// A lifetime: whole milliseconds within [`limits::LIFETIME_SECONDS`]; "90s", "1h 30m", "7d", "1500ms".
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay)]
pub(crate) struct LifetimeDuration {
    ms: u64,
}

impl LifetimeDuration {
    /// The lifetime of a number of milliseconds, if it is within the limits.
    pub(crate) fn from_millis(ms: u64) -> Option<Self> {
        LIFETIME_MS.contains(&ms).then_some(Self { ms })
    }

    /// The lifetime, milliseconds.
    pub(crate) const fn as_millis(self) -> u64 {
        self.ms
    }

    /// The lifetime, nanoseconds.
    pub(crate) const fn as_nanos(self) -> u64 {
        self.ms * NS_PER_MS
    }
}

text!(
    LifetimeDuration,
    "a duration of 1s to 3650d such as \"1h 30m\"",
    ObjectBuilder::new().examples(["90s", "1h 30m", "7d"])
);

impl FromStr for LifetimeDuration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse_ms(text, Self::from_millis)
    }
}

impl fmt::Display for LifetimeDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print_ms(self.ms))
    }
}

/// `TCP_USER_TIMEOUT` as it is asked for: "auto", "off", or a duration such as "30s".
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay)]
pub(crate) enum UserTimeout {
    /// The time that the keepalive beside it takes to give up: idle + interval * count.
    Auto,
    /// None, whatever the program set.
    Off,
    /// Milliseconds, from 1 to the end of [`limits::USER_TIMEOUT_MS`]; see [`UserTimeout::from_millis`].
    After(u32),
}

impl UserTimeout {
    /// The timeout of a number of milliseconds, if it is within the limits; zero is off, as it is for `setsockopt`.
    pub(crate) fn from_millis(ms: u64) -> Option<Self> {
        let ms = u32::try_from(ms).ok().filter(|_| limits::USER_TIMEOUT_MS.contains(&ms))?;
        Some(if ms == 0 { Self::Off } else { Self::After(ms) })
    }

    /// The value of "auto" beside a keepalive, milliseconds: idle + interval * count.
    ///
    /// # Errors
    /// Where the sum is more than `setsockopt` takes (24 days).
    pub(crate) fn auto_ms(
        idle: KeepaliveTime,
        count: KeepaliveCount,
        interval: KeepaliveTime,
    ) -> Result<u32, ValueError> {
        let seconds = u64::from(idle.0) + u64::from(interval.0) * u64::from(count.get());
        let limit = *limits::USER_TIMEOUT_MS.end() / MS_PER_SECOND;
        match u32::try_from(seconds * MS_PER_SECOND) {
            Ok(ms) if limits::USER_TIMEOUT_MS.contains(&u64::from(ms)) => Ok(ms),
            _ => Err(ValueError::new(
                format_args!("idle + interval * count of at most {limit}s for a user timeout of \"auto\""),
                format_args!("{seconds}s"),
            )),
        }
    }
}

text!(
    UserTimeout,
    "\"auto\", \"off\" or a duration of 1ms to 2147483647ms such as \"30s\"",
    ObjectBuilder::new().examples(["auto", "off", "30s"])
);

impl FromStr for UserTimeout {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => parse_ms(text, |ms| Self::from_millis(ms).filter(|timeout| *timeout != Self::Off)),
        }
    }
}

impl fmt::Display for UserTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::After(ms) => f.write_str(&print_ms(ms.into())),
        }
    }
}

/// A duration with its units; days have 24 hours, weeks seven days; months and years are no durations.
fn parse(text: &str) -> Option<SignedDuration> {
    let span = SpanParser::new().parse_span(text).ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
}

/// A duration of whole milliseconds, of which `make` takes the number.
fn parse_ms<T: Written>(text: &str, make: impl FnOnce(u64) -> Option<T>) -> Result<T, ValueError> {
    let refused = || T::refuse(Found::Text(text));
    let duration = parse(text).ok_or_else(refused)?;
    if u64::from(duration.subsec_nanos().unsigned_abs()) % NS_PER_MS != 0 {
        return Err(ValueError::new("a duration of whole milliseconds such as \"1500ms\"", Found::Text(text)));
    }
    u64::try_from(duration.as_millis()).ok().and_then(make).ok_or_else(refused)
}

fn print_ms(ms: u64) -> String {
    let ms = i64::try_from(ms).expect("all limits are far below 2^63 ms");
    SpanPrinter::new().duration_to_string(&SignedDuration::from_millis(ms))
}

#[cfg(test)]
mod tests;
