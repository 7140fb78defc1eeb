//! The agent: the one loop that knows both the model and the kernel.
//!
//! Every input comes in here, the model says what follows, and here it is done. What blocks (a walk, sock_diag, reading
//! the whole map) runs off the loop, one job of each kind at a time; what comes meanwhile waits for the next.

mod adopt;
mod close;
mod detach;
mod handle;
mod jobs;
mod origin;
mod push;
mod reevaluate;
mod refusal;
mod resolve;
mod rules;
mod shared;
mod start;

use std::sync::Arc;

use tcpops_common::conn::ConnKey;
use tcpops_common::counters::Counter;
use tcpops_common::event::Event;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

pub use detach::detach_offline;
pub use handle::{Acted, Action, Handle};
pub use origin::{Origin, group_id};
pub use shared::clocks;
pub use start::run;

use self::close::Closing;
use self::handle::Command;
use self::jobs::Jobs;
use self::push::Pushes;
use self::rules::RuleBook;
use self::shared::Shared;
use crate::api::problem::{Code, Problem};
use crate::api::rules_result::RulesResult;
use crate::kernel::cgroup_watch::CgroupWatch;
use crate::kernel::clock::{Timer, now_boot_ns};
use crate::kernel::events::Events;
use crate::kernel::pins::Pins;
use crate::kernel::{KernelError, Result};
use crate::model::connections::{CloseReason, Connections, Effect, Input};

/// The agent while it runs.
pub(crate) struct Daemon {
    shared: Arc<Shared>,
    pins: Arc<Pins>,
    connections: Connections,
    rules: RuleBook,
    pushes: Pushes,
    events: Events,
    timer: Timer,
    cgroups: CgroupWatch,
    jobs: Jobs,
    commands: mpsc::Receiver<Command>,
    effects: Vec<Effect>,
    /// Who waits for a connection to be closed.
    closing: Vec<(ConnKey, oneshot::Sender<Closing>)>,
    /// Events that came while everything is read anew; they are taken in afterwards.
    held: Vec<Event>,
    events_lost: u64,
}

