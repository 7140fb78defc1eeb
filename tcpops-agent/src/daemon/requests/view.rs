//! Connections as answers show them: what their entries say, and when and why they will end.

use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};

use crate::api::connections::{Connection as ApiConnection, Expires};
use crate::api::problem::Problem;
use crate::clocks::Clocks;
use crate::convert;
use crate::daemon::expiry::protect::{Protections, protector};
use crate::daemon::requests::handle::{Command, Handle, Prospects};
use crate::daemon::shared::Shared;
use crate::model::expiry::connections::Prospect;
use crate::model::expiry::lifetimes::{Candidate, Look};
use crate::model::rules::in_force::InForce;

/// Shows connections as they are at one moment.
pub(crate) struct View<'a> {
    shared: &'a Shared,
    in_force: Arc<InForce>,
    clocks: Clocks,
    protections: Protections<'a>,
}

impl Handle {
    /// Asks the loop for what it knows of those connections that have limits.
    pub(crate) async fn prospects(
        &self,
        view: &View<'_>,
        connections: &[(ConnKey, Connection)],
    ) -> Result<Prospects, Problem> {
        let has_limits = |(key, connection): &&(ConnKey, Connection)| view.candidate(*key, connection).is_some();
        let keys: Vec<_> = connections.iter().filter(has_limits).map(|(key, _)| *key).collect();
        if keys.is_empty() {
            return Ok(Prospects::new());
        }
        self.ask(|answer| Command::Prospects { keys, answer }).await
    }
}

impl<'a> View<'a> {
    /// A view of this moment.
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let in_force = shared.in_force();
        Self { shared, protections: Protections::new(shared, Arc::clone(&in_force)), in_force, clocks: Clocks::read() }
    }

    /// Goes on to this moment. What is costly to find out is kept while the rules stay as they are.
    pub(crate) fn renew(&mut self) {
        if Arc::ptr_eq(&self.in_force, &self.shared.in_force()) {
            self.clocks = Clocks::read();
        } else {
            *self = Self::new(self.shared);
        }
    }

    /// The connections, with what the loop knows of them, in their order. Blocks where a rule protects a cgroup.
    pub(crate) fn show_all(
        &mut self,
        connections: &[(ConnKey, Connection)],
        prospects: &Prospects,
    ) -> impl Iterator<Item = ApiConnection> {
        let mut prospects = prospects.iter().peekable();
        connections.iter().map(move |(key, connection)| {
            let prospect = prospects.next_if(|(of, _)| of == key).map(|(_, prospect)| *prospect);
            self.show(*key, connection, prospect, None)
        })
    }

    /// One of them; with a look at its traffic, if there was one. Blocks likewise.
    pub(crate) fn show(
        &mut self,
        key: ConnKey,
        connection: &Connection,
        prospect: Option<Prospect>,
        look: Option<Look>,
    ) -> ApiConnection {
        let expires = self.expires(key, connection, prospect.unwrap_or_default(), look);
        convert::connections::connection(key, connection, self.in_force.names(), expires, self.clocks)
    }

    fn candidate(&self, key: ConnKey, connection: &Connection) -> Option<Candidate> {
        Candidate::of(key, connection, self.in_force.closing(connection.rule))
    }

    fn expires(
        &mut self,
        key: ConnKey,
        connection: &Connection,
        prospect: Prospect,
        look: Option<Look>,
    ) -> Option<Expires> {
        let Prospect { next_look_boot_ns, throttled, reset_at_boot_ns } = prospect;
        let candidate = self.candidate(key, connection)?;
        let (at_boot_ns, expiry) = candidate.outlook(look, next_look_boot_ns, self.clocks.boot_ns)?;
        if let Some(at_boot_ns) = reset_at_boot_ns {
            return convert::connections::expires(at_boot_ns, expiry, connection, None, self.clocks);
        }
        let (mut at_boot_ns, mut obstacle) = (at_boot_ns, None);
        if !candidate.is_override {
            if let Some(protection) = self.protections.of(key, connection) {
                obstacle = Some(format!("protected by {}", protector(protection, &self.in_force)));
            } else if !candidate.enforce {
                obstacle = Some("its rule has enforce = false".to_owned());
            } else if let Some(bound) = throttled {
                obstacle = Some(format!("held back by the guard's {}", bound.name()));
                at_boot_ns = next_look_boot_ns.unwrap_or(at_boot_ns);
            }
        }
        convert::connections::expires(at_boot_ns, expiry, connection, obstacle, self.clocks)
    }
}
