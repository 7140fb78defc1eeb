//! Durations, keepalive and lifetimes as short text for people.

use jiff::fmt::friendly::{FractionalUnit, Spacing, SpanPrinter};
use jiff::{RoundMode, Span, SpanRound, Timestamp, Unit};

use crate::api::keepalive::SocketOptions;
use crate::api::lifetime::Lifetime;
use crate::api::policy::Wanted;
use crate::api::values::{Manner, Mode};

/// Stands in for a value that is not there.
pub(crate) const NOTHING: &str = "-";

const PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None).fractional(Some(FractionalUnit::Second));

/// A duration to the millisecond: `90s` is `1m30s`.
pub(crate) fn duration(seconds: f64) -> String {
    print(seconds, Unit::Millisecond, 1)
}

/// A duration in its two greatest units, such as `5m12s`.
pub(crate) fn age(seconds: f64) -> String {
    match seconds {
        ..10.0 => print(seconds, Unit::Millisecond, 100),
        ..3600.0 => print(seconds, Unit::Second, 1),
        ..86400.0 => print(seconds, Unit::Minute, 1),
        _ => print(seconds, Unit::Hour, 1),
    }
}

fn print(seconds: f64, smallest: Unit, increment: i64) -> String {
    let round = SpanRound::new()
        .largest(Unit::Day)
        .smallest(smallest)
        .increment(increment)
        .mode(RoundMode::Trunc)
        .days_are_24_hours();
    // The cast saturates, far beyond any duration that a span can hold.
    let ms = (seconds * 1000.0).round() as i64;
    match Span::new().try_milliseconds(ms).and_then(|span| span.round(round)) {
        Ok(span) => PRINTER.span_to_string(&span),
        Err(_beyond) => format!("{seconds}s"),
    }
}

/// A TCP_USER_TIMEOUT.
pub(crate) fn user_timeout(ms: u32) -> String {
    if ms == 0 { "off".to_owned() } else { duration(f64::from(ms) / 1000.0) }
}

/// Keepalive parameters: after `idle` seconds `count` probes `interval` seconds apart.
pub(crate) fn keepalive(idle_s: u16, count: u8, interval_s: u16) -> String {
    format!("{idle_s}s/{count}x{interval_s}s")
}

/// The keepalive of a socket: its parameters where it is on.
pub(crate) fn keepalive_of(options: &SocketOptions) -> String {
    if options.keepalive {
        keepalive(options.idle_seconds, options.count, options.interval_seconds)
    } else {
        "off".to_owned()
    }
}

/// All options, also the parameters of a keepalive that is off.
pub(crate) fn options(options: &SocketOptions) -> String {
    format!(
        "keepalive {} ({}), user timeout {}",
        if options.keepalive { "on" } else { "off" },
        keepalive(options.idle_seconds, options.count, options.interval_seconds),
        user_timeout(options.user_timeout_ms)
    )
}

/// A number of things: `1 rule`, `2 rules`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The parts that are there, with `separator` between them.
pub(crate) fn join<const N: usize>(parts: [Option<String>; N], separator: &str) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(separator)
}

/// The value, or [`NOTHING`].
pub(crate) fn or_nothing(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

pub(crate) fn wanted_keepalive(wanted: &Wanted) -> String {
    let text = match (wanted.keepalive, wanted.idle_seconds, wanted.count, wanted.interval_seconds) {
        (Some(true), Some(idle), Some(count), Some(interval)) => keepalive(idle, count, interval),
        (Some(true), ..) => "on".to_owned(),
        (Some(false), ..) => "off".to_owned(),
        (None, ..) => NOTHING.to_owned(),
    };
    with_mode(text, wanted.keepalive_mode)
}

pub(crate) fn wanted_user_timeout(wanted: &Wanted) -> String {
    with_mode(or_nothing(wanted.user_timeout_ms.map(user_timeout)), wanted.user_timeout_mode)
}

/// `text` with the mode of the rule, where it is not the one that replaces what the program set.
pub(crate) fn with_mode(text: String, mode: Option<Mode>) -> String {
    match mode {
        Some(mode) => format!("{text} ({mode})"),
        None => text,
    }
}

/// A lifetime that a rule or an override asks for: `none` where it takes all limits off.
pub(crate) fn wanted_lifetime(wanted: &Lifetime) -> String {
    if *wanted == Lifetime::default() { "none".to_owned() } else { lifetime(wanted) }
}

/// The limits of a lifetime.
pub(crate) fn lifetime(lifetime: &Lifetime) -> String {
    let Lifetime { idle_seconds, max_age_seconds, deadline, jitter_percent } = *lifetime;
    let limits = join(
        [
            idle_seconds.map(|seconds| format!("idle {}", duration(seconds))),
            max_age_seconds.map(|seconds| format!("max {}", duration(seconds))),
            jitter_percent.map(|percent| format!("jitter {percent}%")),
            deadline.map(|deadline| format!("until {}", time(deadline))),
        ],
        ", ",
    );
    if limits.is_empty() { NOTHING.to_owned() } else { limits }
}

/// The way in which a connection was closed; `detail` says why it got no FIN.
pub(crate) fn closed(close: Option<Manner>, reset_at: Option<Timestamp>, detail: Option<&str>) -> String {
    match (close, reset_at) {
        (Some(Manner::Fin), Some(reset_at)) => format!("sent a FIN; reset at {}", time(reset_at)),
        (Some(Manner::Fin), None) => "sent a FIN".to_owned(),
        (Some(Manner::Reset), _) => format!("reset: {}", detail.unwrap_or("no FIN could be sent")),
        (None, _) => "closed".to_owned(),
    }
}

/// A time, rounded to a second: the conversion from the boot clock to the wall clock loses some nanoseconds.
pub(crate) fn time(time: Timestamp) -> String {
    let rounded = time.round(Unit::Second).unwrap_or(time);
    format!("{rounded:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.001, "0.001s"),
            (1.5, "1.5s"),
            (60.0, "1m"),
            (90.0, "1m30s"),
            (300.0, "5m"),
            (5400.0, "1h30m"),
            (86_400.0, "1d"),
            (604_861.25, "7d1m1.25s"),
            (315_360_000.0, "3650d"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(duration(f64::MAX), format!("{}s", f64::MAX));
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.04, "0s"),
            (0.35, "0.3s"),
            (9.99, "9.9s"),
            (59.9, "59s"),
            (312.7, "5m12s"),
            (3599.9, "59m59s"),
            (3661.0, "1h1m"),
            (86_399.0, "23h59m"),
            (277_200.0, "3d5h"),
        ] {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn keepalive_and_lifetimes() {
        assert_eq!(keepalive(60, 5, 5), "60s/5x5s");
        assert_eq!(user_timeout(0), "off");
        assert_eq!(user_timeout(85_000), "1m25s");
        assert_eq!(lifetime(&Lifetime::default()), "-");
        let deadline = Some("2026-12-24T18:00:00.25Z".parse().unwrap());
        assert_eq!(time("2029-12-31T23:59:59.999999871Z".parse().unwrap()), "2030-01-01T00:00:00Z");
        assert_eq!(time(Timestamp::MAX), "9999-12-30T22:00:00Z");
        let (idle_seconds, max_age_seconds) = (Some(300.0), Some(3600.0));
        let all = Lifetime { idle_seconds, max_age_seconds, deadline, jitter_percent: Some(10) };
        assert_eq!(lifetime(&all), "idle 5m, max 1h, jitter 10%, until 2026-12-24T18:00:00Z");
    }
}
