//! When a connection is to be closed: pure arithmetic on what its entry and the kernel say.

use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::policy::{Policy, Setting, Source};
use tcpops_common::state::TcpState;

use crate::model::expiry::closing::{ClosePolicy, Manner};

/// Why a connection's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Expiry {
    /// No byte was sent or received for as long as its `idle` lifetime.
    Idle,
    /// It has been established for as long as its `max_age`.
    MaxAge,
    /// Its deadline has come.
    Deadline,
    /// It was accepted and has sent no byte for so long.
    FirstByte,
    /// One side has closed, and the other has not for so long.
    HalfClosed,
    /// Its handshake has taken so long.
    Connect,
}

impl Expiry {
    /// The name of the lifetime.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MaxAge => "max_age",
            Self::Deadline => "deadline",
            Self::FirstByte => "first_byte",
            Self::HalfClosed => "half_closed",
            Self::Connect => "connect",
        }
    }

    /// Whether traffic puts it off, so that the kernel must be asked before it is believed.
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
    /// With no byte sent or received.
    pub(crate) idle_ns: u64,
    /// Since it was established.
    pub(crate) max_age_ns: u64,
    /// Until this time since boot.
    pub(crate) deadline_boot_ns: u64,
    /// Since it was established, with no byte from the peer.
    pub(crate) first_byte_ns: u64,
    /// In CLOSE_WAIT or FIN_WAIT2.
    pub(crate) half_closed_ns: u64,
    /// In SYN_SENT.
    pub(crate) connect_ns: u64,
}

impl Limits {
    /// Of a policy, with what its rule limits beside lifetimes; none unless the policy sets lifetimes.
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

    /// These, but for those in a set of expiries.
    fn without(self, expiries: u8) -> Self {
        let keep = |expiry: Expiry, ns| if expiries & expiry.bit() == 0 { ns } else { 0 };
        Self {
            idle_ns: keep(Expiry::Idle, self.idle_ns),
            max_age_ns: keep(Expiry::MaxAge, self.max_age_ns),
            deadline_boot_ns: keep(Expiry::Deadline, self.deadline_boot_ns),
            first_byte_ns: keep(Expiry::FirstByte, self.first_byte_ns),
            half_closed_ns: keep(Expiry::HalfClosed, self.half_closed_ns),
            connect_ns: keep(Expiry::Connect, self.connect_ns),
        }
    }
}

/// A limit made longer by its jitter: by a share of `percent` that the conid decides, so that it stays the same over
/// looks and restarts. Never shorter, so that nothing is closed before the time that was asked for.
fn lengthened(ns: u64, percent: u8, conid: u64) -> u64 {
    let share = mixed(conid) >> 32;
    let more = u128::from(ns) * u128::from(percent) * u128::from(share) / (100 << 32);
    ns.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
}

/// Splitmix64: numbers that follow each other come out far apart.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What matters of a connection here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The connection.
    pub(crate) key: ConnKey,
    /// Its state.
    pub(crate) state: TcpState,
    /// Whether the peer began it.
    pub(crate) inbound: bool,
    /// When it was opened.
    pub(crate) opened_boot_ns: u64,
    /// When its handshake ended; zero if it has not.
    pub(crate) established_boot_ns: u64,
    /// When its state began.
    pub(crate) state_since_boot_ns: u64,
    /// The limits in force.
    pub(crate) limits: Limits,
    /// The rule that matches it; zero for none.
    pub(crate) rule: u32,
    /// Whether the limits were pushed for this connection, by a person who wants it closed: neither protection nor guard
    /// are asked then.
    pub(crate) is_override: bool,
    /// How it is to be closed.
    pub(crate) manner: Manner,
    /// False: that its time is over is only said.
    pub(crate) enforce: bool,
}

impl Candidate {
    /// Of a connection's entry and what its rule says about closing; `None` where it has no limits, or is none that can
    /// be closed.
    ///
    /// A rule of which nothing is known is about to be replaced, or has been: its limits do not count.
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
            rule: connection.rule,
            is_override,
            manner: rule.manner,
            enforce: is_override || rule.enforce,
        })
    }

    /// The same connection without some of its limits.
    pub(crate) fn without(self, expiries: u8) -> Self {
        Self { limits: self.limits.without(expiries), ..self }
    }

    /// Whether the peer's FIN has come: the kernel counts it as a byte.
    fn has_fin(&self) -> bool {
        matches!(self.state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing | TcpState::TimeWait)
    }

    /// When each limit ends, by what is known of the traffic.
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
    }

    /// Whether a limit may be over that traffic puts off, so that the traffic must be looked at.
    pub(crate) fn is_unsure(&self, now_boot_ns: u64) -> bool {
        self.ends(None, now_boot_ns).any(|(at, expiry)| at <= now_boot_ns && expiry.moves_with_traffic())
    }

    /// Which limit will close the connection, and when, if no byte comes any more; by a look at its traffic, or else not
    /// before the time for which a look is set.
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

/// What the kernel says of a connection's traffic at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// For how long at least no byte has been sent or received.
    pub(crate) idle_ns: u64,
    /// The bytes received so far, the peer's FIN included.
    pub(crate) bytes_received: u64,
}

/// What is to be done about a connection's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing now, and nothing to wait for: if a limit can come, an event will tell.
    Wait,
    /// Nothing before this time.
    At(u64),
    /// The traffic must be looked at: a limit may be over.
    Look,
    /// Its time is over, for this reason, since this time.
    Expired(Expiry, u64),
}

/// Judges a connection; with a look at its traffic, where there was one, which is of this moment.
///
/// A connection cannot have been idle for longer than it has been established, so nothing is looked at before that much
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
