//! The records that are published of everything that happens.

use strum::{EnumString, IntoStaticStr, VariantArray};
use tcpops_common::conn::{ConnKey, Connection, Direction, Family, Origin};
use tcpops_common::event::{Event, EventKind};
use tcpops_common::policy::{Outcome, Policy, SocketOptions, TcpOption};
use tcpops_common::state::TcpState;

use crate::model::expiry::lifetimes::Expiry;
use crate::model::history::cause::{Author, Cause};
use crate::model::history::ending::Ending;

/// The kind of a record: the `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Kind {
    /// A connection or listener got its conid.
    Opened,
    /// A connection or listener that was open before was adopted.
    Adopted,
    /// It went from one TCP state to another.
    Transition,
    /// A rule or an override was applied to it.
    Applied,
    /// The kernel refused what a rule or an override wants.
    Refused,
    /// Its time is over, and it is about to be closed.
    Expiring,
    /// It ended.
    Closed,
    /// Records are missing here.
    Lost,
    /// All connections were read anew; from here on the records are complete again.
    Resynchronised,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub(crate) const ALL: Self = Self(u16::MAX);
    pub(crate) const NONE: Self = Self(0);

    /// Adds `kind`.
    pub(crate) const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// True if one of the kinds says what happens to connections that live, other than by the agent's doing.
    pub(crate) fn of_living(self) -> bool {
        [Kind::Opened, Kind::Adopted, Kind::Transition, Kind::Applied].into_iter().any(|kind| self.has(kind))
    }

    /// True if `kind` is in the set.
    pub(crate) const fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

/// The part of a connection's entry that its records keep, to name it and to filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) key: ConnKey,
    local_addr: [u8; 16],
    remote_addr: [u8; 16],
    local_port: u16,
    remote_port: u16,
    uid: u32,
    netns_cookie: u64,
    cgroup_id: u64,
    rule: u32,
    direction: Direction,
    origin: Origin,
    family: Family,
}

impl Identity {
    /// Reads it from the connection's entry.
    pub(crate) fn of(key: ConnKey, connection: &Connection) -> Self {
        Self {
            key,
            local_addr: connection.local_addr,
            remote_addr: connection.remote_addr,
            local_port: connection.local_port,
            remote_port: connection.remote_port,
            uid: connection.uid,
            netns_cookie: connection.netns_cookie,
            cgroup_id: connection.cgroup_id,
            rule: connection.rule,
            direction: connection.direction,
            origin: connection.origin,
            family: connection.family,
        }
    }

    /// An entry with what is kept here; everything else is empty.
    pub(crate) fn entry(&self) -> Connection {
        Connection {
            local_addr: self.local_addr,
            remote_addr: self.remote_addr,
            local_port: self.local_port,
            remote_port: self.remote_port,
            uid: self.uid,
            netns_cookie: self.netns_cookie,
            cgroup_id: self.cgroup_id,
            rule: self.rule,
            direction: self.direction,
            origin: self.origin,
            family: self.family,
            ..Connection::EMPTY
        }
    }
}

/// A policy that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Application {
    /// Who wanted it; `None` where no rule wants anything of the connection any more.
    pub(crate) author: Option<Author>,
    /// The outcome of its options.
    pub(crate) outcome: Outcome,
    /// The options since then, where any were applied.
    pub(crate) options: SocketOptions,
    /// The policy in force.
    pub(crate) policy: Policy,
}

impl Application {
    /// Reads it from the entry of a connection to which the author's policy was applied.
    pub(crate) fn of(connection: &Connection, author: Option<Author>) -> Self {
        Self { author, outcome: connection.outcome, options: connection.in_force, policy: connection.policy }
    }
}

/// A policy that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Who wanted it.
    pub(crate) author: Option<Author>,
    /// The option that the kernel refused; `TcpOption::None` where the socket could not be reached.
    pub(crate) option: TcpOption,
    /// The kernel's errno; zero for none.
    pub(crate) errno: u16,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// It got its conid, in this state.
    Opened(TcpState),
    Adopted(TcpState),
    /// It went from one state to another.
    Transition(TcpState, TcpState),
    /// A policy was applied.
    Applied(Application),
    /// A policy was refused.
    Refused(Refusal),
    /// It is about to be closed.
    Expiring(Expiry, Author),
    Closed(Ending),
    /// It ended unseen; this was its last known state.
    Vanished(TcpState),
}

/// Why records are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The reader was too slow or began too late: the records are not kept any more.
    SlowReader,
    /// The kernel's ring was full.
    RingOverflow,
    /// Something else detached the kernel program, so that connections ended unseen.
    Detached,
    /// The agent has restarted, and does not have the records of the one before.
    AgentRestarted,
    /// Nobody read: only ends were recorded, and what happened to connections that lived was not.
    Unread,
}

/// The content of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Something happened to a connection.
    Of(Identity, Happened),
    /// Records are missing; the number is `None` where it is not known.
    Lost(Option<u64>, Loss),
    /// All connections were read anew; there are this many.
    Resynchronised(u64),
}

