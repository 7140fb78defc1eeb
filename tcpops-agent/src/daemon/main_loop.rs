//! The agent: the one loop that knows both the model and the kernel.
//!
//! Every input comes in here, the model says what follows, and here it is done. What blocks (a walk, sock_diag, reading
//! the whole map) runs off the loop, one job of each kind at a time; what comes meanwhile waits for the next.

use std::collections::HashMap;
use std::sync::Arc;

use tcpops_common::conn::ConnKey;
use tcpops_common::counters::Counter;
use tcpops_common::event::Event;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::api::rules_result::RulesResult;
use crate::daemon::expiry::close::CloseOutcome;
use crate::daemon::expiry::outcome;
use crate::daemon::jobs::{Done, Jobs, RulesAnswer};
use crate::daemon::policy::overrides::Pushes;
use crate::daemon::policy::rules;
use crate::daemon::policy::rules::RuleStore;
use crate::daemon::requests::handle::{Command, Numbers};
use crate::daemon::shared::Shared;
use crate::daemon::telling::publish::Publisher;
use crate::daemon::walks::adopt;
use crate::daemon::{detach, refusal};
use crate::kernel::cgroup_watch::CgroupWatch;
use crate::kernel::clock::{Timer, now_boot_ns};
use crate::kernel::events::{BATCH, CAPACITY, Events};
use crate::kernel::pins::Pins;
use crate::kernel::{KernelError, Result};
use crate::model::adopt_backoff::{AdoptBackoff, Attempt};
use crate::model::expiry::connections::{CloseReason, Connections, Effect, Input};
use crate::model::expiry::enforcer::CloseOrder;
use crate::model::history::record::Loss;

/// The agent while it runs.
pub(crate) struct Daemon {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) connections: Connections,
    pub(crate) rules: RuleStore,
    pub(crate) pushes: Pushes,
    pub(crate) events: Events,
    pub(crate) publisher: Publisher,
    pub(crate) timer: Timer,
    pub(crate) cgroups: CgroupWatch,
    pub(crate) jobs: Jobs,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) effects: Vec<Effect>,
    /// Who waits for a connection to be closed.
    pub(crate) closing: HashMap<ConnKey, Vec<oneshot::Sender<CloseOutcome>>>,
    /// Events that came while everything is read anew; they are taken in afterwards.
    pub(crate) held: Vec<Event>,
    pub(crate) events_lost: u64,
    /// Events were lost, and so many were read since. Those that the ring held then are older than the loss.
    pub(crate) read_since_loss: Option<usize>,
    /// All connections were read anew, and the ring may still hold events from before that.
    pub(crate) resynced: bool,
    /// When to walk again for what found no room; not at all where nothing is to be adopted.
    pub(crate) adopt_backoff: Option<AdoptBackoff>,
    pub(crate) swept_boot_ns: u64,
}

/// The least time between two sweeps: callers can cause them.
const SWEEP_INTERVAL_NS: u64 = 10_000_000_000;

