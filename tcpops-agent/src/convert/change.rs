//! Changes and closes from the protocol to the model, and the outcome of a close back.

use tcpops_common::policy::{Lifetime, limits};

use crate::api::close::{self as api, CloseQuery};
use crate::api::keepalive::KeepaliveRequest;
use crate::api::lifetime::LifetimeRequest;
use crate::api::values::{self, JitterPercent, LifetimeSeconds, UserTimeoutMs, ValueError};
use crate::clocks::Clocks;
use crate::model::expiry::closing::{Closed, Manner};
use crate::model::requests::policies::Change;

const NS_PER_SECOND: f64 = 1e9;
/// The time between a FIN and a reset, unless the request has another.
const GRACE_NS: u64 = 10_000_000_000;

/// The change that a request for keepalive makes.
pub(crate) fn keepalive_change(request: &KeepaliveRequest) -> Change {
    Change::KeepaliveEnable {
        idle_s: request.idle_seconds.get(),
        count: request.count.get(),
        interval_s: request.interval_seconds.get(),
        user_timeout_ms: request.user_timeout_ms.map(UserTimeoutMs::get),
    }
}

/// The change that a request for lifetimes makes.
///
/// # Errors
/// Fails without a limit, with jitter alone beside a deadline, and with a deadline that is not within the next ten
/// years.
pub(crate) fn lifetime_change(request: &LifetimeRequest, clocks: Clocks) -> Result<Change, ValueError> {
    let LifetimeRequest { idle_seconds, max_age_seconds, deadline, jitter_percent } = *request;
    match (idle_seconds.or(max_age_seconds), deadline, jitter_percent) {
        (None, None, _) => {
            let expected = "at least one of idle_seconds, max_age_seconds and deadline";
            return Err(ValueError::new(expected, "none"));
        }
        (None, Some(_), Some(_)) => {
            return Err(ValueError::new("idle_seconds or max_age_seconds beside jitter_percent", "neither"));
        }
        _ => {}
    }
    let ns = |seconds: Option<LifetimeSeconds>| seconds.map_or(0, |seconds| (seconds.0 * NS_PER_SECOND) as u64);
    let deadline_boot_ns = match deadline {
        None => 0,
        Some(deadline) => {
            let latest_ns = clocks.boot_ns + limits::LIFETIME_SECONDS.end() * 1_000_000_000;
            clocks
                .future_boot_ns(deadline)
                .filter(|at| *at <= latest_ns)
                .ok_or_else(|| ValueError::new("a deadline in the future and within ten years", deadline))?
        }
    };
    Ok(Change::LifetimeSet {
        lifetime: Lifetime { idle_ns: ns(idle_seconds), max_age_ns: ns(max_age_seconds), deadline_boot_ns },
        jitter_percent: jitter_percent.map_or(0, JitterPercent::get),
    })
}

/// The manner of a close.
///
/// # Errors
/// Fails with a grace and no FIN.
pub(crate) fn manner(query: &CloseQuery) -> Result<Manner, ValueError> {
    match (query.close, query.grace_seconds) {
        (values::Manner::Reset, None) => Ok(Manner::Reset),
        (values::Manner::Reset, Some(_)) => Err(ValueError::new("close=fin beside it", "a reset").of("grace_seconds")),
        (values::Manner::Fin, grace) => {
            let grace_ns = grace.map_or(GRACE_NS, |grace| (grace.0 * NS_PER_SECOND) as u64);
            Ok(Manner::Fin { grace_ns })
        }
    }
}

/// The answer to a close in the manner `wanted`.
pub(crate) fn closed(conid: u64, wanted: values::Manner, closed: Closed, clocks: Clocks) -> api::Closed {
    let (close, reset_at, detail) = match (wanted, closed) {
        (values::Manner::Reset, _) => (None, None, None),
        (values::Manner::Fin, Closed::Reset(no_fin)) => (Some(values::Manner::Reset), None, no_fin.map(str::to_owned)),
        (values::Manner::Fin, Closed::Fin(at_boot_ns)) => (Some(values::Manner::Fin), clocks.date(at_boot_ns), None),
    };
    api::Closed { conid, close, reset_at, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCKS: Clocks = Clocks { wall_ns: 1_700_000_000_000_000_000, boot_ns: 10_000_000_000 };

    #[test]
    fn lifetimes_are_checked() {
        let change = |text: &str| lifetime_change(&serde_json::from_str(text).unwrap(), CLOCKS);
        assert!(change("{}").unwrap_err().to_string().contains("at least one"));
        assert!(change(r#"{"deadline": "2001-01-01T00:00:00Z"}"#).unwrap_err().to_string().contains("future"));
        assert!(change(r#"{"deadline": "2101-01-01T00:00:00Z"}"#).unwrap_err().to_string().contains("ten years"));
        let lifetime = Lifetime { idle_ns: 1_500_000_000, max_age_ns: 60_000_000_000, deadline_boot_ns: 0 };
        let exact = Change::LifetimeSet { lifetime, jitter_percent: 0 };
        assert_eq!(change(r#"{"idle_seconds": 1.5, "max_age_seconds": 60}"#), Ok(exact));
        let spread = Change::LifetimeSet { lifetime, jitter_percent: 25 };
        assert_eq!(change(r#"{"idle_seconds": 1.5, "max_age_seconds": 60, "jitter_percent": 25}"#), Ok(spread));
        assert!(change(r#"{"jitter_percent": 25}"#).unwrap_err().to_string().contains("at least one"));
        let alone = change(r#"{"deadline": "2024-01-01T00:00:00Z", "jitter_percent": 25}"#).unwrap_err().to_string();
        assert_eq!(alone, "expected idle_seconds or max_age_seconds beside jitter_percent, found neither");
    }
}
