//! The status of the agent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// The version of the agent.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started: Timestamp,
    /// The release of the running kernel.
    pub(crate) kernel: String,
    /// The cgroup2 directory that the kernel program is attached to: it sees the sockets of everything below.
    pub(crate) cgroup: String,
    /// The directory of the pinned maps, for `bpftool map dump pinned`.
    pub(crate) pins: String,
    /// True: the maps were there already, from an agent before.
    pub(crate) resumed: bool,
    /// The way in which the states of connections are followed that were open before the agent.
    pub(crate) follow: Follow,
    /// Live connections and listeners with an entry.
    pub(crate) tracked: u64,
    /// The most that there can be.
    pub(crate) max_connections: u32,
    /// The number of them with a lifetime that may be over before the agent looks at all connections next, or that
    /// traffic has postponed.
    pub(crate) lifetimes: u64,
    /// The rules in force.
    pub(crate) rules: RulesStatus,
    /// Counters of the kernel programs and the agent since the maps were made, by name.
    pub(crate) counters: BTreeMap<String, u64>,
    /// The bounds on closes by rules.
    pub(crate) guard: GuardStatus,
    /// Counters of the agent itself since it started, by name: closes and their outcomes, and runs of the hook.
    pub(crate) agent_counters: BTreeMap<String, u64>,
    /// The network namespaces that could not be entered, and still cannot: what was open there before is not tracked,
    /// and overrides, changed rules and closes do not reach what is tracked there.
    #[serde(default)]
    pub(crate) unreachable: Vec<UnreachableNamespace>,
    /// Features that this kernel lacks, and what that means; empty where it lacks none.
    pub(crate) limitations: Vec<String>,
}

/// The way in which the states of connections are followed that were open before the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Follow {
    /// Callbacks of each socket, as for other connections.
    Callbacks,
    /// A tracepoint that every socket of the host passes: the kernel cannot turn on their callbacks.
    Tracepoint,
}

/// The rules in force.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RulesStatus {
    /// The number of rules.
    pub(crate) count: usize,
    /// Raised by one with each change.
    pub(crate) generation: u64,
    /// The file that SIGHUP reads, if one was given.
    pub(crate) file: Option<String>,
}

/// The bounds on closes by rules, and what they held back.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct GuardStatus {
    /// The most closes in a second, by all rules together; absent where there is no bound.
    pub(crate) closes_per_second: Option<u32>,
    /// The most closes of one rule in a minute, in percent of the live connections; absent where there is no bound.
    pub(crate) percent_per_minute: Option<u8>,
    /// The ports of connections that no rule closes.
    pub(crate) protect_ports: Vec<u16>,
    /// The number of connections that wait for the guard to let them be closed.
    pub(crate) waiting: u64,
    /// The number of connections that the budget has held back so far.
    pub(crate) held_by_budget: u64,
    /// The number of connections that the cap of their rule has held back so far.
    pub(crate) held_by_cap: u64,
    /// The number of connections that were not closed because they are protected.
    pub(crate) protected: u64,
    /// The number of connections that a rule with `enforce = false` would have closed.
    pub(crate) not_enforced: u64,
}

/// A network namespace that cannot be entered. It is known by its cookie or by its place.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct UnreachableNamespace {
    /// Its cookie, as its connections have it.
    pub(crate) netns_cookie: Option<u64>,
    /// Its name, or a process in it: `/run/netns/blue`, `/proc/1234/ns/net`.
    pub(crate) place: Option<String>,
    /// Why not.
    pub(crate) why: String,
}
