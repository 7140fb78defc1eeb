//! The machine that a run was made on.

use anyhow::{Context, Result};
use procfs::{CpuInfo, Current as _, LoadAverage, Meminfo};
use serde::Serialize;

/// The machine, as far as numbers depend on it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The model of its processors.
    pub(crate) processor: String,
    /// How many there are.
    pub(crate) cores: usize,
    /// The release of its kernel.
    pub(crate) kernel: String,
    /// Its memory in MiB.
    pub(crate) memory_mib: u64,
    /// How many threads wanted to run in the last minute.
    pub(crate) load_average: f32,
}

impl Machine {
    /// This machine.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(crate) fn this() -> Result<Self> {
        let processors = CpuInfo::current().context("cannot read /proc/cpuinfo")?;
        let memory = Meminfo::current().context("cannot read /proc/meminfo")?;
        Ok(Self {
            processor: processors.model_name(0).unwrap_or("of an unknown model").to_owned(),
            cores: processors.num_cores(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory_mib: memory.mem_total >> 20,
            load_average: LoadAverage::current().context("cannot read /proc/loadavg")?.one,
        })
    }
}
