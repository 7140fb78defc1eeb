//! The filters that name connections by what they are.

use clap::Args;
use strum::VariantArray as _;
use tcpops_common::state::TcpState;

use super::words::words;
use crate::api::connections::ListQuery;
use crate::api::values::{CgroupPath, Cidr, Direction, Family, Origin, Ports, RuleName, State};

/// The filters of connections and of the events about them; all that are given must match.
#[derive(Clone, Debug, Args)]
pub(crate) struct FilterArgs {
    /// Begun by the peer, by this host, or a listener
    #[arg(long, value_name = "WHO", value_parser = words(Direction::VARIANTS, Into::into))]
    direction: Option<Direction>,
    /// With this address of this host, or one in this network
    #[arg(long, value_name = "ADDR[/LEN]")]
    local: Option<Cidr>,
    /// With this address of the peer, or one in this network
    #[arg(long, value_name = "ADDR[/LEN]")]
    remote: Option<Cidr>,
    /// With this port of this host, or one in this range
    #[arg(long, value_name = "PORT[-PORT]")]
    local_port: Option<Ports>,
    /// With this port of the peer, or one in this range
    #[arg(long, value_name = "PORT[-PORT]")]
    remote_port: Option<Ports>,
    /// Made in this cgroup or one below it: a path below the cgroup2 mount
    #[arg(long, value_name = "PATH")]
    cgroup: Option<CgroupPath>,
    /// Owned by this uid
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=4_294_967_294))]
    uid: Option<u32>,
    /// In the network namespace with this cookie (SO_NETNS_COOKIE)
    #[arg(long, value_name = "COOKIE")]
    netns: Option<u64>,
    /// Which this rule matches
    #[arg(long, value_name = "NAME")]
    rule: Option<RuleName>,
}

/// The filters of connections alone.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectionFilterArgs {
    /// In this TCP state
    #[arg(long, value_name = "STATE", value_parser = words(&TcpState::ALL, TcpState::name), ignore_case = true)]
    state: Option<TcpState>,
    /// Of this address family on the wire
    #[arg(long, value_name = "FAMILY", value_parser = words(Family::VARIANTS, Into::into))]
    family: Option<Family>,
    /// Whose handshake was seen, or which was open before the agent came
    #[arg(long, value_name = "HOW", value_parser = words(Origin::VARIANTS, Into::into))]
    origin: Option<Origin>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl FilterArgs {
    /// The query that asks for what matches.
    pub(crate) fn query(self) -> ListQuery {
        let Self { direction, local, remote, local_port, remote_port, cgroup, uid, netns, rule } = self;
        ListQuery {
            direction,
            local,
            remote,
            local_port,
            remote_port,
            cgroup,
            uid,
            netns,
            rule,
            ..ListQuery::default()
        }
    }
}

impl ConnectionFilterArgs {
    /// The query that asks for what matches.
    pub(crate) fn query(self) -> ListQuery {
        let Self { state, family, origin, filter } = self;
        ListQuery { state: state.map(State), family, origin, ..filter.query() }
    }
}
