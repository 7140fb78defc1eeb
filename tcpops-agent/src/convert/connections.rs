//! Connections from the maps' form to the protocol's.

use std::collections::HashMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use tcpops_common::conn::{ConnKey, Connection, Direction};

use super::policy::{policy, source};
use crate::api::connections as api;
use crate::api::policy::Source;
use crate::api::values::State;
use crate::clocks::{Clocks, seconds};
use crate::model::expiry::lifetimes::Expiry;

/// A connection as the API shows it.
pub(crate) fn connection(
    key: ConnKey,
    connection: &Connection,
    rule_names: &HashMap<u32, String>,
    expires: Option<api::Expires>,
    clocks: Clocks,
) -> api::Connection {
    let (local, remote) = ends(connection);
    api::Connection {
        conid: key.conid,
        cookie: key.cookie,
        state: State(connection.state),
        direction: connection.direction.into(),
        origin: connection.origin.into(),
        family: connection.family.into(),
        local,
        remote,
        netns_cookie: connection.netns_cookie,
        uid: connection.uid,
        cgroup_id: (connection.cgroup_id != 0).then_some(connection.cgroup_id),
        opened: clocks.date(connection.opened_boot_ns).unwrap_or(Timestamp::UNIX_EPOCH),
        established: clocks.date(connection.established_boot_ns),
        age_seconds: clocks.seconds_since(connection.opened_boot_ns),
        state_seconds: clocks.seconds_since(connection.state_since_boot_ns),
        policy: policy(connection, rule_names, clocks),
        expires,
    }
}

/// The end of a connection and its limit, as the API shows them; `None` for a time that no calendar has.
pub(crate) fn expires(
    at_boot_ns: u64,
    expiry: Expiry,
    connection: &Connection,
    held: Option<String>,
    clocks: Clocks,
) -> Option<api::Expires> {
    Some(api::Expires {
        at: clocks.date(at_boot_ns)?,
        seconds: seconds(at_boot_ns.saturating_sub(clocks.boot_ns)),
        limit: expiry.into(),
        source: source(connection.lifetime_source).unwrap_or(Source::Rule),
        held,
    })
}

/// Both ends; a listener has one.
pub(crate) fn ends(connection: &Connection) -> (String, Option<String>) {
    let remote = (connection.direction != Direction::Listen).then(|| endpoint(connection.remote()));
    (endpoint(connection.local()), remote)
}

/// An endpoint as `SocketAddr` writes it; IPv4 without the formatter, for long lists.
fn endpoint(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255:65535".len());
    let mut number = itoa::Buffer::new();
    for (octet, after) in address.ip().octets().into_iter().zip(['.', '.', '.', ':']) {
        text.push_str(number.format(octet));
        text.push(after);
    }
    text.push_str(number.format(address.port()));
    text
}

#[cfg(test)]
mod tests {
    use tcpops_common::state::TcpState;

    use super::*;
    use crate::model::testing;

    const CLOCKS: Clocks = Clocks { wall_ns: 1_700_000_000_000_000_000, boot_ns: 10_000_000_000 };

    #[test]
    fn dates_follow_the_clocks() {
        assert_eq!(CLOCKS.date(0), None);
        let date = CLOCKS.date(11_000_000_000).unwrap();
        assert_eq!(date.as_second(), 1_700_000_001);
        assert_eq!(CLOCKS.future_boot_ns(date), Some(11_000_000_000));
        assert_eq!(CLOCKS.future_boot_ns(CLOCKS.date(10_000_000_000).unwrap()), None);
    }

    #[test]
    fn a_date_gives_the_same_time_again() {
        let date = CLOCKS.date(11_005_000_000).unwrap();
        assert_eq!(CLOCKS.boot_ns(date), 11_010_000_000);
        let later = Clocks { wall_ns: CLOCKS.wall_ns + 3_600_000_000_700, boot_ns: CLOCKS.boot_ns + 3_600_000_000_000 };
        assert_eq!(later.boot_ns(date), 11_010_000_000);
        assert_eq!(CLOCKS.boot_ns(CLOCKS.date(11_000_000_000).unwrap()), 11_000_000_000);
        // Before the boot, and beyond what is counted.
        assert_eq!(CLOCKS.boot_ns(Timestamp::UNIX_EPOCH), 10_000_000);
        assert_eq!(CLOCKS.boot_ns(Timestamp::MAX), u64::MAX);
    }

    #[test]
    fn endpoints_are_written_as_addresses_are() {
        for text in ["0.0.0.0:0", "192.0.2.7:5060", "255.255.255.255:65535", "[::1]:80", "[2001:db8::1]:443"] {
            assert_eq!(endpoint(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn a_plain_connection_has_no_policy() {
        let shown = connection(ConnKey { cookie: 9, conid: 4 }, &testing::connection(), &HashMap::new(), None, CLOCKS);
        assert_eq!((shown.conid, shown.cookie, shown.state), (4, 9, State(TcpState::Established)));
        assert_eq!(shown.remote.as_deref(), Some("192.0.2.7:5060"));
        assert_eq!((shown.policy.wanted, shown.policy.lifetime, shown.policy.result), (None, None, None));
    }
}
