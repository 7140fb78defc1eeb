//! Making the daemon: opening the maps, and catching up with what happened while no agent ran.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::config::{Config, Recorded};
use crate::daemon::expiry::{close, inspect};
use crate::daemon::intake::Intake;
use crate::daemon::jobs::Job;
use crate::daemon::main_loop::Daemon;
use crate::daemon::policy::overrides;
use crate::daemon::policy::rules::RuleStore;
use crate::daemon::progress::Progress;
use crate::daemon::requests::handle::{Handle, QUEUE};
use crate::daemon::requests::probe::finish_all;
use crate::daemon::shared::{Facts, Shared};
use crate::daemon::telling::demand::Telling;
use crate::daemon::telling::publish::Publisher;
use crate::daemon::tracker::Tracker;
use crate::daemon::upkeep::Upkeep;
use crate::daemon::walks::adopt::{Adoption, adopt, left_out};
use crate::daemon::walks::read_all::{self, read_all};
use crate::daemon::walks::reevaluate::{self, reevaluate};
use crate::daemon::walks::sweep::{Sweeper, sweep};
use crate::events::Demand;
use crate::kernel::attach_watch::AttachWatch;
use crate::kernel::attached::Attached;
use crate::kernel::cgroup_watch::CgroupWatch;
use crate::kernel::clock::Timer;
use crate::kernel::events::Events;
use crate::kernel::load::Loaded;
use crate::kernel::netns::Namespaces;
use crate::kernel::pins::Pins;
use crate::kernel::requirements;
use crate::kernel::rules::Rules;
use crate::model::expiry::connections::Input;
use crate::model::history::record::Kinds;

impl Daemon {
    /// Makes everything ready, with what earlier agents left in the maps.
    ///
    /// # Errors
    /// Says what is in the way.
    pub(crate) fn prepare(
        config: &Config,
        cgroup_mount: PathBuf,
        cgroup: PathBuf,
        pins: Arc<Pins>,
        mut loaded: Loaded,
        attached: Attached,
        progress: &Progress,
    ) -> anyhow::Result<(Self, Handle)> {
        if let Some(log) = loaded.log.take() {
            log.follow()?;
        }
        let attachments = AttachWatch::new(loaded.attach_programs.take())?;
        let shared = Arc::new(open(config, cgroup_mount, cgroup, &pins, loaded, attached)?);
        progress.adopting(&shared);
        // The maps hold what happened before; from here on the ring has it.
        let intake = Intake::new(Events::open(&pins)?, &shared)?;
        let rules = RuleStore::open(&shared, Rules::open(&pins)?, config.rules.clone())
            .map_err(|problem| anyhow::anyhow!(problem.detail))?;
        let demands = demands(config, &shared);
        let mut telling = Telling::default();
        telling.update(&shared, false)?;
        let left_out = catch_up(&shared, config.adopt)?;
        let tracker = track(&shared)?;
        let mut judge = Job::new(read_all::run);
        if !shared.facts.resumed {
            // What was just taken in is judged when the loop runs.
            judge.want(());
        }
        let (sender, commands) = mpsc::channel(QUEUE);
        let daemon = Self {
            pins,
            commands,
            timer: Timer::new()?,
            cgroups: CgroupWatch::new(&shared.facts.cgroup_mount),
            intake,
            tracker,
            publisher: Publisher::new(Arc::clone(&shared.event_log)),
            rules,
            overrides: Job::new(overrides::run),
            reevaluate: Job::new(reevaluate::run),
            judge,
            look: Job::new(read_all::look),
            telling,
            _demands: demands,
            inspect: Job::in_batches(inspect::BATCH, inspect::run),
            close: Job::in_batches(close::BATCH, close::run),
            close_under_lock: Job::in_batches(close::BATCH_UNDER_LOCK, close::run_under_lock),
            adoption: Adoption::new(left_out),
            sweeper: Sweeper::new(),
            upkeep: Upkeep::new(attachments, &shared.facts.pins, &shared.facts.socket)?,
            is_sight_lost: false,
            is_walk_wanted: false,
            shared: Arc::clone(&shared),
        };
        Ok((daemon, Handle::new(sender, shared)))
    }

    /// Says in the log that it serves, and what is amiss.
    pub(crate) fn announce(&self, socket: &Path) {
        let facts = &self.shared.facts;
        tracing::info!(
            cgroup = %facts.cgroup.display(), pins = %facts.pins.display(), socket = %socket.display(),
            resumed = facts.resumed, tracked = self.shared.settings.tracked().unwrap_or(0),
            rules = self.rules.document().rules.len(), "ready"
        );
        for limitation in self.shared.limitations() {
            tracing::warn!(limitation, "something is amiss");
        }
    }
}

/// What the agent itself wants to have told, for as long as it runs.
fn demands(config: &Config, shared: &Shared) -> Vec<Demand> {
    let of_record = (config.record == Recorded::All).then_some(Kinds::ALL);
    let of_hook = config.hook.as_ref().map(|hook| hook.kinds);
    of_record.into_iter().chain(of_hook).map(|kinds| shared.event_log.demand(kinds)).collect()
}

/// Opens the maps and what else the roads share.
fn open(
    config: &Config,
    cgroup_mount: PathBuf,
    cgroup: PathBuf,
    pins: &Pins,
    mut loaded: Loaded,
    attached: Attached,
) -> anyhow::Result<Shared> {
    let limitations = std::mem::take(&mut loaded.limitations);
    let facts = Facts {
        started: Timestamp::now(),
        kernel: requirements::kernel_release(),
        cgroup_mount,
        cgroup,
        pins: pins.directory().to_path_buf(),
        socket: config.socket.clone(),
        adopts: config.adopt,
        resumed: loaded.resumed,
        follow: loaded.follow,
        max_connections: pins.max_connections()?,
        rules_file: config.rules.clone(),
        can_destroy_orphans: requirements::can_destroy_orphans(),
    };
    let shared = Shared::open(pins, Namespaces::new(config.reach)?, loaded.into_walker(), attached, facts)?;
    shared.add_limitations(limitations);
    Ok(shared)
}

/// Finishes what earlier agents began, and takes in what is open. Returns how many connections had been left out before
/// that; nothing where nothing is to be adopted.
fn catch_up(shared: &Shared, adopts: bool) -> anyhow::Result<Option<u64>> {
    if shared.facts.resumed {
        finish_all(shared)?;
        // The rules may be others than those of the agent before.
        reevaluate(shared)?;
        // Connections that ended unseen leave room for those that are open.
        sweep(shared)?;
    }
    let left_out = adopts.then(|| left_out(shared)).transpose()?;
    if adopts {
        adopt(shared)?;
    }
    Ok(left_out)
}

/// Reads all connections that an earlier agent left, and takes up the serials of overrides.
fn track(shared: &Shared) -> anyhow::Result<Tracker> {
    let mut tracker = Tracker::default();
    tracker.input(shared.rules_changed());
    if !shared.facts.resumed {
        return Ok(tracker);
    }
    let (all, mut serial) = read_all(shared)?;
    for (key, policy) in shared.overrides.all()? {
        serial = serial.max(policy.serial);
        // The agent before died between writing it and its walk, and the connection has ended since.
        if !shared.connections.contains(key)? {
            shared.overrides.remove(key)?;
        }
    }
    shared.set_last_override_serial(serial);
    for input in [Input::RulesApplied, Input::Judged(all)] {
        tracker.input(input);
    }
    Ok(tracker)
}
