//! `vm`: runs the end-to-end tests, or any command, on each supported kernel, in a virtual machine.
//!
//! The guest sees the files of the host and writes to memory only. So there is nothing to install in it, and what was built
//! on the host runs there.

mod initramfs;
mod kernel;
mod machine;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;

use crate::needs;
use crate::process::{self, heading, search_path};
use crate::run::build_agent;
use crate::vm::initramfs::Program;
use crate::vm::kernel::Kernel;
use crate::workspace::{TESTS_PACKAGE, Workspace};

/// The tests that run at a time: more than the two processors of the guest, since tests wait most of the time.
const TEST_THREADS: usize = 4;

/// The factor by which the tests wait longer than elsewhere, since the processor is emulated.
const PATIENCE: &str = "10";

/// The variables that the command inherits.
const INHERITED: [&str; 6] = ["CARGO_TARGET_DIR", "HOME", "RUST_BACKTRACE", "RUST_LOG", "TCPOPS_BPF_OBJECT", "TERM"];

/// The arguments of `vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel of Debian 12 to boot; without it, each in turn.
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Run only the end-to-end tests whose names contain this; may be given more than once.
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    test: Vec<String>,
    /// The time that a machine may run, in minutes.
    #[arg(long, value_name = "N", default_value_t = 90)]
    minutes: u64,
    /// Install nothing: name what is missing, and fail.
    #[arg(long)]
    no_fetch: bool,
    /// Run this in the root of the checkout instead of the end-to-end tests; `TCPOPS_BIN` is the program, as built last.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Boots each kernel and runs the command in it; the first exit code that is not zero is this program's.
///
/// # Errors
/// Something is missing, a build fails, or a machine ends before the command does.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if !needs::is_root() {
        bail!("the machine shares the files of this one as root sees them: expected root, found another user");
    }
    heading("look for what the machine needs");
    needs::ensure_machine(!args.no_fetch)?;
    let program = program(workspace, args)?;
    let kernels = args.kernel.as_ref().map_or(Kernel::value_variants(), slice::from_ref);
    let mut failed = None;
    for kernel in kernels {
        let image = kernel.image(&workspace.target.join("vm"))?;
        heading(&format!("Linux {}", image.release));
        let code = machine::run(&image, &program, Duration::from_secs(args.minutes * 60))?;
        eprintln!("on Linux {} it ended with {code}", image.release);
        failed = failed.or((code != 0).then_some(code));
    }
    Ok(failed.map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// The program to run in the machine: the given command, or the tests, which are built first.
fn program(workspace: &Workspace, args: &Args) -> Result<Program> {
    let agent = match env::var_os("TCPOPS_BIN") {
        Some(path) => PathBuf::from(path),
        None if args.command.is_empty() => {
            heading("build the agent");
            build_agent(workspace)?
        }
        None => workspace.target.join("release/tcpops"),
    };
    let command = if args.command.is_empty() {
        heading("build the tests");
        let mut command = vec![build_tests(workspace)?.into_os_string()];
        command.extend(args.test.iter().map(OsString::from));
        command.push(format!("--test-threads={TEST_THREADS}").into());
        command
    } else {
        args.command.clone()
    };
    let mut environment: Vec<(&str, OsString)> =
        INHERITED.iter().filter_map(|name| Some((*name, env::var_os(name)?))).collect();
    environment.push(("PATH", search_path()));
    environment.push(("TCPOPS_BIN", agent.into()));
    environment.push(("TCPOPS_TEST_PATIENCE", PATIENCE.into()));
    Ok(Program { directory: workspace.root.clone(), environment, command })
}

/// Builds the end-to-end tests, and returns the path of their program.
fn build_tests(workspace: &Workspace) -> Result<PathBuf> {
    /// The part of a line of cargo's output that is used here.
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let mut build = workspace.cargo();
    build.args(["test", "--locked", "--package", TESTS_PACKAGE, "--lib", "--no-run"]);
    // Once with messages to read, then again for the path.
    process::run(&mut build)?;
    let printed = process::output(build.args(["--message-format", "json"]))?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages.filter_map(|message| message.executable).next_back().context("expected cargo to name the tests' program")
}
