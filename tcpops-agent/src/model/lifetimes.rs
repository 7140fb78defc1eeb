//! When a connection is to be closed: pure arithmetic on what its entry and the kernel say.

use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::policy::Lifetime;
use tcpops_common::state::TcpState;

/// Why a connection's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// No byte was sent or received for as long as its `idle` lifetime.
    Idle,
    /// It has been established for as long as its `max_age`.
    MaxAge,
    /// Its deadline has come.
    Deadline,
}

impl Expiry {
    /// The name of the lifetime.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MaxAge => "max_age",
            Self::Deadline => "deadline",
        }
    }
}

/// What matters of a connection here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The connection.
    pub key: ConnKey,
    /// When its handshake ended; zero if it has not.
    pub established_boot_ns: u64,
    /// The limits in force.
    pub lifetime: Lifetime,
}

impl Subject {
    /// Of a connection's entry; `None` where it has no limits, or is none that can be closed.
    pub fn of(key: ConnKey, connection: &Connection) -> Option<Self> {
        let lifetime = connection.policy.lifetime_in_force();
        let closable = connection.direction != Direction::Listen
            && !matches!(connection.state, TcpState::Close | TcpState::TimeWait | TcpState::Listen);
        (closable && !lifetime.is_none()).then_some(Self {
            key,
            established_boot_ns: connection.established_boot_ns,
            lifetime,
        })
    }
}

/// What is to be done about a connection's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing now, and nothing to wait for: the handshake is not over, and an event will tell.
    Wait,
    /// Nothing before this time.
    At(u64),
    /// The idle time must be read: it may be over.
    LookIdle,
    /// Close it.
    Expired(Expiry),
}

/// Judges a connection. `idle_ns` is how long ago the last byte was, where that has been read.
///
/// A connection cannot have been idle for longer than it has been established, so nothing is read before that much time
/// has passed, and traffic costs nothing.
pub fn judge(subject: &Subject, idle_ns: Option<u64>, now_boot_ns: u64) -> Verdict {
    let Lifetime { idle_ns: idle_limit_ns, max_age_ns, deadline_boot_ns } = subject.lifetime;
    let established = subject.established_boot_ns;
    let after = |start: u64, limit: u64| (start != 0 && limit != 0).then(|| start.saturating_add(limit));
    let deadline_at = (deadline_boot_ns != 0).then_some(deadline_boot_ns);
    let max_age_at = after(established, max_age_ns);
    // The last byte was at or after the end of the handshake.
    let last_byte = idle_ns.map_or(established, |idle_ns| now_boot_ns.saturating_sub(idle_ns).max(established));
    let idle_at = after(if established == 0 { 0 } else { last_byte }, idle_limit_ns);

    let due = |at: Option<u64>| at.is_some_and(|at| at <= now_boot_ns);
    if due(deadline_at) {
        return Verdict::Expired(Expiry::Deadline);
    }
    if due(max_age_at) {
        return Verdict::Expired(Expiry::MaxAge);
    }
    if due(idle_at) {
        return if idle_ns.is_some() { Verdict::Expired(Expiry::Idle) } else { Verdict::LookIdle };
    }
    [deadline_at, max_age_at, idle_at].into_iter().flatten().min().map_or(Verdict::Wait, Verdict::At)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: ConnKey = ConnKey { cookie: 1, conid: 1 };

    fn subject(established_boot_ns: u64, lifetime: Lifetime) -> Subject {
        Subject { key: KEY, established_boot_ns, lifetime }
    }

    #[test]
    fn max_age_counts_from_the_handshake() {
        let subject = subject(100, Lifetime { max_age_ns: 50, ..Lifetime::NONE });
        assert_eq!(judge(&subject, None, 149), Verdict::At(150));
        assert_eq!(judge(&subject, None, 150), Verdict::Expired(Expiry::MaxAge));
    }

    #[test]
    fn nothing_but_a_deadline_counts_before_the_handshake() {
        let limits = Lifetime { idle_ns: 1, max_age_ns: 1, deadline_boot_ns: 0 };
        assert_eq!(judge(&subject(0, limits), None, 1_000), Verdict::Wait);
        let deadline = Lifetime { deadline_boot_ns: 500, ..limits };
        assert_eq!(judge(&subject(0, deadline), None, 499), Verdict::At(500));
        assert_eq!(judge(&subject(0, deadline), None, 500), Verdict::Expired(Expiry::Deadline));
    }

    #[test]
    fn idle_is_read_only_when_it_can_be_over() {
        let subject = subject(100, Lifetime { idle_ns: 50, ..Lifetime::NONE });
        assert_eq!(judge(&subject, None, 149), Verdict::At(150));
        assert_eq!(judge(&subject, None, 150), Verdict::LookIdle);
        assert_eq!(judge(&subject, Some(50), 150), Verdict::Expired(Expiry::Idle));
        assert_eq!(judge(&subject, Some(10), 150), Verdict::At(190));
        // The kernel's clock for idleness may have started before the handshake ended.
        assert_eq!(judge(&subject, Some(60), 120), Verdict::At(150));
    }

    proptest! {
        #[test]
        fn never_early_and_never_late(
            established in 1_u64..1_000, idle in 0_u64..1_000, max_age in 0_u64..1_000, deadline in 0_u64..3_000,
            idle_for in 0_u64..1_000, now in 1_u64..4_000,
        ) {
            prop_assume!(now >= established);
            let lifetime = Lifetime { idle_ns: idle, max_age_ns: max_age, deadline_boot_ns: deadline };
            let subject = subject(established, lifetime);
            let idle_for = idle_for.min(now - established);
            let over = [
                (idle != 0 && idle_for >= idle, Expiry::Idle),
                (max_age != 0 && now - established >= max_age, Expiry::MaxAge),
                (deadline != 0 && now >= deadline, Expiry::Deadline),
            ];
            match judge(&subject, Some(idle_for), now) {
                Verdict::Expired(expiry) => prop_assert!(over.contains(&(true, expiry))),
                Verdict::At(at) => {
                    prop_assert!(over.iter().all(|(over, _)| !over));
                    prop_assert!(at > now);
                    // At that time it is over, if no byte comes meanwhile; a moment before it is not.
                    prop_assert!(matches!(judge(&subject, Some(idle_for + (at - now)), at), Verdict::Expired(_)));
                    prop_assert!(matches!(judge(&subject, Some(idle_for + (at - now - 1)), at - 1), Verdict::At(_)));
                }
                Verdict::Wait => prop_assert!(lifetime.is_none()),
                Verdict::LookIdle => prop_assert!(false, "the idle time was given"),
            }
        }
    }
}