impl What {
    /// The cause, if a connection ended.
    pub(crate) const fn cause(&self) -> Option<Cause> {
        match self {
            Self::Of(_, Happened::Closed(ending)) => ending.cause,
            Self::Of(identity, Happened::Vanished(_)) if !matches!(identity.direction, Direction::Listen) => {
                Some(Cause::Unknown)
            }
            _ => None,
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Of(_, happened) => match happened {
                Happened::Opened(_) => Kind::Opened,
                Happened::Adopted(_) => Kind::Adopted,
                Happened::Transition(..) => Kind::Transition,
                Happened::Applied(_) => Kind::Applied,
                Happened::Refused(_) => Kind::Refused,
                Happened::Expiring(..) => Kind::Expiring,
                Happened::Closed(_) | Happened::Vanished(_) => Kind::Closed,
            },
            Self::Lost(..) => Kind::Lost,
            Self::Resynchronised(_) => Kind::Resynchronised,
        }
    }

    /// Reads an event about a connection that is still open; `None` for a transition from a state to itself, and for the
    /// end of a connection, which takes more than its event to tell.
    pub(crate) fn of_open(event: &Event) -> Option<Self> {
        let Event { connection, old_state, new_state, .. } = event;
        let happened = match event.kind {
            EventKind::Opened if connection.origin == Origin::Adopted => Happened::Adopted(*new_state),
            EventKind::Opened => Happened::Opened(*new_state),
            EventKind::Transition if old_state == new_state => return None,
            EventKind::Transition => Happened::Transition(*old_state, *new_state),
            EventKind::Applied => {
                Happened::of_application(connection, (connection.rule != 0).then_some(Author::Rule(connection.rule)))
            }
            EventKind::Closed => return None,
        };
        Some(Self::Of(Identity::of(event.key, connection), happened))
    }
}

impl Happened {
    /// Reads from a connection's entry what applying the author's policy led to.
    pub(crate) fn of_application(connection: &Connection, author: Option<Author>) -> Self {
        if connection.outcome == Outcome::Refused {
            return Self::Refused(Refusal { author, option: connection.refused, errno: connection.errno });
        }
        Self::Applied(Application::of(connection, author))
    }
}

/// A record with its place in the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its number, greater by one than that of the record before.
    pub(crate) seq: u64,
    /// When it happened.
    pub(crate) at_boot_ns: u64,
    /// What happened.
    pub(crate) what: What,
}

const _: () = assert!(size_of::<Record>() <= 208, "docs/events.md and events/mod.rs say how much memory they take");

#[cfg(test)]
mod tests {
    use tcpops_common::event::Summary;

    use super::*;
    use crate::model::testing::connection;

    fn event(kind: EventKind, old_state: TcpState, new_state: TcpState) -> Event {
        let connection = Connection { state: new_state, ..connection() };
        let key = ConnKey { cookie: 9, conid: 1 };
        Event {
            at_boot_ns: 1,
            key,
            kind,
            old_state,
            new_state,
            flags: 0,
            errno: 0,
            left_boot_ns: 0,
            connection,
            summary: Summary::NONE,
        }
    }

    fn kind(event: &Event) -> Option<Kind> {
        What::of_open(event).map(|what| what.kind())
    }

    #[test]
    fn each_event_of_a_living_connection_is_of_a_kind() {
        use TcpState::{Close, Established, FinWait1, SynSent};
        let opened = event(EventKind::Opened, Close, SynSent);
        assert_eq!(kind(&opened), Some(Kind::Opened));
        let adopted = Connection { origin: Origin::Adopted, ..opened.connection };
        assert_eq!(kind(&Event { connection: adopted, ..opened }), Some(Kind::Adopted));
        assert_eq!(kind(&event(EventKind::Transition, Established, FinWait1)), Some(Kind::Transition));
        assert_eq!(kind(&event(EventKind::Transition, FinWait1, FinWait1)), None);
        assert_eq!(kind(&event(EventKind::Closed, Established, Close)), None);
        let applied = event(EventKind::Applied, Established, Established);
        assert_eq!(kind(&applied), Some(Kind::Applied));
        let refused = Connection { outcome: Outcome::Refused, errno: 22, ..applied.connection };
        assert_eq!(kind(&Event { connection: refused, ..applied }), Some(Kind::Refused));
    }

    #[test]
    fn a_party_is_what_filters_look_at() {
        let whole = connection();
        let entry = Identity::of(ConnKey::default(), &whole).entry();
        assert_eq!((entry.local(), entry.remote()), (whole.local(), whole.remote()));
        assert_eq!((entry.uid, entry.netns_cookie, entry.rule), (whole.uid, whole.netns_cookie, whole.rule));
        assert_eq!((entry.cgroup_id, entry.direction), (whole.cgroup_id, whole.direction));
    }

    #[test]
    fn kinds_are_a_set() {
        let some = Kinds::NONE.with(Kind::Opened).with(Kind::Resynchronised);
        let found: Vec<_> = Kind::VARIANTS.iter().copied().filter(|kind| some.has(*kind)).collect();
        assert_eq!(found, [Kind::Opened, Kind::Resynchronised]);
        assert!(Kind::VARIANTS.iter().all(|kind| Kinds::ALL.has(*kind) && !Kinds::NONE.has(*kind)));
    }
}
