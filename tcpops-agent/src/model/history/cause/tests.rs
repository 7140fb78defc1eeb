//! The table of causes. Its rows were seen on a running kernel; tests/src/causes.rs makes most of them anew.

use tcpops_common::conn::ConnKey;
use tcpops_common::event::{EventKind, Summary};
use tcpops_common::policy::Policy;

use super::*;
use crate::model::testing::connection;

const EHOSTUNREACH: u32 = 113;

fn closed(old_state: TcpState, errno: u32, fin_by: FinBy, summary: Summary) -> Event {
    Event {
        at_boot_ns: 0,
        key: ConnKey { cookie: 9, conid: 1 },
        kind: EventKind::Closed,
        old_state,
        new_state: TcpState::Close,
        flags: 0,
        errno,
        left_boot_ns: 0,
        connection: Connection { state: old_state, fin_by, ..connection() },
        summary,
    }
}

fn cause(event: &Event) -> Cause {
    Cause::of(event, None).expect("it is no listener")
}

#[test]
fn each_end_of_each_close_has_its_cause() {
    use FinBy::{Local as ByLocal, Nobody, Peer as ByPeer};
    use TcpState::*;
    let none = Summary::NONE;
    let retransmitted = Summary { retransmits: 3, ..none };
    let probed = Summary { probes: 2, sk_flags: SOCK_KEEPOPEN, ..none };
    for (old_state, errno, fin_by, summary, expected) in [
        // close(2), and its other end.
        (FinWait2, 0, ByLocal, none, Cause::Fin(Side::Local)),
        (LastAck, 0, ByPeer, none, Cause::Fin(Side::Peer)),
        (Closing, 0, ByLocal, none, Cause::Fin(Side::Local)),
        // Nobody may have seen the first FIN of an adopted connection.
        (FinWait2, 0, Nobody, none, Cause::Fin(Side::Local)),
        (LastAck, 0, Nobody, none, Cause::Fin(Side::Peer)),
        // SO_LINGER of zero, data unread, connect(AF_UNSPEC); and the other end of these.
        (Established, 0, Nobody, none, Cause::Reset(Some(Side::Local))),
        (CloseWait, 0, ByPeer, none, Cause::Reset(Some(Side::Local))),
        (FinWait1, 0, ByLocal, none, Cause::Reset(Some(Side::Local))),
        (SynRecv, 0, Nobody, none, Cause::Reset(Some(Side::Local))),
        (Established, ECONNRESET, Nobody, none, Cause::Reset(Some(Side::Peer))),
        (FinWait2, ECONNRESET, ByLocal, none, Cause::Reset(Some(Side::Peer))),
        (CloseWait, EPIPE, ByPeer, none, Cause::Reset(Some(Side::Peer))),
        (FinWait1, ECONNRESET, ByLocal, none, Cause::Reset(None)),
        // Handshakes.
        (SynSent, 0, Nobody, none, Cause::GivenUp),
        (SynSent, ECONNREFUSED, Nobody, none, Cause::Refused),
        (SynSent, EHOSTUNREACH, Nobody, Summary { retransmits: 1, ..none }, Cause::Unreachable),
        (SynSent, ETIMEDOUT, Nobody, Summary { retransmits: 2, ..none }, Cause::Timeout(Timeout::Handshake)),
        // A peer that is gone.
        (Established, ETIMEDOUT, Nobody, probed, Cause::Timeout(Timeout::Keepalive)),
        (Established, ETIMEDOUT, Nobody, retransmitted, Cause::Timeout(Timeout::Retransmissions)),
        (Established, EHOSTUNREACH, Nobody, retransmitted, Cause::Timeout(Timeout::Retransmissions)),
        (Established, EHOSTUNREACH, Nobody, probed, Cause::Timeout(Timeout::Keepalive)),
        (Established, ECONNREFUSED, Nobody, retransmitted, Cause::Timeout(Timeout::Retransmissions)),
        (FinWait1, ETIMEDOUT, ByLocal, retransmitted, Cause::Timeout(Timeout::Retransmissions)),
        (LastAck, ETIMEDOUT, ByPeer, retransmitted, Cause::Timeout(Timeout::Retransmissions)),
        // `ss -K`.
        (Established, ECONNABORTED, Nobody, none, Cause::Aborted),
        (SynSent, ECONNABORTED, Nobody, none, Cause::Aborted),
        // An error that was pending when the connection ended in order; one that explains nothing.
        (LastAck, EHOSTUNREACH, ByPeer, none, Cause::Fin(Side::Peer)),
        (Established, EHOSTUNREACH, Nobody, none, Cause::Unknown),
        (Unknown, 0, Nobody, none, Cause::Unknown),
    ] {
        let event = closed(old_state, errno, fin_by, summary);
        assert_eq!(cause(&event), expected, "{old_state:?} with errno {errno} and {summary:?}");
    }
}

