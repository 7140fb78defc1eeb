//! What events look like.

use serde_json::{Value, json};
use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::event::{Event as KernelEvent, EventKind, SOCK_DONE, Summary as KernelSummary};
use tcpops_common::policy::{Setting, TcpOption};

use super::*;
use crate::api::events::EventType;
use crate::model::expiry::effects::{CloseReason, PendingClose};
use crate::model::expiry::lifetimes::Expiry;
use crate::model::history::record::{Loss, Refusal};
use crate::model::testing::connection;

const CLOCKS: Clocks = Clocks { wall_ns: 1_700_000_000_000_000_000, boot_ns: 10_000_000_000 };
const KEY: ConnKey = ConnKey { cookie: 9, conid: 4 };

fn shown(what: What) -> Value {
    let names = HashMap::from([(7, "strangers".to_owned())]);
    let record = Record { seq: 5, at_boot_ns: 10_000_000_000, what };
    serde_json::to_value(event(&record, &names, CLOCKS)).unwrap()
}

/// What happened to a connection, without what every event of one has.
fn shown_of(connection: &Connection, happened: Happened) -> Value {
    let mut event = shown(What::Of(Identity::of(KEY, connection), happened));
    for field in ["seq", "time", "conid", "cookie", "direction", "local", "remote", "uid", "netns_cookie"] {
        assert!(event.as_object_mut().unwrap().remove(field).is_some(), "no {field}: {event}");
    }
    event
}

#[test]
fn every_event_of_a_connection_names_it() {
    let ruled = Connection { rule: 7, ..connection() };
    assert_eq!(
        shown(What::Of(Identity::of(KEY, &ruled), Happened::Opened(TcpState::SynSent))),
        json!({
            "seq": 5, "time": "2023-11-14T22:13:20Z", "type": "opened", "conid": 4, "cookie": 9, "direction": "outbound",
            "local": "10.0.0.1:40000", "remote": "192.0.2.7:5060", "uid": 1000, "netns_cookie": 1, "rule": "strangers",
            "state": "syn-sent",
        })
    );
    let listener = Connection { direction: Direction::Listen, ..connection() };
    let listening = shown(What::Of(Identity::of(KEY, &listener), Happened::Adopted(TcpState::Listen)));
    assert_eq!((&listening["type"], &listening["direction"]), (&json!("adopted"), &json!("listen")));
    assert!(listening.get("remote").is_none());
}

#[test]
fn each_type_has_its_fields() {
    let plain = connection();
    let transition = Happened::Transition(TcpState::SynSent, TcpState::Established);
    assert_eq!(
        shown_of(&plain, transition),
        json!({ "type": "transition", "old_state": "syn-sent", "state": "established" })
    );
    let refusal = Refusal { author: Some(Author::Override(1000)), option: TcpOption::KeepCnt, errno: 22 };
    let policy = json!({ "source": "override", "by_uid": 1000, "refused_option": "TCP_KEEPCNT", "errno": 22 });
    assert_eq!(shown_of(&plain, Happened::Refused(refusal)), json!({ "type": "refused", "policy": policy }));
    let mut limited = Connection { outcome: Outcome::Untouched, ..plain };
    limited.policy.lifetime_setting = Setting::Set;
    limited.policy.lifetime.idle_ns = 1_500_000_000;
    let policy = json!({ "source": "rule", "lifetime": { "idle_seconds": 1.5 } });
    let applied = Happened::of_application(&limited, Some(Author::Rule(7)));
    assert_eq!(shown_of(&limited, applied), json!({ "type": "applied", "policy": policy }));
    let cause = json!({ "name": "expired", "lifetime": "idle", "rule": "strangers" });
    let expiring = Happened::Expiring(Expiry::Idle, Author::Rule(7));
    assert_eq!(shown_of(&plain, expiring), json!({ "type": "expiring", "cause": cause }));
}

