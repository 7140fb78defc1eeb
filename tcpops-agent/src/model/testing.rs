//! Connections for unit tests.

use tcpops_common::conn::{ConnKey, Connection, from_ip};
use tcpops_common::state::TcpState;

use crate::model::expiry::closing::Manner;
use crate::model::expiry::lifetimes::{Candidate, Limits};

/// An established outbound connection, 10.0.0.1:40000 to 192.0.2.7:5060, of uid 1000, under no policy.
pub(crate) fn connection() -> Connection {
    Connection {
        local_addr: from_ip([10, 0, 0, 1].into()),
        remote_addr: from_ip([192, 0, 2, 7].into()),
        local_port: 40_000,
        remote_port: 5060,
        uid: 1000,
        netns_cookie: 1,
        cgroup_id: 1,
        opened_boot_ns: 100,
        established_boot_ns: 200,
        state_since_boot_ns: 200,
        state: TcpState::Established,
        ..Connection::EMPTY
    }
}

/// An accepted connection, opened at 90 and established at 100, that no limit ends.
pub(crate) fn candidate() -> Candidate {
    Candidate {
        key: ConnKey { cookie: 9, conid: 1 },
        state: TcpState::Established,
        inbound: true,
        opened_boot_ns: 90,
        established_boot_ns: 100,
        state_since_boot_ns: 100,
        limits: Limits::default(),
        exempt: 0,
        rule: 0,
        is_override: false,
        manner: Manner::Reset,
        enforce: true,
    }
}
