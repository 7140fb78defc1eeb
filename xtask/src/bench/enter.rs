//! `bench-enter`, which the bench starts itself with: enters a network namespace, and becomes another program there.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::bench::interrupt;
use crate::bench::processors;

/// The place of a process that the bench starts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Surroundings {
    /// The network namespace to enter, as a file.
    #[arg(long)]
    netns: PathBuf,
    /// The processor to run on alone; without it, all of them.
    #[arg(long)]
    processor: Option<usize>,
}

/// The arguments of `bench-enter`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    surroundings: Surroundings,
    /// The program and its arguments, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program.
///
/// # Errors
/// The namespace cannot be entered, or the program not be started.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    args.surroundings.enter()?;
    let program = &args.command[0];
    let error = Command::new(program).args(&args.command[1..]).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

impl Surroundings {
    /// Moves this process there. It then ends with the process that started it.
    ///
    /// # Errors
    /// The namespace or the processor is not there.
    pub(crate) fn enter(&self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL)).context("cannot ask to end with the bench")?;
        interrupt::let_through()?;
        let netns = File::open(&self.netns).with_context(|| format!("cannot open {}", self.netns.display()))?;
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter {}", self.netns.display()))?;
        self.processor.map_or(Ok(()), processors::pin)
    }

    /// A command of this program's, for one of its hidden tasks in a place.
    pub(crate) fn command(task: &str, netns: &Path, processor: Option<usize>) -> Command {
        // The file that this process was started from, even if another build has taken its path since.
        let mut command = Command::new("/proc/self/exe");
        command.arg(task).arg("--netns").arg(netns);
        if let Some(processor) = processor {
            command.args(["--processor", &processor.to_string()]);
        }
        command
    }
}
