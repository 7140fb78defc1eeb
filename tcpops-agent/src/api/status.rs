//! How the agent fares.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of the agent.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// The release of the running kernel.
    pub kernel: String,
    /// The cgroup2 directory that the kernel program is attached to: it sees the sockets of everything below.
    pub cgroup: String,
    /// The directory of the pinned maps, for `bpftool map dump pinned`.
    pub pins: String,
    /// Whether the maps were there already, from an agent before.
    pub resumed: bool,
    /// Live connections and listeners with an entry.
    pub tracked: u64,
    /// How many there can be.
    pub max_connections: u32,
    /// How many of them have a lifetime that is being watched.
    pub lifetimes: u64,
    /// The rules in force.
    pub rules: RulesStatus,
    /// What the kernel programs and the agent counted since the maps were made, by name.
    pub counters: BTreeMap<String, u64>,
    /// What this kernel lacks or cannot do, and what that means; empty where nothing is amiss.
    pub limitations: Vec<String>,
}

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RulesStatus {
    /// How many.
    pub count: usize,
    /// Raised by one with each change.
    pub generation: u64,
    /// The file that SIGHUP reads, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}
