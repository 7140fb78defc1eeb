//! What bpftool tells of the programs and maps of an agent, and what it loads for comparison.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::bench::object::object;
use crate::bench::place::{Ground, Place};
use crate::files;
use crate::process::{output, search_path};

/// The time that programs have run, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Running {
    /// In nanoseconds.
    pub(crate) time_ns: u64,
    /// Calls.
    pub(crate) calls: u64,
}

/// A map, as bpftool prints it.
#[derive(Debug, Deserialize)]
pub(crate) struct Map {
    id: u64,
    /// The memory that the kernel reckons for it.
    #[serde(default)]
    pub(crate) bytes_memlock: u64,
}

/// A program, as bpftool prints it.
#[derive(Debug, Deserialize)]
struct Program {
    #[serde(default)]
    map_ids: Vec<u64>,
    #[serde(default)]
    run_time_ns: u64,
    #[serde(default)]
    run_cnt: u64,
}

/// All maps of the programs that use one that is pinned in this directory.
///
/// # Errors
/// bpftool cannot be run, or shows something else.
pub(crate) fn maps(directory: &Path) -> Result<Vec<Map>> {
    let pinned: Map = parse(bpftool().args(["map", "show", "pinned"]).arg(directory.join("CONNECTIONS")))?;
    let used: BTreeSet<u64> = programs()?
        .into_iter()
        .filter(|program| program.map_ids.contains(&pinned.id))
        .flat_map(|program| program.map_ids)
        .collect();
    let all: Vec<Map> = parse(bpftool().args(["map", "show"]))?;
    Ok(all.into_iter().filter(|map| used.contains(&map.id)).collect())
}

/// The time that all programs have run that use one of these maps; the kernel reckons it while `bpf_stats_enabled` is on.
///
/// # Errors
/// bpftool cannot be run, or shows something else.
pub(crate) fn running(maps: &[Map]) -> Result<Running> {
    let programs = programs()?;
    let uses = |program: &&Program| maps.iter().any(|map| program.map_ids.contains(&map.id));
    let add = |sum: Running, program: &Program| Running {
        time_ns: sum.time_ns + program.run_time_ns,
        calls: sum.calls + program.run_cnt,
    };
    Ok(programs.iter().filter(uses).fold(Running::default(), add))
}

fn programs() -> Result<Vec<Program>> {
    parse(bpftool().args(["prog", "show"]))
}

/// Attaches a sockops program of these instructions to the cgroup of a place; it goes with the cgroup.
///
/// # Errors
/// The kernel refuses it.
pub(crate) fn attach_sockops(ground: &Ground, place: &Place, instructions: &[u64]) -> Result<()> {
    let program = Pinned::new(ground, &place.name, "sockops", instructions, &["prog", "load"], &["type", "sockops"])?;
    let mut attach = bpftool();
    attach.args(["cgroup", "attach"]).arg(&place.cgroup).args(["sock_ops", "pinned"]).arg(&program.file).arg("multi");
    output(&mut attach).map(drop)
}

/// What bpftool has loaded and pinned; the pin is removed with this value.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// The pin.
    pub(crate) file: PathBuf,
    directory: PathBuf,
}

impl Pinned {
    /// An iterator over the TCP sockets of a namespace: whoever reads the file has it run on all of his own.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn walk(ground: &Ground, name: &str, instructions: &[u64]) -> Result<Self> {
        Self::new(ground, &format!("tcpops-bench-{name}"), "iter/tcp", instructions, &["iter", "pin"], &[])
    }

    fn new(
        ground: &Ground,
        name: &str,
        section: &str,
        instructions: &[u64],
        verb: &[&str],
        more: &[&str],
    ) -> Result<Self> {
        let made = ground.directory.join(format!("{name}.o"));
        files::write(&made, object(section, "bench", instructions)?)?;
        let directory = ground.pins(name);
        files::make_directory(&directory)?;
        let pinned = Self { file: directory.join("bench"), directory };
        output(bpftool().args(verb).args([&made, &pinned.file]).args(more))?;
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("warning: cannot remove {}: {error}", self.directory.display());
        }
    }
}

fn bpftool() -> Command {
    let mut command = Command::new("bpftool");
    command.arg("-j").env("PATH", search_path());
    command
}

fn parse<T: for<'a> Deserialize<'a>>(command: &mut Command) -> Result<T> {
    serde_json::from_str(&output(command)?).context("bpftool printed what is not its documented format")
}
