//! The status of the agent.

use std::collections::BTreeMap;

use strum::VariantArray as _;
use tcpops_common::counters::Counter;

use crate::api::problem::Problem;
use crate::api::status::{self, GuardStatus, RulesStatus, Status};
use crate::daemon::counters::AgentCounter;
use crate::daemon::requests::handle::{Command, Handle, Numbers};
use crate::daemon::requests::origin::Origin;
use crate::daemon::walks::namespaces;
use crate::kernel::KernelError;
use crate::kernel::follow::Follow;
use crate::logging;
use crate::model::expiry::closing::Guard;

impl Handle {
    /// The status of the agent.
    pub(crate) async fn status(&self, origin: &Origin) -> Result<Status, Problem> {
        let Numbers { tracked, watched, waiting } = self.ask(|answer| Command::Numbers { answer }).await?;
        let (document, generation) = self.rules().await?;
        let facts = &self.shared.facts;
        let counters: Result<_, KernelError> = Counter::ALL
            .iter()
            .map(|&counter| Ok((counter.name().to_owned(), self.shared.settings.counter(counter)?)))
            .collect();
        let unreachable = namespaces::unreachable(&self.shared, origin.caller.privileged).await?;
        let mut limitations = self.shared.limitations();
        limitations.extend(namespaces::sentence(&unreachable));
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: facts.started,
            kernel: facts.kernel.clone(),
            cgroup: facts.cgroup.display().to_string(),
            pins: facts.pins.display().to_string(),
            resumed: facts.resumed,
            follow: match facts.follow {
                Follow::Callbacks => status::Follow::Callbacks,
                Follow::Tracepoint => status::Follow::Tracepoint,
            },
            tracked,
            max_connections: facts.max_connections,
            lifetimes: watched as u64,
            rules: RulesStatus {
                count: document.rules.len(),
                generation,
                file: facts.rules_file.as_ref().map(|path| path.display().to_string()),
            },
            counters: counters?,
            guard: self.guard(waiting),
            agent_counters: self.agent_counters(),
            unreachable,
            limitations,
        })
    }

    fn guard(&self, waiting: usize) -> GuardStatus {
        let (in_force, counters) = (self.shared.in_force(), &self.shared.counters);
        let Guard { closes_per_second, percent_per_minute, protected_ports } = in_force.guard();
        GuardStatus {
            closes_per_second: *closes_per_second,
            percent_per_minute: *percent_per_minute,
            protect_ports: protected_ports.clone(),
            waiting: waiting as u64,
            held_by_budget: counters.get(AgentCounter::HeldByBudget),
            held_by_cap: counters.get(AgentCounter::HeldByCap),
            protected: counters.get(AgentCounter::Protected),
            not_enforced: counters.get(AgentCounter::NotEnforced),
        }
    }

    fn agent_counters(&self) -> BTreeMap<String, u64> {
        let counters = &self.shared.counters;
        let longest_us = u64::try_from(counters.longest_window().as_micros()).unwrap_or(u64::MAX);
        let counts = AgentCounter::VARIANTS.iter().map(|&count| (count.name().to_owned(), counters.get(count)));
        let others = [("close_window_longest_us", longest_us), ("log_lines_dropped", logging::dropped())];
        counts.chain(others.map(|(name, count)| (name.to_owned(), count))).collect()
    }
}
