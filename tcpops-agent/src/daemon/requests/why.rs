//! Why a connection has the policy that it has.

use tcpops_common::conn::{ConnKey, Connection};

use crate::api::policy::Why;
use crate::api::problem::Problem;
use crate::clocks::Clocks;
use crate::convert::policy::{override_of, set_by_program};
use crate::daemon::requests::handle::Handle;

impl Handle {
    /// The origin of a connection's policy.
    pub(crate) async fn why(&self, key: ConnKey, connection: &Connection) -> Result<Why, Problem> {
        let overriding = self.shared.overrides.get(key)?;
        let mut rule = None;
        if let Some(name) = self.shared.in_force().names().get(&connection.rule) {
            let (document, _) = self.rules().await?;
            rule = document.rules.into_iter().find(|rule| rule.name.as_str() == name);
        }
        Ok(Why {
            rule_is_gone: connection.rule != 0 && rule.is_none(),
            rule,
            r#override: overriding.map(|policy| override_of(&policy, connection, Clocks::read())),
            set_by_program: set_by_program(connection),
        })
    }
}
