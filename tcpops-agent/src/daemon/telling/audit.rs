//! The audit: every override and every close, with who, what, why and the result, in lines that have the same fields, under
//! a tracing target of their own. docs/operations.md has the fields.

use tcpops_common::conn::{ConnKey, Connection};
use tracing::field::display;
use tracing::{Level, error, info, warn};

pub(crate) struct Line<'a> {
    pub(crate) what: &'static str,
    /// Who: a person, or a rule.
    pub(crate) uid: Option<u32>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) key: ConnKey,
    pub(crate) connection: Option<&'a Connection>,
    pub(crate) why: String,
    pub(crate) result: &'static str,
    pub(crate) detail: Option<String>,
    pub(crate) late_ms: Option<u64>,
}

impl Line<'_> {
    pub(crate) fn write(&self, level: Level) {
        let Self { what, uid, rule, result, late_ms, .. } = *self;
        let conid = self.key.conid;
        let local = self.connection.map(|connection| display(connection.local()));
        let remote = self.connection.map(|connection| display(connection.remote()));
        let (why, detail) = (self.why.as_str(), self.detail.as_deref());
        macro_rules! write {
            ($write:ident) => {
                $write!(target: "tcpops::audit", uid, rule, conid, local, remote, why, result, late_ms, detail, "{what}")
            };
        }
        match level {
            Level::ERROR => write!(error),
            Level::WARN => write!(warn),
            _ => write!(info),
        }
    }
}

/// Rules were put in force, by a request of `uid` where it was one.
pub(crate) fn rules(uid: Option<u32>, why: &'static str, rules: usize, generation: u64) {
    info!(target: "tcpops::audit", uid, rules, generation, why, "rules");
}

/// Everything was taken out of the kernel, by a request of `uid` or, with no agent, by the command that it ran.
pub(crate) fn detached(uid: u32, restored: bool) {
    info!(target: "tcpops::audit", uid, restored, "detached");
}
