//! What is published of each thing that happened.

use tcpops_common::conn::{ConnKey, Connection, Direction, Family, Origin};
use tcpops_common::event::{Event, EventKind};
use tcpops_common::policy::{Outcome, Policy, SocketOptions, TcpOption};
use tcpops_common::state::TcpState;

use crate::model::expiry::lifetimes::Expiry;
use crate::model::history::cause::{Author, Cause};
use crate::model::history::ending::Ending;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// What kind of thing happened: the `type` of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($(#[doc = $doc])+ $variant,)+ }

        impl Kind {
            /// Every kind.
            pub(crate) const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Its name.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

kinds! {
    /// A connection or listener got its conid.
    Opened = "opened",
    /// One that was open before was taken in.
    Adopted = "adopted",
    /// It went from one TCP state to another.
    Transition = "transition",
    /// A rule, or what was pushed, was applied to it.
    Applied = "applied",
    /// The kernel refused what a rule or a push wants.
    Refused = "refused",
    /// Its time is over: it is about to be closed.
    Expiring = "expiring",
    /// It ended.
    Closed = "closed",
    /// Records are missing here.
    Lost = "lost",
    /// All connections were read anew; what follows is complete again.
    Resynchronised = "resynchronised",
}

/// Some kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    /// Every kind.
    pub(crate) const ALL: Self = Self(u16::MAX);
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// These, and `kind`.
    pub(crate) const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// Whether `kind` is one of them.
    pub(crate) const fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

/// A connection, as far as its records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// What names it.
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
    /// Of its entry.
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

    /// As much of its entry as is known here; everything else is empty.
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

/// What came of a policy that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Application {
    /// Whose policy it was; `None` where no rule wants anything of the connection any more.
    pub(crate) author: Option<Author>,
    /// What came of its options.
    pub(crate) outcome: Outcome,
    /// The options since, where any were applied.
    pub(crate) options: SocketOptions,
    /// The policy in force.
    pub(crate) policy: Policy,
}

impl Application {
    /// Of a connection to which the author's policy was applied.
    pub(crate) fn of(connection: &Connection, author: Option<Author>) -> Self {
        Self { author, outcome: connection.outcome, options: connection.in_force, policy: connection.policy }
    }
}

/// Why a policy was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Whose policy it was.
    pub(crate) author: Option<Author>,
    /// The option that the kernel refused; `None` where the socket could not be reached.
    pub(crate) option: TcpOption,
    /// The errno with which it did; zero where there was none.
    pub(crate) errno: u16,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// It got its conid, in this state.
    Opened(TcpState),
    /// It was taken in, in this state.
    Adopted(TcpState),
    /// It went from one state to another.
    Transition(TcpState, TcpState),
    /// A policy was applied.
    Applied(Application),
    /// A policy was refused.
    Refused(Refusal),
    /// It is about to be closed.
    Expiring(Expiry, Author),
    /// It ended.
    Closed(Ending),
    /// It ended while nobody looked; this was its state before.
    Vanished(TcpState),
}

/// Why records are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Whoever reads them was too slow, or asked for them too late: they are not kept any more.
    SlowReader,
    /// The kernel's ring was full.
    RingOverflow,
    /// The kernel program was detached by somebody else; connections ended unseen.
    Detached,
    /// They are those of an agent before.
    AgentRestarted,
}

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Something happened to a connection.
    Of(Identity, Happened),
    /// Records are missing: so many, where that is known.
    Lost(Option<u64>, Loss),
    /// All connections were read anew, so many.
    Resynchronised(u64),
}

impl What {
    /// Why a connection ended, if that is what happened.
    pub(crate) const fn cause(&self) -> Option<Cause> {
        match self {
            Self::Of(_, Happened::Closed(ending)) => ending.cause,
            Self::Of(identity, Happened::Vanished(_)) if !matches!(identity.direction, Direction::Listen) => {
                Some(Cause::Unknown)
            }
            _ => None,
        }
    }

    /// What kind of thing it is.
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

    /// Of what a kernel program tells of a connection that lives; `None` for the end of one, of which there is more to be
    /// said, and for a transition from a state to itself.
    pub(crate) fn of_living(event: &Event) -> Option<Self> {
        let Event { connection, old_state, new_state, .. } = event;
        let happened = match event.kind {
            EventKind::Opened if connection.origin == Origin::Adopted => Happened::Adopted(*new_state),
            EventKind::Opened => Happened::Opened(*new_state),
            EventKind::Transition if old_state == new_state => return None,
            EventKind::Transition => Happened::Transition(*old_state, *new_state),
            EventKind::Applied => {
                Happened::of_policy(connection, (connection.rule != 0).then_some(Author::Rule(connection.rule)))
            }
            EventKind::Closed => return None,
        };
        Some(Self::Of(Identity::of(event.key, connection), happened))
    }
}

impl Happened {
    /// Of a connection whose options were set, or were to be.
    pub(crate) fn of_policy(connection: &Connection, author: Option<Author>) -> Self {
        if connection.outcome == Outcome::Refused {
            return Self::Refused(Refusal { author, option: connection.refused, errno: connection.errno });
        }
        Self::Applied(Application::of(connection, author))
    }
}

/// One of a row of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its number: each has a greater one than those before.
    pub(crate) seq: u64,
    /// When it happened.
    pub(crate) at_boot_ns: u64,
    /// What happened.
    pub(crate) what: What,
}

const _: () = assert!(size_of::<Record>() <= 208, "docs/events.md and events/history.rs say how much memory they take");

#[cfg(test)]
mod tests {
    use tcpops_common::event::Summary;

    use super::*;
    use crate::model::testing::connection;

    fn event(kind: EventKind, old_state: TcpState, new_state: TcpState) -> Event {
        let connection = Connection { state: new_state, ..connection() };
        let key = ConnKey { cookie: 9, conid: 1 };
        Event { at_boot_ns: 1, key, kind, old_state, new_state, flags: 0, errno: 0, connection, summary: Summary::NONE }
    }

    fn kind(event: &Event) -> Option<Kind> {
        What::of_living(event).map(|what| what.kind())
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
        let found: Vec<_> = Kind::ALL.into_iter().filter(|kind| some.has(*kind)).collect();
        assert_eq!(found, [Kind::Opened, Kind::Resynchronised]);
        assert!(Kind::ALL.into_iter().all(|kind| Kinds::ALL.has(kind) && !Kinds::NONE.has(kind)));
    }
}
