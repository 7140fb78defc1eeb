//! Changing the policy of one connection, and closing one.

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::policy::Lifetime;

use crate::api::problem::{Code, Problem};
use crate::daemon::expiry::close::{CloseOutcome, CloseRequest};
use crate::daemon::policy::overrides::OverrideRequest;
use crate::daemon::refusal;
use crate::daemon::requests::handle::{Command, Handle};
use crate::daemon::requests::origin::Origin;
use crate::daemon::room;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::descriptor::Descriptor;
use crate::model::expiry::closing::{CloseStep, Closed, Manner};
use crate::model::expiry::effects::{CloseOrder, CloseReason};
use crate::model::requests::policies::Change;
use crate::model::requests::selector::Selector;

impl Handle {
    /// Changes the policy of a connection; answers with its conid, and its entry once that is in force.
    pub(crate) async fn change(&self, id: &str, change: Change, origin: &Origin) -> Result<(u64, Connection), Problem> {
        let (key, _) = self.find(id, origin).await?;
        let descriptor = self.descriptor_of(id, key, origin);
        Ok((key.conid, self.change_found(key, change, origin.caller.uid, descriptor).await?))
    }

    /// Closes a connection; answers with its conid, and how it was closed.
    pub(crate) async fn close(&self, id: &str, manner: Manner, origin: &Origin) -> Result<(u64, Closed), Problem> {
        let (key, _) = self.find(id, origin).await?;
        Ok((key.conid, self.close_found(key, manner, origin.caller.uid).await?))
    }

    /// As [`change`](Self::change), of a connection that was found, by the caller's descriptor where there is one.
    pub(crate) async fn change_found(
        &self,
        key: ConnKey,
        change: Change,
        by_uid: u32,
        descriptor: Option<Descriptor>,
    ) -> Result<Connection, Problem> {
        self.ask(|answer| Command::Override(OverrideRequest { key, change, by_uid, descriptor, answer })).await?
    }

    /// A copy of the descriptor that a name stands for, if it leads to this connection.
    pub(crate) fn descriptor_of(&self, id: &str, key: ConnKey, origin: &Origin) -> Option<Descriptor> {
        let Ok(Selector::Descriptor(number)) = Selector::parse(id) else { return None };
        let descriptor = origin.descriptor(number).ok()??;
        // It is open until the change is made: where there is no room for that, a walk makes it.
        if !room::is_for(origin.caller.uid, &descriptor.as_fd()) {
            return None;
        }
        let tag = self.shared.connections.tag(&descriptor).ok()?;
        (tag == Some(key.conid)).then_some(descriptor)
    }

    /// As [`close`](Self::close), of a connection that was found. The end of a grace is set as a lifetime first, where it
    /// outlives this agent, and then the FIN is sent.
    pub(crate) async fn close_found(&self, key: ConnKey, manner: Manner, by_uid: u32) -> Result<Closed, Problem> {
        let step = match manner {
            Manner::Reset => CloseStep::Reset,
            Manner::Fin { grace_ns } => {
                let deadline_boot_ns = now_boot_ns().saturating_add(grace_ns);
                let lifetime = Lifetime { deadline_boot_ns, ..Lifetime::NONE };
                self.change_found(key, Change::LifetimeSet { lifetime, jitter_percent: 0 }, by_uid, None).await?;
                CloseStep::Fin { grace_ns }
            }
        };
        let reason = CloseReason::Request(by_uid);
        let order = CloseOrder { key, reason, step, is_first: true, rule: 0, due_boot_ns: None };
        match self.ask(|answer| Command::Close(CloseRequest { order, answer: Some(answer) })).await? {
            CloseOutcome::Reset(no_fin) => Ok(Closed::Reset(no_fin)),
            CloseOutcome::Fin { reset_at_boot_ns } => Ok(Closed::Fin(reset_at_boot_ns)),
            CloseOutcome::Absent => Err(refusal::no_such_connection(key.conid)),
            CloseOutcome::NotClosable(why) => {
                Err(Problem::new(Code::NotClosable, format!("connection {} cannot be closed: {why}", key.conid)))
            }
            CloseOutcome::Failed(error) => Err(error.into()),
        }
    }
}
