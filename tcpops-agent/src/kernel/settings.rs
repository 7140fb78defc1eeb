//! `SETTINGS` and `COUNTERS`: what the kernel programs are told, and what they count.

use std::fs::File;
use std::io::{self, Read as _};

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use parking_lot::Mutex;
use tcpops_common::counters::Counter;
use tcpops_common::maps::{COUNTERS, SETTINGS};
use tcpops_common::settings::{ONLY, Settings as KernelSettings};

use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;
use crate::kernel::table::Table;

const RANDOM: &str = "/dev/urandom";

pub(crate) struct Settings {
    settings: Mutex<Table<u32, KernelSettings>>,
    counters: Mutex<PerCpuArray<MapData, u64>>,
    /// The requests that want walks to work through `PROBES`.
    probing: Mutex<u32>,
    secret: u64,
}

/// While it is held, walks work through `PROBES`.
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

/// While it is held, walks for overrides are about some sockets only.
pub(crate) struct Only<'a>(&'a Settings);

impl Drop for Only<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.change(|settings| settings.only = [0; ONLY]) {
            tracing::error!(%error, "walks go on to pass over sockets");
        }
    }
}

impl Settings {
    /// Opens the maps, turns every setting off, and draws another secret.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        let secret = draw().map_err(KernelError::syscall("read", RANDOM))?;
        let settings = Self {
            settings: Mutex::new(Table::open(pins, SETTINGS)?),
            counters: Mutex::new(pins.map(COUNTERS)?),
            probing: Mutex::default(),
            secret,
        };
        // An agent that died may have left one on.
        settings.change(|settings| *settings = KernelSettings { secret, ..KernelSettings::default() })?;
        Ok(settings)
    }

    /// The number by which the setsockopt program knows this agent.
    pub(crate) fn secret(&self) -> u64 {
        self.secret
    }

    /// Tells the kernel programs that the reader of the ring polls, and need not be woken.
    pub(crate) fn set_reader_awake(&self, awake: bool) -> Result<()> {
        self.change(|settings| settings.reader_awake = awake.into())
    }

    /// Has the kernel programs tell what readers of events want: the bits of [`tell`](tcpops_common::settings::tell).
    pub(crate) fn set_telling(&self, telling: u32) -> Result<()> {
        self.change(|settings| settings.telling = telling)
    }

    /// Has walks give sockets back their original options, instead of their usual work.
    pub(crate) fn set_restoring(&self, restoring: bool) -> Result<()> {
        self.change(|settings| settings.restoring = restoring.into())
    }

    /// Has walks apply the rules in force to every connection again.
    pub(crate) fn set_reevaluating(&self, reevaluating: bool) -> Result<()> {
        self.change(|settings| settings.reevaluating = reevaluating.into())
    }

    /// Has walks adopt the sockets without an entry, at or below the cgroup with this id (zero: all).
    pub(crate) fn set_adopting(&self, cgroup_id: Option<u64>) -> Result<()> {
        self.change(|settings| {
            settings.adopting = cgroup_id.is_some().into();
            settings.cgroup_id = cgroup_id.unwrap_or(0);
        })
    }

    /// Has walks work through `PROBES` for as long as the result is held.
    pub(crate) fn probing(&self) -> Result<Probing<'_>> {
        let mut holders = self.probing.lock();
        self.change(|settings| settings.probing = 1)?;
        *holders += 1;
        Ok(Probing(self))
    }

    /// Has walks for overrides alone be about the sockets with these cookies for as long as the result is held; about all
    /// where they are too many to be told.
    pub(crate) fn only(&self, cookies: &[u64]) -> Result<Only<'_>> {
        let mut only = [0; ONLY];
        if let Some(only) = only.get_mut(..cookies.len()) {
            only.copy_from_slice(cookies);
        }
        self.change(|settings| settings.only = only)?;
        Ok(Only(self))
    }

    fn change(&self, change: impl FnOnce(&mut KernelSettings)) -> Result<()> {
        let table = self.settings.lock();
        let mut settings = table.at(0)?;
        change(&mut settings);
        table.put(0, &settings)
    }

    /// The value of a counter, summed over all CPUs.
    pub(crate) fn counter(&self, counter: Counter) -> Result<u64> {
        let counters = self.counters.lock();
        let values = counters.get(&(counter as u32), 0).map_err(KernelError::map(COUNTERS))?;
        Ok(values.iter().sum())
    }

    /// Adds to a counter in which no kernel program counts.
    pub(crate) fn add(&self, counter: Counter, count: u64) -> Result<()> {
        let index = counter as u32;
        let mut counters = self.counters.lock();
        let mut values: Vec<u64> = counters.get(&index, 0).map_err(KernelError::map(COUNTERS))?.to_vec();
        values[0] += count;
        let values = PerCpuValues::try_from(values).map_err(KernelError::load)?;
        counters.set(index, values, 0).map_err(KernelError::map(COUNTERS))
    }

    /// How many connections and listeners have an entry.
    pub(crate) fn tracked(&self) -> Result<u64> {
        self.difference([Counter::Opened, Counter::Closed, Counter::Swept])
    }

    /// How many listeners have an entry.
    pub(crate) fn listeners(&self) -> Result<u64> {
        self.difference([Counter::ListenersOpened, Counter::ListenersClosed, Counter::ListenersSwept])
    }

    /// What has come and not gone. What has gone is read first, so that nothing comes out below zero.
    fn difference(&self, [come, gone, swept]: [Counter; 3]) -> Result<u64> {
        let gone = self.counter(gone)? + self.counter(swept)?;
        Ok(self.counter(come)?.saturating_sub(gone))
    }
}

/// A number that nobody else knows.
fn draw() -> io::Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}