/// What the loop waits for.
enum Woken {
    Events,
    /// The ring is to be read to its end, without waiting for more.
    Behind,
    Command(Option<Box<Command>>),
    Due,
    Job(Done),
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
    pub(crate) fn catch() -> Result<Self> {
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
    pub(crate) async fn run(mut self, mut signals: Signals) -> Result<()> {
        let mut events = Vec::new();
        let result = match self.serve(&mut signals, &mut events).await {
            Ok(()) => self.tell_rest(&mut events),
            Err(error) => Err(error),
        };
        self.shared.event_log.close();
        result
    }

    async fn serve(&mut self, signals: &mut Signals, events: &mut Vec<Event>) -> Result<()> {
        // What follows from the cgroups and the connections that were there already.
        self.follow_cgroups()?;
        self.act()?;
        loop {
            let woken = self.wait(signals, events).await?;
            match woken {
                Woken::Events => self.take_events(events)?,
                Woken::Behind => {
                    self.events.read(events)?;
                    self.take_events(events)?;
                }
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

    /// Tells what has happened until now, and begins nothing more: streams end with it.
    fn tell_rest(&mut self, events: &mut Vec<Event>) -> Result<()> {
        // No more than the ring holds: connections come and go meanwhile.
        for _ in 0..CAPACITY.div_ceil(BATCH) {
            self.events.read(events)?;
            let was_emptied = events.len() < BATCH;
            self.take_events(events)?;
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Happened(event) => self.publisher.happened(&event),
                    Effect::Ended(pending_close, event) => self.publisher.ended(&event, pending_close),
                    Effect::Inspect(_) | Effect::Close(_) | Effect::Exempt(_) | Effect::Throttled(_) => {}
                }
            }
            if was_emptied {
                break;
            }
        }
        Ok(())
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
            read = self.events.next(&self.shared.settings, events) => read.map(|()| Woken::Events),
            () = std::future::ready(()), if self.is_behind() => Ok(Woken::Behind),
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.connections.apply(now_boot_ns(), input, &mut self.effects);
    }

    fn take_events(&mut self, events: &mut Vec<Event>) -> Result<()> {
        self.look_for_loss(events.len())?;
        if let Some(adopt_backoff) = &mut self.adopt_backoff {
            adopt_backoff.note(adopt::left_out(&self.shared)?);
        }
        if self.jobs.resyncing() {
            self.held.append(events);
            return Ok(());
        }
        let was_emptied = events.len() < BATCH;
        for event in events.drain(..) {
            self.input(Input::Event(event));
        }
        if self.resynced && was_emptied {
            self.resynced = false;
            self.input(Input::Resynced);
        }
        Ok(())
    }

    /// Whether the ring is to be read to its end.
    fn is_behind(&self) -> bool {
        self.read_since_loss.is_some() || self.resynced && !self.jobs.resyncing()
    }

    /// Where events were lost, reads all connections anew as soon as the ring has been read that far: what is missing then
    /// lies between the record that says so and the one that says that all is complete again.
    fn look_for_loss(&mut self, read: usize) -> Result<()> {
        let all = self.shared.settings.counter(Counter::EventsLost)?;
        let lost = all.saturating_sub(self.events_lost);
        if lost > 0 {
            tracing::warn!(lost, "events were lost; reading all connections anew");
            self.events_lost = all;
            self.publisher.lost(Some(lost), Loss::RingOverflow);
            self.read_since_loss.get_or_insert(0);
        }
        if let Some(since_loss) = &mut self.read_since_loss {
            *since_loss += read;
            let was_emptied = read < BATCH && lost == 0;
            if was_emptied || *since_loss >= CAPACITY {
                self.read_since_loss = None;
                self.jobs.resync();
            }
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
            Command::Close { key, by_uid, step, answer } => {
                let reason = CloseReason::Request(by_uid);
                let order = CloseOrder { key, reason, step, is_first: true, rule: 0, due_boot_ns: None };
                self.input(Input::Closing(order));
                self.jobs.close(order);
                self.closing.entry(key).or_default().push(answer);
            }
            Command::Prospects { keys, answer } => {
                let prospect = |key: ConnKey| (key, self.connections.prospect(key));
                give(answer, keys.into_iter().map(prospect).collect());
            }
            Command::Rules { answer } => give(answer, (self.rules.document().clone(), self.rules.generation())),
            Command::ReplaceRules { body, if_generation, by_uid, answer } => {
                let result = rules::check_generation(if_generation, self.rules.generation())
                    .and_then(|()| self.rules.replace(&self.shared, &body, by_uid));
                match result {
                    Ok(result) => {
                        self.rules_changed((result, Some(answer)));
                        self.watch_cgroups()?;
                    }
                    Err(problem) => give(answer, Err(problem)),
                }
            }
            Command::Numbers { answer } => {
                let connections = &self.connections;
                let (tracked, watched, waiting) = (connections.tracked(), connections.watched(), connections.waiting());
                give(answer, Numbers { tracked, watched, waiting });
            }
            Command::Sweep => {
                let now_boot_ns = now_boot_ns();
                if now_boot_ns.saturating_sub(self.swept_boot_ns) >= SWEEP_INTERVAL_NS {
                    self.swept_boot_ns = now_boot_ns;
                    self.jobs.sweep();
                }
            }
            Command::Detach { by_uid, answer } => {
                let result = detach::detach(&self.shared, &self.pins, by_uid).await;
                let ended = result.is_ok();
                give(answer, result.map_err(|error| refusal::internal(&error)));
                return Ok(ended);
            }
        }
        Ok(false)
    }

    fn done(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Inspected(inspected) => {
                for (key, inspection) in inspected {
                    self.input(Input::Inspected(key, inspection));
                }
            }
            Done::Closed(attempt) => attempt.into_iter().for_each(|attempt| self.closed(attempt)),
            Done::Walked(walked, pending) => {
                // A lifetime may have changed: what is watched follows at once.
                for key in self.pushes.finish(&self.shared, &walked, pending) {
                    self.jobs.inspect(key);
                }
            }
            Done::Reevaluated(changed, answers) => {
                let changed = changed?;
                tracing::info!(changed, "connections judged anew by the rules");
                for (result, answer) in answers {
                    if let Some(answer) = answer {
                        give(answer, Ok(RulesResult { changed, ..result }));
                    }
                }
                self.jobs.judge();
            }
            Done::Adopted(adopted) => {
                let adopted = adopted?;
                if let Some(adopt_backoff) = &mut self.adopt_backoff {
                    adopt_backoff.note(adopt::left_out(&self.shared)?);
                    adopt_backoff.end(now_boot_ns(), adopted);
                }
            }
            Done::Swept(removed) => {
                let removed = removed?;
                if removed > 0 {
                    // The events of their ends are missing.
                    self.publisher.lost(None, Loss::Detached);
                    self.jobs.resync();
                }
            }
            Done::Judged(connections) => {
                if self.jobs.settled() {
                    self.input(Input::Settled);
                }
                self.input(Input::Judged(connections?));
            }
            Done::Resynced(connections) => {
                self.input(Input::Resync(connections?));
                self.publisher.resynchronised(self.connections.tracked());
                for event in std::mem::take(&mut self.held) {
                    self.input(Input::Event(event));
                }
                self.resynced = true;
            }
        }
        Ok(())
    }

    /// Judges every connection by the rules that are now in force.
    fn rules_changed(&mut self, answer: RulesAnswer) {
        self.input(Input::RulesChanged(self.shared.in_force().guard().clone()));
        self.jobs.reevaluate(answer);
    }

    fn reload(&mut self) -> Result<()> {
        match self.rules.reload(&self.shared) {
            Ok(result) => {
                self.rules_changed((result, None));
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
            Ok(Some(result)) => self.rules_changed((result, None)),
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
                Effect::Inspect(key) => self.jobs.inspect(key),
                Effect::Close(order) => {
                    if let (true, CloseReason::Expired(expiry)) = (order.is_first, order.reason) {
                        self.publisher.expiring(&self.shared, order.key, expiry, order.rule);
                    }
                    self.jobs.close(order);
                }
                Effect::Exempt(exemption) => outcome::exempt(&self.shared, &exemption),
                Effect::Throttled(throttled) => {
                    outcome::throttled(&self.shared, &throttled, self.connections.waiting())
                }
                Effect::Happened(event) => self.publisher.happened(&event),
                Effect::Ended(pending_close, event) => self.publisher.ended(&event, pending_close),
            }
        }
        self.publisher.announce();
        if let Some(pending) = if self.jobs.walking() { None } else { self.pushes.take() } {
            self.jobs.walk(pending);
        }
        let again = self.readopt();
        self.jobs.start(&self.shared);
        self.timer.set(self.connections.next_due().into_iter().chain(again).min())
    }

    /// Has what found no room taken in, where there is room now; or says when that may be.
    fn readopt(&mut self) -> Option<u64> {
        let has_room = self.connections.tracked() < self.shared.facts.max_connections as usize;
        let adopt_backoff = self.adopt_backoff.as_mut()?;
        match adopt_backoff.attempt(now_boot_ns(), has_room) {
            Attempt::None => None,
            Attempt::At(at_boot_ns) => Some(at_boot_ns),
            Attempt::Now => {
                adopt_backoff.begin();
                self.jobs.adopt();
                None
            }
        }
    }
}

/// A caller that has gone does not wait for its answer.
pub(crate) fn give<T>(answer: oneshot::Sender<T>, value: T) {
    let _gone = answer.send(value);
}