/// What the loop waits for.
enum Woken {
    Events,
    Command(Option<Box<Command>>),
    Due,
    Job(jobs::Done),
    Reload,
    Cgroups,
    Stop(&'static str),
}

/// The signals that the agent answers; caught from before it is ready.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches them from now on. Within a tokio runtime.
    fn catch() -> Result<Self> {
        let listen =
            |kind| signal(kind).map_err(|error| KernelError::Missing(format!("cannot catch signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    /// Runs until a signal or a detach ends it.
    async fn serve(&mut self, mut signals: Signals) -> Result<()> {
        let mut events = Vec::new();
        // What follows from the cgroups and the connections that were there already.
        self.follow_cgroups()?;
        self.act()?;
        loop {
            let woken = self.wait(&mut signals, &mut events).await?;
            match woken {
                Woken::Events => self.take_events(&mut events)?,
                Woken::Command(Some(command)) => {
                    if self.command(*command).await? {
                        return Ok(());
                    }
                }
                Woken::Command(None) => return Ok(()),
                Woken::Due => self.input(Input::Due),
                Woken::Job(done) => self.done(done)?,
                Woken::Reload => self.reload()?,
                Woken::Cgroups => self.follow_cgroups()?,
                Woken::Stop(signal) => {
                    tracing::info!(signal, "stopping; what is pinned stays in force");
                    return Ok(());
                }
            }
            self.act()?;
        }
    }

    async fn wait(&mut self, signals: &mut Signals, events: &mut Vec<Event>) -> Result<Woken> {
        tokio::select! {
            _ = signals.terminate.recv() => Ok(Woken::Stop("SIGTERM")),
            _ = signals.interrupt.recv() => Ok(Woken::Stop("SIGINT")),
            _ = signals.hang_up.recv() => Ok(Woken::Reload),
            changed = self.cgroups.changed() => changed.map(|()| Woken::Cgroups),
            due = self.timer.due() => due.map(|()| Woken::Due),
            done = self.jobs.next() => Ok(Woken::Job(done)),
            command = self.commands.recv() => Ok(Woken::Command(command.map(Box::new))),
            read = self.events.next(&self.shared.switches, events) => read.map(|()| Woken::Events),
        }
    }

    fn input(&mut self, input: Input) {
        self.connections.apply(now_boot_ns(), input, &mut self.effects);
    }

    fn take_events(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let lost = self.shared.switches.counter(Counter::EventsLost)?;
        if lost != self.events_lost {
            tracing::warn!(lost = lost - self.events_lost, "events were lost; reading all connections anew");
            self.events_lost = lost;
            self.jobs.resync();
        }
        if self.jobs.resyncing() {
            self.held.append(events);
        }
        for event in events.drain(..) {
            self.input(Input::Event(event));
        }
        Ok(())
    }

    /// Does what a request asks for; true if the agent is to end.
    async fn command(&mut self, command: Command) -> Result<bool> {
        match command {
            Command::Lookup { cookie, answer } => give(answer, self.connections.conid(cookie)),
            Command::Push(pushes) => {
                for (push, answer) in pushes {
                    self.pushes.begin(&self.shared, push, answer);
                }
            }
            Command::Close { key, by_uid, answer } => {
                let reason = CloseReason::Request(by_uid);
                self.input(Input::Closing(key, reason));
                self.jobs.close(key, reason);
                self.closing.push((key, answer));
            }
            Command::Rules { answer } => give(answer, (self.rules.document().clone(), self.rules.generation())),
            Command::ReplaceRules { body, if_generation, dry_run, answer } => {
                let current = self.rules.generation();
                let result = match if_generation {
                    Some(expected) if expected != current => Err(Problem::new(
                        Code::PreconditionFailed,
                        format!("the rules are of generation {current}; If-Match expected {expected}"),
                    )),
                    _ => self.rules.replace(&self.shared, &body, dry_run),
                };
                match result {
                    Ok(result) if result.applied => {
                        self.jobs.reevaluate((result, Some(answer)));
                        self.watch_cgroups()?;
                    }
                    result => give(answer, result),
                }
            }
            Command::Count { answer } => give(answer, (self.connections.tracked(), self.connections.watched())),
            Command::Detach { answer } => {
                let result = detach::detach(&self.shared, &self.pins).await;
                let ended = result.is_ok();
                give(answer, result.map_err(|error| refusal::internal(&error)));
                return Ok(ended);
            }
        }
        Ok(false)
    }

    fn done(&mut self, done: jobs::Done) -> Result<()> {
        match done {
            jobs::Done::Inspected(inspected) => {
                for close::Inspected { key, subject, idle_ns } in inspected {
                    self.input(Input::Inspected { key, subject, idle_ns });
                }
            }
            jobs::Done::Closed(closed) => {
                for (key, reason, closing) in closed {
                    self.closed(key, reason, closing);
                }
            }
            jobs::Done::Walked(walked, pending) => {
                // A lifetime may have changed: what is watched follows at once.
                for key in self.pushes.finish(&self.shared, &walked, pending) {
                    self.jobs.inspect(key, false);
                }
            }
            jobs::Done::Reevaluated(changed, answers) => {
                let changed = changed?;
                tracing::info!(changed, "connections judged anew by the rules");
                for (result, answer) in answers {
                    if let Some(answer) = answer {
                        give(answer, Ok(RulesResult { changed, ..result }));
                    }
                }
            }
            jobs::Done::Resynced(connections) => {
                self.input(Input::Resync(connections?));
                for event in std::mem::take(&mut self.held) {
                    self.input(Input::Event(event));
                }
            }
        }
        Ok(())
    }

    fn closed(&mut self, key: ConnKey, reason: CloseReason, closing: Closing) {
        let conid = key.conid;
        match &closing {
            Closing::Done => tracing::info!(target: "tcpops::audit", conid, ?reason, "closed"),
            Closing::Absent => self.connections.forget_closing(key),
            Closing::NotClosable(why) => {
                tracing::warn!(target: "tcpops::audit", conid, ?reason, why, "not closable");
                self.connections.forget_closing(key);
            }
            Closing::Failed(error) => {
                let error = refusal::chain(error);
                tracing::error!(target: "tcpops::audit", conid, ?reason, error, "cannot close");
                if matches!(reason, CloseReason::Expired(_)) {
                    self.input(Input::CloseFailed(key));
                }
            }
        }
        if let Some(position) = self.closing.iter().position(|(waiting, _)| *waiting == key)
            && matches!(reason, CloseReason::Request(_))
        {
            let (_, answer) = self.closing.swap_remove(position);
            give(answer, closing);
        }
    }

    fn reload(&mut self) -> Result<()> {
        match self.rules.reload(&self.shared) {
            Ok(result) => {
                self.jobs.reevaluate((result, None));
                self.watch_cgroups()?;
            }
            Err(problem) => tracing::error!(error = problem.detail, "the rules stay as they were"),
        }
        Ok(())
    }

    /// A directory was made where a rule waits for one, or beside it.
    fn follow_cgroups(&mut self) -> Result<()> {
        self.watch_cgroups()?;
        match self.rules.follow_cgroups(&self.shared) {
            Ok(Some(result)) => self.jobs.reevaluate((result, None)),
            Ok(None) => {}
            Err(problem) => tracing::error!(error = problem.detail, "the rules stay as they were"),
        }
        Ok(())
    }

    fn watch_cgroups(&mut self) -> Result<()> {
        self.cgroups.set(self.rules.cgroups())
    }

    /// Does what the model asked for, and starts the jobs that wait.
    fn act(&mut self) -> Result<()> {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Inspect { key, look } => self.jobs.inspect(key, look),
                Effect::Expire(key, expiry) => {
                    let reason = CloseReason::Expired(expiry);
                    self.input(Input::Closing(key, reason));
                    self.jobs.close(key, reason);
                }
                Effect::Ended(key, reason, event) => {
                    tracing::debug!(
                        conid = key.conid,
                        ?reason,
                        state = event.old_state.name(),
                        errno = event.errno,
                        "ended"
                    );
                }
            }
        }
        if let Some(pending) = if self.jobs.walking() { None } else { self.pushes.take() } {
            self.jobs.walk(pending);
        }
        self.jobs.start(&self.shared);
        self.timer.set(self.connections.next_due())
    }
}

/// A caller that has gone does not wait for its answer.
fn give<T>(answer: oneshot::Sender<T>, value: T) {
    let _gone = answer.send(value);
}
