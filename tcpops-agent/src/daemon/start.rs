//! From nothing to serving: everything is made ready first, and becomes active last.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tcpops_common::counters::Counter;
use tokio::sync::mpsc;

use super::adopt::{adopt, left_out};
use super::handle::{Handle, QUEUE};
use super::hook::Hook;
use super::jobs::{Jobs, everything};
use super::probe::finish_all;
use super::push::Pushes;
use super::reevaluate::reevaluate;
use super::rules::RuleBook;
use super::shared::{Facts, Shared};
use super::sweep::sweep;
use super::teller::Teller;
use super::{Daemon, Signals};
use crate::config::Config;
use crate::kernel::cgroup_watch::CgroupWatch;
use crate::kernel::clock::{Timer, now_boot_ns};
use crate::kernel::connections::Connections as Entries;
use crate::kernel::events::Events;
use crate::kernel::load::{LoadOptions, Loaded, load};
use crate::kernel::netns::Namespaces;
use crate::kernel::overrides::Overrides;
use crate::kernel::pins::Pins;
use crate::kernel::probes::Probes;
use crate::kernel::rules::Rules;
use crate::kernel::switches::Switches;
use crate::kernel::{mounts, probe, release_memory};
use crate::model::connections::{Connections, Input};
use crate::model::readoption::Readoption;
use crate::server::{Listener, Server};

/// Runs the agent until a signal or a detach ends it. Within a tokio runtime.
///
/// # Errors
/// Says what is missing or in the way; what was in force before stays so.
pub async fn run(config: Config) -> anyhow::Result<()> {
    probe::check()?;
    let cgroup_mount = mounts::cgroup2()?;
    let cgroup = config.cgroup.clone().unwrap_or_else(|| cgroup_mount.clone());
    anyhow::ensure!(
        cgroup.is_dir() && mounts::is_within(&cgroup, "cgroup2")?,
        "cannot attach to {}: expected a directory of the cgroup2 file system at {}",
        cgroup.display(),
        cgroup_mount.display()
    );
    if let Some(file) = &config.rules {
        RuleBook::check(file, &cgroup_mount).map_err(|problem| anyhow::anyhow!(problem.detail))?;
    }
    if let Some(hook) = &config.hook {
        Hook::check(hook)?;
    }
    let listener = Listener::bind(&config.socket)?;
    let pins = Pins::lock(config.pins.as_deref())?;
    let options = LoadOptions {
        object: config.object.as_deref(),
        max_connections: config.max_connections,
        events_bytes: config.events_bytes,
        log_level: config.ebpf_log,
        adopt: config.adopt,
        follow: config.follow,
    };
    let pins = Arc::new(pins);
    let resumed = pins.exist();
    let make_ready = || -> anyhow::Result<(Daemon, Handle)> {
        let mut loaded = load(&pins, &options)?;
        loaded.attach(&pins, &cgroup)?;
        release_memory();
        prepare(&config, cgroup_mount, cgroup.clone(), Arc::clone(&pins), loaded)
    };
    let (daemon, handle) = match make_ready() {
        Err(error) if !resumed => {
            // What was not there before does not stay after a start that failed.
            pins.remove()?;
            return Err(error);
        }
        ready => ready?,
    };
    let signals = Signals::catch()?;
    let hook = config.hook.clone().map(|hook| Hook::start(hook, Arc::clone(&daemon.shared))).transpose()?;
    serve(daemon, signals, Server::start(listener, handle), hook, &config).await
}

async fn serve(
    mut daemon: Daemon,
    signals: Signals,
    server: Server,
    hook: Option<Hook>,
    config: &Config,
) -> anyhow::Result<()> {
    let facts = &daemon.shared.facts;
    tracing::info!(
        cgroup = %facts.cgroup.display(), pins = %facts.pins.display(), socket = %config.socket.display(),
        resumed = facts.resumed, tracked = daemon.connections.tracked(), rules = daemon.rules.document().rules.len(),
        "ready"
    );
    for limitation in daemon.shared.limitations() {
        tracing::warn!(limitation, "something is amiss");
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that the agent is ready");
    }
    let result = daemon.serve(signals).await;
    daemon.shared.fanout.close();
    if let Some(hook) = hook {
        hook.stop().await;
    }
    server.stop().await;
    Ok(result?)
}

fn prepare(
    config: &Config,
    cgroup_mount: PathBuf,
    cgroup: PathBuf,
    pins: Arc<Pins>,
    mut loaded: Loaded,
) -> anyhow::Result<(Daemon, Handle)> {
    let facts = Facts {
        started: Timestamp::now(),
        kernel: probe::kernel_release(),
        cgroup_mount,
        cgroup,
        pins: pins.directory().to_path_buf(),
        resumed: loaded.resumed,
        follow: loaded.follow,
        max_connections: pins.max_connections()?,
        rules_file: config.rules.clone(),
        can_destroy_orphans: probe::can_destroy_orphans(),
    };
    let limitations = std::mem::take(&mut loaded.limitations);
    if let Some(log) = loaded.log.take() {
        log.follow()?;
    }
    let overrides = Overrides::open(&pins)?;
    let last_serial = overrides.last_serial()?;
    let namespaces = Namespaces::new(config.reach)?;
    let (entries, switches) = (Entries::open(&pins)?, Switches::open(&pins)?);
    let shared = Arc::new(Shared::new(
        entries,
        overrides,
        Probes::open(&pins)?,
        switches,
        namespaces,
        loaded.into_walker(),
        facts,
    ));
    shared.add_limitations(limitations);
    // What happened before is in the maps; what happens from here on is in the ring.
    let mut events = Events::open(&pins)?;
    events.discard();
    let events_lost = shared.switches.counter(Counter::EventsLost)?;
    let rules = RuleBook::open(&shared, Rules::open(&pins)?, config.rules.clone())
        .map_err(|problem| anyhow::anyhow!(problem.detail))?;
    if shared.facts.resumed {
        finish_all(&shared)?;
        // The rules may be others than those of the agent before.
        reevaluate(&shared)?;
    }
    if shared.facts.resumed {
        // What ended while nobody saw it leaves room for what was open.
        sweep(&shared)?;
    }
    let left_out_before = left_out(&shared)?;
    if config.adopt {
        adopt(&shared)?;
    }
    let mut connections = Connections::default();
    let mut effects = Vec::new();
    let (all, serial) = everything(&shared)?;
    let guard = shared.in_force().guard().clone();
    for input in [Input::RulesChanged(guard), Input::Settled, Input::Resync(all)] {
        connections.apply(now_boot_ns(), input, &mut effects);
    }
    let (sender, commands) = mpsc::channel(QUEUE);
    let handle = Handle::new(sender, Arc::clone(&shared));
    let cgroups = CgroupWatch::new(&shared.facts.cgroup_mount);
    let daemon = Daemon {
        teller: Teller::new(Arc::clone(&shared.fanout)),
        shared,
        pins,
        connections,
        rules,
        pushes: Pushes::new(last_serial.max(serial)),
        events,
        timer: Timer::new()?,
        cgroups,
        jobs: Jobs::default(),
        commands,
        effects,
        closing: HashMap::new(),
        held: Vec::new(),
        events_lost,
        read_since_loss: None,
        resynced: false,
        readoption: config.adopt.then(|| Readoption::new(now_boot_ns(), left_out_before)),
        swept_boot_ns: 0,
    };
    Ok((daemon, handle))
}
