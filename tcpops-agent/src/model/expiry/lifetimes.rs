//! When a connection's time is over: arithmetic on its entry and on what the kernel says of its traffic.

use strum::IntoStaticStr;
use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::policy::{Policy, Setting, Source};
use tcpops_common::state::TcpState;

use crate::model::expiry::closing::{ClosePolicy, Manner};

/// Why a connection's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Expiry {
    /// No byte was sent or received for as long as its `idle` lifetime.
    Idle,
    /// It has been established for as long as its `max_age`.
    MaxAge,
    /// Its deadline has come.
    Deadline,
    /// It was accepted, and the peer has sent no byte for as long as its rule allows.
    FirstByte,
    /// One side has closed, and the other has not within the time that its rule allows.
    HalfClosed,
    /// Its handshake has taken longer than its rule allows.
    Connect,
}

impl Expiry {
    /// The name of the limit.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }

    /// True if traffic postpones it, so that the traffic must be read before it is believed.
    pub(crate) const fn moves_with_traffic(self) -> bool {
        matches!(self, Self::Idle | Self::FirstByte)
    }

    /// Its place in a set of expiries.
    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The limits in force on one connection, jitter included: nanoseconds, zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest time with no byte sent or received.
    pub(crate) idle_ns: u64,
    /// The longest time since the handshake.
    pub(crate) max_age_ns: u64,
    /// The time since boot at which it ends.
    pub(crate) deadline_boot_ns: u64,
    /// The longest time since the handshake with no byte from the peer.
    pub(crate) first_byte_ns: u64,
    /// The longest time in CLOSE_WAIT or FIN_WAIT2.
    pub(crate) half_closed_ns: u64,
    /// The longest time in SYN_SENT.
    pub(crate) connect_ns: u64,
}

impl Limits {
    /// The lifetimes of a policy and the other limits of its rule; none unless the policy sets lifetimes.
    fn of(policy: &Policy, rule: Option<&ClosePolicy>, conid: u64) -> Self {
        if policy.lifetime_setting != Setting::Set {
            return Self::default();
        }
        let jittered = |ns| lengthened(ns, policy.jitter_percent, conid);
        let rule = rule.unwrap_or(&ClosePolicy::DEFAULT);
        Self {
            idle_ns: jittered(policy.lifetime.idle_ns),
            max_age_ns: jittered(policy.lifetime.max_age_ns),
            deadline_boot_ns: policy.lifetime.deadline_boot_ns,
            first_byte_ns: rule.first_byte_ns,
            half_closed_ns: rule.half_closed_ns,
            connect_ns: rule.connect_ns,
        }
    }
}

/// Adds jitter to a limit: up to `percent`, derived from the conid so that it stays the same after a restart. The limit
/// never gets shorter, so that nothing is closed before the time that was asked for.
fn lengthened(ns: u64, percent: u8, conid: u64) -> u64 {
    if percent == 0 {
        return ns;
    }
    let share = mixed(conid) >> 32;
    let more = u128::from(ns) * u128::from(percent) * u128::from(share) / (100 << 32);
    ns.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
}

/// Splitmix64, which spreads consecutive numbers.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A connection that has limits: what its entry and its rule say that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) key: ConnKey,
    pub(crate) state: TcpState,
    /// True if the peer opened it.
    pub(crate) inbound: bool,
    pub(crate) opened_boot_ns: u64,
    /// When its handshake ended; zero before that.
    pub(crate) established_boot_ns: u64,
    /// When its state began.
    pub(crate) state_since_boot_ns: u64,
    /// The limits in force.
    pub(crate) limits: Limits,
    /// The limits that do not count, as [bits](Expiry::bit).
    pub(crate) exempt: u8,
    /// The rule that matches it; zero for none.
    pub(crate) rule: u32,
    /// The limits come from an override, which a person set for this one connection: neither protection nor guard apply.
    pub(crate) is_override: bool,
    /// How it is closed.
    pub(crate) manner: Manner,
    /// False: its close is only reported, and not made.
    pub(crate) enforce: bool,
}

impl Candidate {
    /// Reads a connection's entry and its rule's close policy; `None` where it has no limits or cannot be closed.
    ///
    /// A rule without a close policy is being replaced, so its limits do not count.
    pub(crate) fn of(key: ConnKey, connection: &Connection, rule: Option<&ClosePolicy>) -> Option<Self> {
        let is_override = connection.lifetime_source == Source::Override;
        if rule.is_none() && !is_override {
            return None;
        }
        let over = matches!(connection.state, TcpState::Close | TcpState::TimeWait | TcpState::Listen);
        let limits = Limits::of(&connection.policy, rule.filter(|_| !is_override), key.conid);
        if over || connection.direction == Direction::Listen || limits == Limits::default() {
            return None;
        }
        let rule = rule.unwrap_or(&ClosePolicy::DEFAULT);
        Some(Self {
            key,
            state: connection.state,
            inbound: connection.direction == Direction::Inbound,
            opened_boot_ns: connection.opened_boot_ns,
            established_boot_ns: connection.established_boot_ns,
            state_since_boot_ns: connection.state_since_boot_ns,
            limits,
            exempt: 0,
            rule: connection.rule,
            is_override,
            manner: rule.manner,
            enforce: is_override || rule.enforce,
        })
    }