#[test]
fn options_tell_timeouts_apart() {
    let timed_out = |summary| cause(&closed(TcpState::Established, ETIMEDOUT, FinBy::Nobody, summary));
    let window_probed = Summary { probes: 3, ..Summary::NONE };
    let probed = Summary { sk_flags: SOCK_KEEPOPEN, ..window_probed };
    let retransmitted = Summary { retransmits: 3, sk_flags: SOCK_KEEPOPEN, ..Summary::NONE };
    for (summary, expected) in [
        (probed, Timeout::Keepalive),
        (retransmitted, Timeout::Retransmissions),
        // The peer shut its window, and then was gone.
        (window_probed, Timeout::Retransmissions),
        (Summary { user_timeout_ms: 2500, ..probed }, Timeout::UserTimeout),
        (Summary { user_timeout_ms: 2500, ..retransmitted }, Timeout::UserTimeout),
    ] {
        assert_eq!(timed_out(summary), Cause::Timeout(expected), "{summary:?}");
    }
}

const RULE: u32 = 7;

fn pending_close(reason: CloseReason) -> PendingClose {
    PendingClose { reason, rule: RULE, by_fin: false, fin_sent: false }
}

#[test]
fn what_this_agent_did_is_told_from_what_came_first() {
    let expired = pending_close(CloseReason::Expired(Expiry::Idle));
    let request = pending_close(CloseReason::Request(1000));
    let destroyed = closed(TcpState::Established, ECONNABORTED, FinBy::Nobody, Summary::NONE);
    let by_rule = Cause::Expired(Expiry::Idle, Author::Rule(RULE));
    assert_eq!(Cause::of(&destroyed, Some(expired)), Some(by_rule));
    assert_eq!(Cause::of(&destroyed, Some(request)), Some(Cause::Request(1000)));
    // It ended by itself between the decision and the act.
    let reset = closed(TcpState::Established, ECONNRESET, FinBy::Nobody, Summary::NONE);
    let by_peer = closed(TcpState::LastAck, 0, FinBy::Peer, Summary::NONE);
    let tried = |pending_close| PendingClose { by_fin: true, ..pending_close };
    assert_eq!(Cause::of(&reset, Some(expired)), Some(Cause::Reset(Some(Side::Peer))));
    assert_eq!(Cause::of(&reset, Some(tried(expired))), Some(Cause::Reset(Some(Side::Peer))));
    assert_eq!(Cause::of(&by_peer, Some(tried(expired))), Some(Cause::Fin(Side::Peer)));
    // After a FIN of this agent's, whatever becomes of it is its doing.
    let ended = closed(TcpState::FinWait2, 0, FinBy::Local, Summary::NONE);
    let sent = |pending_close| PendingClose { by_fin: true, fin_sent: true, ..pending_close };
    assert_eq!(Cause::of(&ended, Some(tried(expired))), Some(by_rule));
    for event in [ended, by_peer, reset] {
        assert_eq!(Cause::of(&event, Some(sent(expired))), Some(by_rule));
        assert_eq!(Cause::of(&event, Some(sent(request))), Some(Cause::Request(1000)));
    }
}

#[test]
fn the_author_is_the_rule_or_who_pushed() {
    let mut event = closed(TcpState::Established, ECONNABORTED, FinBy::Nobody, Summary::NONE);
    event.connection.policy = Policy { by_uid: 1000, ..Policy::NONE };
    let expired = pending_close(CloseReason::Expired(Expiry::MaxAge));
    assert_eq!(Cause::of(&event, Some(expired)), Some(Cause::Expired(Expiry::MaxAge, Author::Rule(RULE))));
    let is_override = PendingClose { rule: 0, ..expired };
    assert_eq!(Cause::of(&event, Some(is_override)), Some(Cause::Expired(Expiry::MaxAge, Author::Override(1000))));
}

#[test]
fn a_listener_has_none() {
    let mut event = closed(TcpState::Listen, 0, FinBy::Nobody, Summary::NONE);
    event.connection.direction = Direction::Listen;
    assert_eq!(Cause::of(&event, None), None);
}

#[test]
fn every_cause_has_its_name() {
    for (cause, name) in [
        (Cause::Fin(Side::Local), "fin"),
        (Cause::GivenUp, "fin"),
        (Cause::Reset(None), "reset"),
        (Cause::Timeout(Timeout::Keepalive), "timeout"),
        (Cause::Refused, "refused"),
        (Cause::Unreachable, "refused"),
        (Cause::Expired(Expiry::Idle, Author::Rule(1)), "expired"),
        (Cause::Request(0), "closed_by_request"),
        (Cause::Aborted, "aborted"),
        (Cause::Unknown, "unknown"),
    ] {
        assert_eq!(<&str>::from(cause.kind()), name);
    }
}
