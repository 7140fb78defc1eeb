//! `SETTINGS` and `COUNTERS`.

use aya::maps::{MapData, PerCpuArray};
use parking_lot::Mutex;
use tcpops_common::counters::Counter;
use tcpops_common::maps::{COUNTERS, SETTINGS};
use tcpops_common::settings::Settings as KernelSettings;

use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;
use crate::kernel::table::Table;

/// The settings of the kernel programs, and what they count.
pub(crate) struct Settings {
    settings: Mutex<Table<u32, KernelSettings>>,
    counters: PerCpuArray<MapData, u64>,
    /// How many walks do what `PROBES` says.
    probing: Mutex<u32>,
}

/// Keeps walks doing what `PROBES` says.
pub(crate) struct Probing<'a>(&'a Settings);

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        let mut holders = self.0.probing.lock();
        *holders -= 1;
        if *holders == 0
            && let Err(error) = self.0.change(|settings| settings.probing = 0)
        {
            tracing::error!(%error, "walks go on to look for probes");
        }
    }
}

impl Settings {
    /// Opens the maps, and turns everything off.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        let settings = Self {
            settings: Mutex::new(Table::open(pins, SETTINGS)?),
            counters: pins.map(COUNTERS)?,
            probing: Mutex::default(),
        };
        // An agent that died in the middle of something left it on.
        settings.change(|settings| *settings = KernelSettings::default())?;
        Ok(settings)
    }

    /// Tells the kernel programs whether the reader of the ring polls.
    pub(crate) fn set_reader_awake(&self, awake: bool) -> Result<()> {
        self.change(|settings| settings.reader_awake = awake.into())
    }

    /// Makes walks give sockets back their original options, or do their usual work.
    pub(crate) fn set_restoring(&self, restoring: bool) -> Result<()> {
        self.change(|settings| settings.restoring = restoring.into())
    }

    /// Makes walks judge every connection anew by the rules in force, or not.
    pub(crate) fn set_reevaluating(&self, reevaluating: bool) -> Result<()> {
        self.change(|settings| settings.reevaluating = reevaluating.into())
    }

    /// Makes walks take in sockets that have no entry, those at or below the cgroup with this id (zero: all), or not.
    pub(crate) fn set_adopting(&self, cgroup_id: Option<u64>) -> Result<()> {
        self.change(|settings| {
            settings.adopting = cgroup_id.is_some().into();
            settings.cgroup_id = cgroup_id.unwrap_or(0);
        })
    }

    /// Makes walks do what `PROBES` says, for as long as somebody holds what this returns.
    pub(crate) fn probing(&self) -> Result<Probing<'_>> {
        let mut holders = self.probing.lock();
        self.change(|settings| settings.probing = 1)?;
        *holders += 1;
        Ok(Probing(self))
    }

    fn change(&self, change: impl FnOnce(&mut KernelSettings)) -> Result<()> {
        let table = self.settings.lock();
        let mut settings = table.at(0)?;
        change(&mut settings);
        table.put(0, &settings)
    }

    /// What a counter stands at, over all CPUs.
    pub(crate) fn counter(&self, counter: Counter) -> Result<u64> {
        let values = self.counters.get(&(counter as u32), 0).map_err(KernelError::map(COUNTERS))?;
        Ok(values.iter().sum())
    }
}