    /// The same connection without the limits of these [bits](Expiry::bit).
    pub(crate) fn without(self, exempt: u8) -> Self {
        Self { exempt, ..self }
    }

    /// True once the peer's FIN has come, which the kernel counts as a received byte.
    fn has_fin(&self) -> bool {
        matches!(self.state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing | TcpState::TimeWait)
    }

    /// When each limit ends, as far as the traffic is known.
    fn ends(&self, look: Option<Look>, now_boot_ns: u64) -> impl Iterator<Item = (u64, Expiry)> {
        let Limits { idle_ns, max_age_ns, deadline_boot_ns, first_byte_ns, half_closed_ns, connect_ns } = self.limits;
        let established = self.established_boot_ns;
        let after = |start: u64, limit: u64| (start != 0 && limit != 0).then(|| start.saturating_add(limit));
        // The last byte was at or after the end of the handshake.
        let last_byte = match look {
            Some(look) if established != 0 => now_boot_ns.saturating_sub(look.idle_ns).max(established),
            _ => established,
        };
        let silent = self.inbound && look.is_none_or(|look| look.bytes_received <= u64::from(self.has_fin()));
        let half_closed = matches!(self.state, TcpState::CloseWait | TcpState::FinWait2);
        let connecting = self.state == TcpState::SynSent;
        [
            (Some(deadline_boot_ns).filter(|at| *at != 0), Expiry::Deadline),
            (after(established, max_age_ns), Expiry::MaxAge),
            (after(self.state_since_boot_ns, half_closed_ns).filter(|_| half_closed), Expiry::HalfClosed),
            (after(self.opened_boot_ns, connect_ns).filter(|_| connecting), Expiry::Connect),
            (after(established, first_byte_ns).filter(|_| silent), Expiry::FirstByte),
            (after(last_byte, idle_ns), Expiry::Idle),
        ]
        .into_iter()
        .filter_map(|(at, expiry)| Some((at?, expiry)))
        .filter(|(_, expiry)| self.exempt & expiry.bit() == 0)
    }

    /// True if a limit may be over that traffic postpones, so that the traffic must be read.
    pub(crate) fn is_unsure(&self, now_boot_ns: u64) -> bool {
        self.ends(None, now_boot_ns).any(|(at, expiry)| at <= now_boot_ns && expiry.moves_with_traffic())
    }

    /// Which limit will close the connection, and when, if no more bytes come. Without a look at its traffic, a limit that
    /// traffic postpones ends no earlier than the next look.
    pub(crate) fn outlook(
        &self,
        look: Option<Look>,
        next_look_boot_ns: Option<u64>,
        now_boot_ns: u64,
    ) -> Option<(u64, Expiry)> {
        let not_before = |(at, expiry): (u64, Expiry)| match next_look_boot_ns {
            Some(next) if look.is_none() && expiry.moves_with_traffic() => (at.max(next), expiry),
            _ => (at, expiry),
        };
        self.ends(look, now_boot_ns).map(not_before).min_by_key(|(at, _)| *at)
    }
}

/// A connection's traffic at one moment, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// No byte has been sent or received for at least this long.
    pub(crate) idle_ns: u64,
    /// The bytes received so far, including the peer's FIN.
    pub(crate) bytes_received: u64,
}

/// What a connection's limits come to at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No limit is running; an event will come before one starts.
    Wait,
    /// No limit is over before this time.
    At(u64),
    /// A limit may be over; only the traffic can tell.
    Look,
    /// This limit is over, since this time.
    Expired(Expiry, u64),
}

/// Judges a connection at the moment at which its traffic was read, if it was.
///
/// A connection cannot have been idle for longer than it has been established, so its traffic is not read before that much
/// time has passed, and traffic costs nothing.
pub(crate) fn judge(candidate: &Candidate, look: Option<Look>, now_boot_ns: u64) -> Verdict {
    let mut next = None::<u64>;
    let mut over = None::<(u64, Expiry)>;
    let mut unsure = false;
    for (at, expiry) in candidate.ends(look, now_boot_ns) {
        if at > now_boot_ns {
            next = Some(next.map_or(at, |next| next.min(at)));
        } else if expiry.moves_with_traffic() && look.is_none() {
            unsure = true;
        } else if over.is_none_or(|(first, _)| at < first) {
            over = Some((at, expiry));
        }
    }
    match (over, unsure) {
        (Some((at, expiry)), _) => Verdict::Expired(expiry, at),
        (None, true) => Verdict::Look,
        (None, false) => next.map_or(Verdict::Wait, Verdict::At),
    }
}

#[cfg(test)]
mod tests;