#[test]
fn the_end_of_a_connection_says_how_it_fared() {
    let event = KernelEvent {
        at_boot_ns: 5_000_000_200,
        key: KEY,
        kind: EventKind::Closed,
        old_state: TcpState::FinWait2,
        new_state: TcpState::Close,
        flags: 0,
        errno: 0,
        left_boot_ns: 3_000_000_200,
        connection: Connection { state_since_boot_ns: 4_000_000_200, ..connection() },
        summary: KernelSummary {
            bytes_received: 11,
            bytes_sent: 20,
            total_retrans: 1,
            idle_ms: 1004,
            sk_flags: SOCK_DONE,
            ..KernelSummary::NONE
        },
    };
    let ending = Ending::of(&event, Cause::of(&event, None));
    assert_eq!(
        shown_of(&event.connection, Happened::Closed(ending)),
        json!({
            "type": "closed", "state": "fin-wait-2", "cause": { "name": "fin", "side": "local" },
            "summary": {
                "age_seconds": 5.0, "idle_seconds": 1.004, "bytes_in": 10, "bytes_out": 20, "retransmissions": 1,
                "states": { "syn-sent": 0.0, "established": 3.0, "fin-wait-1": 1.0, "fin-wait-2": 1.0 },
            },
        })
    );
    let destroyed = KernelEvent { errno: 103, old_state: TcpState::Established, ..event };
    let reason = CloseReason::Request(1000);
    let pending_close = PendingClose { reason, rule: 0, by_fin: false, fin_sent: false };
    let requested = Cause::of(&destroyed, Some(pending_close));
    let shown = shown_of(&event.connection, Happened::Closed(Ending::of(&destroyed, requested)));
    assert_eq!(shown["cause"], json!({ "name": "closed_by_request", "by_uid": 1000, "errno": 103 }));
}

#[test]
fn what_ended_unseen_has_no_known_cause() {
    let vanished = Happened::Vanished(TcpState::Established);
    let expected = json!({ "type": "closed", "state": "established", "cause": { "name": "unknown" } });
    assert_eq!(shown_of(&connection(), vanished), expected);
    let listener = Connection { direction: Direction::Listen, ..connection() };
    assert!(shown(What::Of(Identity::of(KEY, &listener), vanished)).get("cause").is_none());
}

#[test]
fn what_is_missing_is_said() {
    let lost = shown(What::Lost(Some(3), Loss::SlowReader));
    assert_eq!((&lost["type"], &lost["count"], &lost["reason"]), (&json!("lost"), &json!(3), &json!("slow_reader")));
    assert!(shown(What::Lost(None, Loss::AgentRestarted)).get("count").is_none());
    let again = shown(What::Resynchronised(12));
    assert_eq!((&again["type"], &again["tracked"]), (&json!("resynchronised"), &json!(12)));
}

#[test]
fn readers_get_what_they_want_and_always_what_is_missing() {
    let record = |what| Record { seq: 1, at_boot_ns: 1, what };
    let opened = record(What::Of(Identity::of(KEY, &connection()), Happened::Opened(TcpState::SynSent)));
    let wanted = EventFilter { kinds: kinds("closed, opened").unwrap(), filter: Filter::default(), conid: Some(4) };
    assert!(wanted.takes(&opened));
    let other = |filter| EventFilter { filter, ..wanted.clone() };
    assert!(other(Filter { uid: Some(1000), ..Filter::default() }).takes(&opened));
    for wanted in [
        EventFilter { kinds: kinds("closed").unwrap(), ..wanted.clone() },
        EventFilter { conid: Some(5), ..wanted.clone() },
        other(Filter { visible_to_uid: Some(1), ..Filter::default() }),
        other(Filter { remote_port: Some(1..=2), ..Filter::default() }),
    ] {
        assert!(!wanted.takes(&opened), "{wanted:?}");
        assert!(wanted.takes(&record(What::Lost(None, Loss::RingOverflow))));
        assert!(wanted.takes(&record(What::Resynchronised(1))));
    }
    let error = kinds("closed,open").unwrap_err().to_string();
    assert!(
        error.starts_with("type: expected some of opened, adopted,") && error.ends_with("found \"open\""),
        "{error}"
    );
}

#[test]
fn types_have_the_names_of_kinds() {
    for kind in Kind::VARIANTS {
        assert_eq!(serde_json::to_value(EventType::from(*kind)).unwrap(), kind.name());
    }
}
