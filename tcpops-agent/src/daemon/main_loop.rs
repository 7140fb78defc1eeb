//! The one loop: every input comes in here, the model says what follows, and the roads do it.

use std::sync::Arc;

use tcpops_common::conn::ConnKey;
use tcpops_common::event::Event;
use tokio::sync::mpsc;

use crate::daemon::detach::detach;
use crate::daemon::expiry::close::{Checked, CloseAttempt, CloseRequest, Closed};
use crate::daemon::expiry::outcome;
use crate::daemon::intake::Intake;
use crate::daemon::jobs::Job;
use crate::daemon::policy::overrides::OverrideRequest;
use crate::daemon::policy::rules::{RuleStore, check_generation};
use crate::daemon::refusal;
use crate::daemon::requests::handle::{Command, Numbers, QUEUE};
use crate::daemon::shared::{Shared, reply};
use crate::daemon::signals::{Asked, Signals};
use crate::daemon::telling::demand::Telling;
use crate::daemon::telling::publish::Publisher;
use crate::daemon::tracker::Tracker;
use crate::daemon::upkeep::{Upkeep, Upkept};
use crate::daemon::walks::adopt::Adoption;
use crate::daemon::walks::reevaluate::RulesAnswer;
use crate::daemon::walks::sweep::Sweeper;
use crate::events::Demand;
use crate::kernel::Result;
use crate::kernel::cgroup_watch::CgroupWatch;
use crate::kernel::clock::Timer;
use crate::kernel::events::{BATCH, CAPACITY};
use crate::kernel::pins::Pins;
use crate::model::expiry::connections::{Found, Input, Known};
use crate::model::expiry::effects::Effect;
use crate::model::history::record::Loss;

/// The agent while it runs.
pub(crate) struct Daemon {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) timer: Timer,
    pub(crate) cgroups: CgroupWatch,
    pub(crate) intake: Intake,
    pub(crate) tracker: Tracker,
    pub(crate) publisher: Publisher,
    pub(crate) telling: Telling,
    /// What the agent itself wants to have told.
    pub(crate) _demands: Vec<Demand>,
    pub(crate) rules: RuleStore,
    pub(crate) overrides: Job<OverrideRequest, Vec<ConnKey>>,
    pub(crate) reevaluate: Job<RulesAnswer, Result<()>>,
    /// Looks at the limits of every connection by what the rules in force say about closing, which is not in the entries.
    pub(crate) judge: Job<(), Result<Vec<Known>>>,
    /// Looks for the connections whose limits are near.
    pub(crate) look: Job<(), Result<Vec<Known>>>,
    pub(crate) inspect: Job<ConnKey, Vec<(ConnKey, Found)>>,
    pub(crate) close: Job<CloseRequest, Closed>,
    pub(crate) close_under_lock: Job<Checked, Vec<CloseAttempt>>,
    pub(crate) adoption: Adoption,
    pub(crate) sweeper: Sweeper,
    pub(crate) upkeep: Upkeep,
    /// Readers were told that something happened which nobody saw, and not yet that all was read anew.
    pub(crate) is_sight_lost: bool,
    /// The sweep that comes is to be followed by a walk.
    pub(crate) is_walk_wanted: bool,
}

/// What the loop does after a command.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

impl Daemon {
    /// Runs until a signal or a detach ends it.
    ///
    /// # Errors
    /// Fails if the kernel refuses what the agent cannot do without.
    pub(crate) async fn run(mut self, mut signals: Signals) -> Result<()> {
        let mut events = Vec::new();
        let result = match self.serve(&mut signals, &mut events).await {
            Ok(()) => self.publish_rest(&mut events),
            Err(error) => Err(error),
        };
        self.shared.event_log.close();
        result
    }

