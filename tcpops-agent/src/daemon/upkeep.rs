//! Looking after what the agent has in the kernel and in the file system, which others can take away or get in the way of.
//!
//! Nothing of this is looked for at rest: the kernel tells of files and directories (inotify), and of programs that are
//! attached and detached (`kernel/attach_watch`). Only while something is amiss, and on kernels that do not tell the latter,
//! the agent looks every one and a half seconds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::daemon::jobs::Job;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::attach_watch::AttachWatch;
use crate::kernel::file_watch::FileWatch;
use crate::kernel::neighbours::{Neighbour, neighbours};

/// How often to look while something is amiss, or where the kernel does not tell.
const AGAIN: Duration = Duration::from_millis(1_500);

/// Waits for changes, and looks.
pub(crate) struct Upkeep {
    pub(crate) changes: Changes,
    pub(crate) job: Job<(), Upkept>,
}

/// What tells that it is time to look.
pub(crate) struct Changes {
    attachments: AttachWatch,
    files: FileWatch,
    /// When to look in any case.
    next_look: Option<Instant>,
}

/// What a look has found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upkept {
    /// A program was not attached for a while: connections came and ended unseen.
    pub(crate) was_detached: bool,
    /// Another program may have had transitions of sockets go unseen until now.
    pub(crate) was_blinded: bool,
    has_put_back: bool,
    is_amiss: bool,
}

impl Upkeep {
    pub(crate) fn new(attachments: AttachWatch, pins: &Path, socket: &Path) -> Result<Self> {
        let files = FileWatch::new(pins, socket)?;
        let mut job = Job::new(|shared, _wishes| look(shared));
        // Much may have happened before it was watched for.
        job.want(());
        Ok(Self { changes: Changes { attachments, files, next_look: None }, job })
    }

    /// Asks for a look. What happens from now on leads to another.
    pub(crate) fn want(&mut self) -> Result<()> {
        self.changes.files.set()?;
        self.job.want(());
        Ok(())
    }

    /// Notes that a look is over.
    pub(crate) fn finish(&mut self, upkept: Upkept) -> Result<()> {
        let is_restless = upkept.is_amiss || !self.changes.attachments.tells();
        self.changes.next_look = is_restless.then(|| Instant::now() + AGAIN);
        // What was put back has to be watched, and may have gone again before that.
        if upkept.has_put_back { self.want() } else { Ok(()) }
    }
}

impl Changes {
    /// Returns when it is time to look. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        let next_look = self.next_look;
        let again = async || match next_look {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        };
        tokio::select! {
            changed = self.attachments.changed() => changed,
            changed = self.files.changed() => {
                changed?;
                self.files.set()
            }
            () = again() => {
                // Until the look is over.
                self.next_look = None;
                Ok(())
            }
        }
    }
}

/// Puts back what is missing, and sees to it that programs of others do no harm. Blocks.
fn look(shared: &Arc<Shared>) -> Upkept {
    let mut upkept = Upkept::default();
    if shared.attached.is_let_go() {
        return upkept;
    }
    let mut amiss = Vec::new();
    match shared.attached.restore() {
        Ok(restored) => {
            if !restored.programs.is_empty() {
                tracing::warn!(programs = ?restored.programs, "somebody has detached programs; attached again");
                upkept.was_detached = true;
            }
            upkept.has_put_back = !restored.programs.is_empty() || !restored.pins.is_empty();
            if !restored.pins.is_empty() {
                tracing::warn!(pins = ?restored.pins, "somebody has removed pins; pinned again");
            }
        }
        Err(error) => amiss.push(format!(
            "somebody has detached programs or removed pins, and they cannot be put back: {}",
            refusal::chain(&error)
        )),
    }
    if !shared.attached.has_cgroup() {
        amiss.push(format!(
            "the cgroup {} was removed: no new connection is tracked, until it is there again",
            shared.facts.cgroup.display()
        ));
    }
    if !shared.socket_file.is_there() {
        amiss.push(format!("the socket {} was removed: no client finds it", shared.facts.socket.display()));
        shared.socket_file.renew();
    }
    let mut harm = None;
    match neighbours(&shared.facts.cgroup_mount, &shared.facts.cgroup) {
        Ok(found) => {
            if !found.is_empty() && !shared.attached.is_followed() {
                match shared.attached.follow(&shared.walker) {
                    Ok(()) => upkept.was_blinded = true,
                    Err(error) => harm = Some(refusal::chain(&error)),
                }
            }
            let sentences: Vec<_> = found.iter().map(|found| sentence(found, harm.as_deref())).collect();
            for new in shared.set_neighbours(sentences) {
                tracing::warn!(limitation = new, "another program is there");
            }
        }
        Err(error) => tracing::warn!(error = refusal::chain(&error), "cannot look for programs of others"),
    }
    upkept.is_amiss = !amiss.is_empty();
    for new in shared.set_amiss(amiss) {
        tracing::error!(reason = new, "not ready");
    }
    upkept
}

/// What a program of somebody else means.
fn sentence(neighbour: &Neighbour, harm: Option<&str>) -> String {
    let Neighbour { cgroup, id, name } = neighbour;
    let what =
        format!("the sockops program {name} (id {id}) on the cgroup {} runs for the same sockets", cgroup.display());
    match harm {
        None => format!(
            "{what}: in case it turns their state callbacks off, their states are followed at a tracepoint too, which costs \
             a little for each transition"
        ),
        Some(why) => format!(
            "{what}: where it turns their state callbacks off, their states are wrong, since they cannot be followed at a \
             tracepoint: {why}"
        ),
    }
}
