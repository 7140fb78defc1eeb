//! Records to events of the protocol, and the query of a stream to a filter of records.

use std::collections::HashMap;

use jiff::Timestamp;
use strum::VariantArray as _;
use tcpops_common::policy::Outcome;
use tcpops_common::state::TcpState;

use super::connections::ends;
use super::policy::{lifetime_in_force, option_name, options, outcome};
use crate::api::connections::ListQuery;
use crate::api::events::{Cause as ApiCause, Detail, Event, EventPolicy, EventsQuery, StateSeconds, Summary};
use crate::api::lifetime::Lifetime;
use crate::api::policy::Source;
use crate::api::values::{State, ValueError};
use crate::clocks::Clocks;
use crate::model::history::cause::{Author, Cause};
use crate::model::history::ending::Ending;
use crate::model::history::record::{Happened, Identity, Kind, Kinds, Record, What};
use crate::model::requests::filter::Filter;

/// The records that a reader wants.
#[derive(Clone, Debug)]
pub(crate) struct EventFilter {
    pub(crate) kinds: Kinds,
    /// Their connections.
    pub(crate) filter: Filter,
    /// Their connection, if there is only one.
    pub(crate) conid: Option<u64>,
}

impl EventFilter {
    /// True for a record that the reader wants. Every reader is told what is missing.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        match &record.what {
            What::Lost(..) | What::Resynchronised(_) => true,
            What::Of(identity, _) => {
                self.kinds.has(record.what.kind())
                    && self.conid.is_none_or(|conid| conid == identity.key.conid)
                    && self.filter.matches(identity.key.conid, &identity.entry())
            }
        }
    }
}

/// The kinds that a list of types names.
pub(crate) fn kinds(types: &str) -> Result<Kinds, ValueError> {
    types.split(',').try_fold(Kinds::NONE, |kinds, name| {
        name.trim().parse().map(|kind| kinds.with(kind)).map_err(|_unknown| {
            let known = Kind::VARIANTS.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
            let expected = format_args!("some of {known}, separated by commas");
            ValueError::new(expected, format_args!("\"{}\"", name.trim())).of("type")
        })
    })
}

/// The filters, which a list of connections has too.
pub(crate) fn list_query(query: &EventsQuery) -> ListQuery {
    ListQuery {
        direction: query.direction,
        local: query.local,
        remote: query.remote,
        local_port: query.local_port,
        remote_port: query.remote_port,
        cgroup: query.cgroup.clone(),
        uid: query.uid,
        netns: query.netns,
        rule: query.rule.clone(),
        ..ListQuery::default()
    }
}

/// The event of a record. `rule_names` has the names of rules by id.
pub(crate) fn event(record: &Record, rule_names: &HashMap<u32, String>, clocks: Clocks) -> Event {
    let time = clocks.date(record.at_boot_ns).unwrap_or(Timestamp::UNIX_EPOCH);
    let event = Event { seq: record.seq, time, kind: record.what.kind().into(), ..Event::default() };
    match &record.what {
        What::Lost(count, loss) => Event { count: *count, reason: Some((*loss).into()), ..event },
        What::Resynchronised(tracked) => Event { tracked: Some(*tracked), ..event },
        What::Of(identity, happened) => {
            let event = happened_to(of_party(identity, rule_names, event), happened, rule_names, clocks);
            match (happened, record.what.cause()) {
                (Happened::Vanished(_), Some(of)) => Event { cause: Some(cause(&of, 0, rule_names)), ..event },
                _ => event,
            }
        }
    }
}

fn of_party(identity: &Identity, rule_names: &HashMap<u32, String>, event: Event) -> Event {
    let entry = identity.entry();
    let (local, remote) = ends(&entry);
    Event {
        conid: Some(identity.key.conid),
        cookie: Some(identity.key.cookie),
        direction: Some(entry.direction.into()),
        local: Some(local),
        remote,
        uid: Some(entry.uid),
        netns_cookie: Some(entry.netns_cookie),
        rule: rule_names.get(&entry.rule).cloned(),
        ..event
    }
}