    async fn serve(&mut self, signals: &mut Signals, events: &mut Vec<Event>) -> Result<()> {
        let mut commands = Vec::new();
        // The cgroups and connections that were there already ask for something, too.
        self.follow_cgroups()?;
        self.act()?;
        loop {
            let is_behind = self.intake.is_behind();
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => self.reload()?,
                    Asked::Stop(signal) => {
                        tracing::info!(signal, "stopping; what is pinned stays in force");
                        return Ok(());
                    }
                },
                changed = self.cgroups.changed() => {
                    changed?;
                    self.follow_cgroups()?;
                }
                due = self.timer.due() => {
                    due?;
                    self.tracker.input(Input::Due);
                }
                count = self.commands.recv_many(&mut commands, QUEUE) => {
                    // What requests ask about may be told and not read yet, since nobody waits for it.
                    self.take_all(events)?;
                    if count == 0 || self.obey(commands.drain(..), events).await? == Next::End {
                        return Ok(());
                    }
                }
                read = self.intake.ring.next(&self.shared.settings, events) => {
                    read?;
                    self.take(events)?;
                }
                // The ring is to be read to its end, without waiting for more.
                () = std::future::ready(()), if is_behind => {
                    self.intake.ring.read(events)?;
                    self.take(events)?;
                }
                // A lifetime may have changed: what is watched follows at once.
                changed = self.overrides.finished() => {
                    changed.into_iter().for_each(|key| self.tracker.input(Input::Changed(key)));
                }
                result = self.reevaluate.finished() => {
                    result?;
                    self.judge.want(());
                }
                connections = self.judge.finished() => {
                    if self.reevaluate.is_idle() && self.judge.is_idle() {
                        self.tracker.input(Input::RulesApplied);
                    }
                    self.tracker.input(Input::Judged(connections?));
                }
                connections = self.look.finished() => self.tracker.input(Input::Looked(connections?)),
                inspected = self.inspect.finished() => {
                    // The ends of connections that are gone were told before that.
                    self.take_all(events)?;
                    self.tracker.input(Input::Live(self.live()?));
                    for (key, found) in inspected {
                        self.tracker.input(Input::Inspected(key, found));
                    }
                }
                closed = self.close.finished() => {
                    // The next are closed while this is told.
                    self.close.start(&self.shared);
                    closed.rest.into_iter().for_each(|checked| self.close_under_lock.want(checked));
                    self.closed(closed.attempts);
                }
                attempts = self.close_under_lock.finished() => self.closed(attempts),
                changed = self.upkeep.changes.changed() => {
                    changed?;
                    self.upkeep.job.want(());
                }
                upkept = self.upkeep.job.finished() => self.upkept(upkept)?,
                adopted = self.adoption.job.finished() => {
                    self.adoption.finish(&self.shared, adopted?)?;
                    self.judge.want(());
                    if self.sweeper.job.is_idle() && std::mem::take(&mut self.is_sight_lost) {
                        self.intake.resync.want(());
                    }
                }
                removed = self.sweeper.job.finished() => {
                    let removed = removed?;
                    // The events of their ends are missing.
                    if removed > 0 {
                        self.lose_sight();
                    }
                    self.sweeper.finish(removed);
                    if std::mem::take(&mut self.is_walk_wanted) || removed > 0 {
                        // There is room now.
                        self.adoption.want_at_once();
                    }
                }
                connections = self.intake.resync.finished() => {
                    self.publisher.resynchronised(self.shared.settings.tracked()?);
                    self.tracker.input(Input::Resync(connections?));
                }
            }
            self.act()?;
        }
    }

    fn take(&mut self, events: &mut Vec<Event>) -> Result<()> {
        if self.adoption.note(&self.shared)? {
            self.telling.set_anew(&self.shared)?;
            // Entries without a socket may take the room.
            self.sweeper.want_room();
        }
        self.intake.take(&self.shared, &mut self.tracker, &self.publisher, events)
    }

    /// Takes in all that was told until now; no more than the ring holds, since connections come and go meanwhile.
    fn take_all(&mut self, events: &mut Vec<Event>) -> Result<()> {
        for _ in 0..CAPACITY.div_ceil(BATCH) {
            self.intake.ring.read(events)?;
            let was_emptied = events.len() < BATCH;
            if !events.is_empty() {
                self.take(events)?;
            }
            if was_emptied {
                break;
            }
        }
        Ok(())
    }

    /// How many connections there are, without listeners.
    fn live(&self) -> Result<usize> {
        let settings = &self.shared.settings;
        let live = settings.tracked()?.saturating_sub(settings.listeners()?);
        Ok(usize::try_from(live).unwrap_or(usize::MAX))
    }

    async fn obey(&mut self, commands: impl Iterator<Item = Command>, events: &mut Vec<Event>) -> Result<Next> {
        for command in commands {
            if self.command(command, events).await? == Next::End {
                return Ok(Next::End);
            }
        }
        Ok(Next::Continue)
    }

    /// Does what a request asks for.
    async fn command(&mut self, command: Command, events: &mut Vec<Event>) -> Result<Next> {
        match command {
            Command::Override(request) => self.overrides.want(request),
            Command::Close(request) => {
                self.tracker.input(Input::Closing(request.order));
                self.close.want(request);
            }
            Command::Prospects { keys, answer } => {
                let prospect = |key: ConnKey| (key, self.tracker.connections().prospect(key));
                reply(answer, keys.into_iter().map(prospect).collect());
            }
            Command::Rules { answer } => reply(answer, (self.rules.document().clone(), self.rules.generation())),
            Command::ReplaceRules { body, if_generation, by_uid, answer } => {
                let result = check_generation(if_generation, self.rules.generation())
                    .and_then(|()| self.rules.replace(&self.shared, &body, by_uid));
                match result {
                    Ok(result) => self.rules_changed((result, Some(answer)))?,
                    Err(problem) => reply(answer, Err(problem)),
                }
            }
            Command::Numbers { answer } => {
                let connections = self.tracker.connections();
                let (tracked, watched, waiting) =
                    (self.shared.settings.tracked()?, connections.watched(), connections.throttled());
                reply(answer, Numbers { tracked, watched, waiting });
            }
            Command::Tell { answer } => {
                self.tell()?;
                self.take_all(events)?;
                self.publish();
                reply(answer, ());
            }
            Command::Sweep => self.sweeper.want(),
            Command::Look => self.upkeep.want()?,
            Command::Detach { by_uid, answer } => {
                let result = detach(&self.shared, &self.pins, by_uid).await;
                let next = if result.is_ok() { Next::End } else { Next::Continue };
                reply(answer, result.map_err(Into::into));
                return Ok(next);
            }
        }
        Ok(Next::Continue)
    }

    /// Does what follows from a look at what others may have taken away.
    fn upkept(&mut self, upkept: Upkept) -> Result<()> {
        self.upkeep.finish(upkept)?;
        if upkept.was_detached {
            self.lose_sight();
        }
        if upkept.was_detached || upkept.was_blinded {
            // What has gone makes room for what is taken in by the walk, which also sees to the states of what is there.
            self.sweeper.want_at_once();
            self.is_walk_wanted = true;
        }
        Ok(())
    }

    /// Says, once for each time, that something happened to connections that nobody saw. After the next sweep and walk all
    /// is read anew.
    fn lose_sight(&mut self) {
        if !std::mem::replace(&mut self.is_sight_lost, true) {
            self.publisher.lost(None, Loss::Detached);
        }
    }

    fn closed(&mut self, attempts: Vec<CloseAttempt>) {
        for attempt in attempts {
            outcome::closed(&self.shared, &mut self.tracker, attempt);
        }
    }

    /// Has every connection judged by the rules that are now in force.
    fn rules_changed(&mut self, answer: RulesAnswer) -> Result<()> {
        self.tracker.input(self.shared.rules_changed());
        self.reevaluate.want(answer);
        if self.rules.left_untracked() {
            self.adoption.want_at_once();
        }
        self.watch_cgroups()
    }

    /// Watches for the cgroups that rules name, and for the one that the programs are attached to.
    fn watch_cgroups(&mut self) -> Result<()> {
        let facts = &self.shared.facts;
        let own = facts.cgroup.strip_prefix(&facts.cgroup_mount).ok().and_then(|path| path.to_str());
        self.cgroups.set(self.rules.cgroups().chain(own.filter(|own| !own.is_empty())))
    }

    fn reload(&mut self) -> Result<()> {
        match self.rules.reload(&self.shared) {
            Ok(result) => self.rules_changed((result, None))?,
            Err(problem) => tracing::error!(error = problem.detail, "the rules stay as they were"),
        }
        Ok(())
    }

    /// Looks for the cgroups that rules name: a directory was made near one of them.
    fn follow_cgroups(&mut self) -> Result<()> {
        self.watch_cgroups()?;
        self.upkeep.want()?;
        match self.rules.follow_cgroups(&self.shared) {
            Ok(Some(result)) => self.rules_changed((result, None))?,
            Ok(None) => {}
            Err(problem) => tracing::error!(error = problem.detail, "the rules stay as they were"),
        }
        Ok(())
    }

    /// Does what the model asked for, and starts the jobs that wait.
    fn act(&mut self) -> Result<()> {
        self.publish();
        self.tell()?;
        let again = self.adoption.attempt(&self.shared)?.into_iter().chain(self.sweeper.attempt());
        self.start_jobs();
        let release = self.release_setsockopt();
        self.timer.set(self.tracker.connections().next_due().into_iter().chain(again).chain(release).min())
    }

    /// Detaches the setsockopt program where nothing needs it; or says when to ask again. An end of a connection that has an
    /// override wakes the agent.
    fn release_setsockopt(&self) -> Option<u64> {
        let shared = &self.shared;
        if shared.in_force().wants_options() || !self.reevaluate.is_idle() || !self.overrides.is_idle() {
            return None;
        }
        let is_needed = || shared.overrides.is_empty().map(|is_empty| !is_empty);
        shared.attached.setsockopt.release(is_needed).unwrap_or_else(|error| {
            // A file system that is read-only, say. It costs time, and does no harm.
            tracing::warn!(error = refusal::chain(&error), "the setsockopt program stays attached");
            None
        })
    }

    /// Publishes what has happened, and has done what follows.
    fn publish(&mut self) {
        for effect in self.tracker.take_effects() {
            self.publisher.publish(&effect);
            match effect {
                Effect::Inspect(key) => self.inspect.want(key),
                Effect::LookAtAll => self.look.want(()),
                Effect::Close(order) => self.close.want(CloseRequest { order, answer: None }),
                Effect::Exempt(exemption) => outcome::exempt(&self.shared, &exemption),
                Effect::Throttled(throttled) => {
                    outcome::throttled(&self.shared, &throttled, self.tracker.connections().throttled());
                }
                Effect::Happened(_) | Effect::Ended(..) => {}
            }
        }
        self.publisher.announce();
    }

    /// Has the kernel programs tell what somebody wants to know.
    fn tell(&mut self) -> Result<()> {
        if self.telling.update(&self.shared, self.adoption.is_waiting())? {
            self.publisher.read_again();
        }
        self.intake.ring.set_read(self.telling.is_at_once());
        Ok(())
    }

    fn start_jobs(&mut self) {
        let shared = &self.shared;
        self.overrides.start(shared);
        self.reevaluate.start(shared);
        self.judge.start(shared);
        self.look.start(shared);
        self.inspect.start(shared);
        self.close.start(shared);
        self.close_under_lock.start(shared);
        self.adoption.job.start(shared);
        self.sweeper.job.start(shared);
        self.upkeep.job.start(shared);
        self.intake.resync.start(shared);
    }

    /// Publishes what has happened until now, and begins nothing more: streams end with it.
    fn publish_rest(&mut self, events: &mut Vec<Event>) -> Result<()> {
        self.take_all(events)?;
        for effect in self.tracker.take_effects() {
            self.publisher.publish(&effect);
        }
        Ok(())
    }
}
