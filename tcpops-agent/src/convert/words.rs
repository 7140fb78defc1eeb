//! Words between the maps and the model on one side and the protocol on the other.

use tcpops_common::conn;
use tcpops_common::option::Part;
use tcpops_common::state::StateCode;

use crate::api::connections::{Limit, StateName};
use crate::api::events::{CauseName, Detail, EventType, Loss, Side};
use crate::api::policy::OwnOption;
use crate::api::probe::{Method, Verdict};
use crate::api::values::{Direction, Family, Origin};
use crate::model::expiry::lifetimes::Expiry;
use crate::model::history::cause::{self, CauseKind, Timeout};
use crate::model::history::record::{self, Kind};
use crate::model::requests::peer::{self, PeerStatus};

/// `From` between types whose variants have the same names.
macro_rules! same {
    ($($from:path => $to:path { $($variant:ident),+ })+) => {$(
        impl From<$from> for $to {
            fn from(word: $from) -> Self {
                match word { $(<$from>::$variant => Self::$variant,)+ }
            }
        }
    )+};
}

same! {
    conn::Direction => Direction { Inbound, Outbound, Listen }
    Direction => conn::Direction { Inbound, Outbound, Listen }
    conn::Origin => Origin { Handshake, Adopted }
    Origin => conn::Origin { Handshake, Adopted }
    Part => OwnOption { Keepalive, UserTimeout }
    StateCode => StateName { Ok, Accepting, Connecting, None, Eof, Error, Bad }
    Expiry => Limit { Idle, MaxAge, Deadline, FirstByte, HalfClosed, Connect }
    Kind => EventType { Opened, Adopted, Transition, Applied, Refused, Expiring, Closed, Lost, Resynchronised }
    record::Loss => Loss { SlowReader, RingOverflow, Detached, AgentRestarted, Unread }
    cause::Side => Side { Local, Peer }
    CauseKind => CauseName { Fin, Reset, Timeout, Refused, Expired, ClosedByRequest, Aborted, Unknown }
    Timeout => Detail { Keepalive, UserTimeout, Retransmissions, Handshake }
    PeerStatus => Verdict { Alive, Dead, Unknown }
    peer::Method => Method { Probes, Retransmissions }
}

impl From<conn::Family> for Family {
    fn from(family: conn::Family) -> Self {
        match family {
            conn::Family::Inet => Self::Ipv4,
            conn::Family::Inet6 => Self::Ipv6,
        }
    }
}

impl From<Family> for conn::Family {
    fn from(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::Inet,
            Family::Ipv6 => Self::Inet6,
        }
    }
}