fn happened_to(event: Event, happened: &Happened, rule_names: &HashMap<u32, String>, clocks: Clocks) -> Event {
    match happened {
        Happened::Opened(state) | Happened::Adopted(state) | Happened::Vanished(state) => {
            Event { state: Some(State(*state)), ..event }
        }
        Happened::Transition(old, new) => Event { old_state: Some(State(*old)), state: Some(State(*new)), ..event },
        Happened::Applied(applied) => {
            let policy = EventPolicy {
                outcome: outcome(applied.outcome),
                in_force: (applied.outcome == Outcome::Applied).then(|| options(&applied.options)),
                lifetime: Some(lifetime_in_force(&applied.policy, clocks))
                    .filter(|limits| *limits != Lifetime::default()),
                ..of_author(applied.author)
            };
            Event { policy: Some(policy), ..event }
        }
        Happened::Refused(refusal) => {
            let policy = EventPolicy {
                refused_option: option_name(refusal.option),
                errno: errno(refusal.errno),
                ..of_author(refusal.author)
            };
            Event { policy: Some(policy), ..event }
        }
        Happened::Expiring(expiry, author) => {
            Event { cause: Some(cause(&Cause::Expired(*expiry, *author), 0, rule_names)), ..event }
        }
        Happened::Closed(ending) => Event {
            state: Some(State(ending.state)),
            cause: ending.cause.map(|of| cause(&of, ending.errno, rule_names)),
            summary: ending.cause.map(|_| summary(ending)),
            ..event
        },
    }
}

fn of_author(author: Option<Author>) -> EventPolicy {
    let (source, by_uid) = match author {
        None => (None, None),
        Some(Author::Rule(_)) => (Some(Source::Rule), None),
        Some(Author::Override(uid)) => (Some(Source::Override), Some(uid)),
    };
    EventPolicy { source, by_uid, ..EventPolicy::default() }
}

fn errno(errno: u16) -> Option<i32> {
    (errno != 0).then_some(i32::from(errno))
}

fn cause(cause: &Cause, errno_held: u16, rule_names: &HashMap<u32, String>) -> ApiCause {
    let detail = match cause {
        Cause::GivenUp => Some(Detail::Handshake),
        Cause::Timeout(timeout) => Some((*timeout).into()),
        Cause::Unreachable => Some(Detail::Unreachable),
        _ => None,
    };
    let (expiry, author) = match cause {
        Cause::Expired(expiry, author) => (Some(*expiry), Some(*author)),
        Cause::Request(uid) => (None, Some(Author::Override(*uid))),
        _ => (None, None),
    };
    ApiCause {
        name: cause.kind().into(),
        side: cause.side().map(Into::into),
        detail,
        lifetime: expiry.map(Into::into),
        rule: match author {
            Some(Author::Rule(id)) => rule_names.get(&id).cloned(),
            _ => None,
        },
        by_uid: match author {
            Some(Author::Override(uid)) => Some(uid),
            _ => None,
        },
        errno: errno(errno_held),
    }
}

fn summary(ending: &Ending) -> Summary {
    let mut states = StateSeconds::default();
    for (state, ns) in ending.stays() {
        let place = match state {
            TcpState::SynSent => &mut states.syn_sent,
            TcpState::SynRecv | TcpState::NewSynRecv => &mut states.syn_recv,
            TcpState::Established => &mut states.established,
            TcpState::FinWait1 => &mut states.fin_wait_1,
            TcpState::FinWait2 => &mut states.fin_wait_2,
            TcpState::CloseWait => &mut states.close_wait,
            TcpState::Closing => &mut states.closing,
            TcpState::LastAck => &mut states.last_ack,
            TcpState::Unknown | TcpState::TimeWait | TcpState::Close | TcpState::Listen => continue,
        };
        *place = Some(seconds(ns));
    }
    Summary {
        age_seconds: seconds(ending.age_ns()),
        idle_seconds: ending.idle_ms.map(|ms| f64::from(ms) / 1e3),
        bytes_in: ending.bytes_in,
        bytes_out: ending.bytes_out,
        retransmissions: ending.retransmissions,
        states,
    }
}

/// Seconds to the microsecond: handshakes on one host take few of them.
fn seconds(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1e6
}

#[cfg(test)]
mod tests;
