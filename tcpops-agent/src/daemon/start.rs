//! From nothing to serving: everything is made ready first, and becomes active last.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tcpops_common::counters::Counter;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::daemon::jobs::{Jobs, everything};
use crate::daemon::main_loop::Daemon;
use crate::daemon::policy::overrides::Pushes;
use crate::daemon::policy::rules::RuleStore;
use crate::daemon::requests::handle::{Handle, QUEUE};
use crate::daemon::requests::probe::finish_all;
use crate::daemon::shared::{Facts, Shared};
use crate::daemon::telling::publish::Publisher;
use crate::daemon::walks::adopt::{adopt, left_out};
use crate::daemon::walks::reevaluate::reevaluate;
use crate::daemon::walks::sweep::sweep;
use crate::kernel::cgroup_watch::CgroupWatch;
use crate::kernel::clock::{Timer, now_boot_ns};
use crate::kernel::connections::Connections as Entries;
use crate::kernel::events::Events;
use crate::kernel::load::Loaded;
use crate::kernel::netns::Namespaces;
use crate::kernel::overrides::Overrides;
use crate::kernel::pins::Pins;
use crate::kernel::probe;
use crate::kernel::probes::Probes;
use crate::kernel::rules::Rules;
use crate::kernel::settings::Settings;
use crate::model::adopt_backoff::AdoptBackoff;
use crate::model::expiry::connections::{Connections, Input};

impl Daemon {
    /// Makes everything ready, with what earlier agents left.
    pub(crate) fn prepare(
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
        let (entries, settings) = (Entries::open(&pins)?, Settings::open(&pins)?);
        let shared = Arc::new(Shared::new(
            entries,
            overrides,
            Probes::open(&pins)?,
            settings,
            namespaces,
            loaded.into_walker(),
            facts,
        ));
        shared.add_limitations(limitations);
        // What happened before is in the maps; what happens from here on is in the ring.
        let mut events = Events::open(&pins)?;
        events.discard();
        let events_lost = shared.settings.counter(Counter::EventsLost)?;
        let rules = RuleStore::open(&shared, Rules::open(&pins)?, config.rules.clone())
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
            publisher: Publisher::new(Arc::clone(&shared.event_log)),
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
            adopt_backoff: config.adopt.then(|| AdoptBackoff::new(now_boot_ns(), left_out_before)),
            swept_boot_ns: 0,
        };
        Ok((daemon, handle))
    }

    /// Says that it serves, and what is amiss.
    pub(crate) fn announce(&self, socket: &Path) {
        let facts = &self.shared.facts;
        tracing::info!(
            cgroup = %facts.cgroup.display(), pins = %facts.pins.display(), socket = %socket.display(),
            resumed = facts.resumed, tracked = self.connections.tracked(), rules = self.rules.document().rules.len(),
            "ready"
        );
        for limitation in self.shared.limitations() {
            tracing::warn!(limitation, "something is amiss");
        }
    }
}
