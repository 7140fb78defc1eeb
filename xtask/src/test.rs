//! `test`: runs every check and test, from a clean checkout, with no terminal.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::ebpf::{self, ToolchainArgs};
use crate::files;
use crate::lint;
use crate::needs;
use crate::process::{self, heading};
use crate::run::build_agent;
use crate::workspace::{HOST_PACKAGES, TESTS_PACKAGE, Workspace};

/// The arguments of `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing: name what is missing, and fail.
    #[arg(long)]
    no_fetch: bool,
    /// Run one part only.
    #[arg(long, value_enum)]
    only: Option<Part>,
    #[command(flatten)]
    toolchain: ToolchainArgs,
    /// Names of tests, or parts of them, after `--`.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// A part of the checks.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Formatting, clippy and the project's own rules.
    Lint,
    /// The tests that need no root, with the committed object.
    Unit,
    /// The tests against the kernel, with the object built from source.
    E2e,
}

/// Runs the checks and tests; on success the last thing printed is the test runner's own summary.
///
/// # Errors
/// Something is missing, or a check or test fails.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wants = |part| args.only.is_none_or(|only| only == part);
    if wants(Part::E2e) && !needs::is_root() {
        bail!(
            "the end-to-end tests make network namespaces and cgroups and load programs into the kernel: \
             expected root, found another user; run `cargo xtask test` as root, or `--only lint` or `--only unit`"
        );
    }
    if args.only != Some(Part::Unit) {
        heading("look for what the checks need");
        needs::ensure(args.toolchain.is_debian(), !args.no_fetch)?;
    }
    let mut object = None;
    if wants(Part::E2e) {
        object = Some(build_object(workspace, &args.toolchain)?);
    }
    if wants(Part::Lint) {
        lint::all(workspace, &args.toolchain.find()?)?;
    }
    if wants(Part::Unit) {
        unit(workspace, args, object.as_deref())?;
    }
    if let Some(object) = object {
        heading("build the agent");
        let binary = build_agent(workspace)?;
        heading("end-to-end tests");
        let mut command = tests(workspace, &[TESTS_PACKAGE], &args.filter)?;
        command.env("PATH", process::search_path()).env("TCPOPS_BIN", binary).env("TCPOPS_BPF_OBJECT", object);
        process::run(&mut command)?;
    }
    Ok(())
}

/// Checks that the committed object is not stale, builds it from source, and compares the two.
fn build_object(workspace: &Workspace, toolchain: &ToolchainArgs) -> Result<PathBuf> {
    heading("check that the committed object was made from these sources");
    let manifest = ebpf::check(workspace)?;
    heading("build the kernel programs from source");
    let toolchain = toolchain.find()?;
    let object = ebpf::build(workspace, &toolchain)?;
    ebpf::compare(workspace, &manifest, &toolchain.tools()?, &files::read(&object)?)?;
    Ok(object)
}

fn unit(workspace: &Workspace, args: &Args, object: Option<&Path>) -> Result<()> {
    heading("unit tests");
    let mut commands = vec![tests(workspace, &HOST_PACKAGES, &args.filter)?];
    if has_nextest(workspace)? {
        // Nextest leaves out the examples in the documentation.
        let mut examples = workspace.cargo();
        examples.args(["test", "--doc", "--locked", "-p", "tcpops-common", "-p", "tcpops-agent"]).args(&args.filter);
        commands.insert(0, examples);
    }
    for command in &mut commands {
        process::run(command.envs(object.map(|object| ("TCPOPS_BPF_OBJECT", object))))?;
    }
    Ok(())
}

/// The command that runs the tests of some packages: nextest where it is installed.
fn tests(workspace: &Workspace, packages: &[&str], filter: &[String]) -> Result<Command> {
    let mut command = workspace.cargo();
    if has_nextest(workspace)? {
        command.args(["nextest", "run"]);
        if !filter.is_empty() {
            // The filter may match tests of another package only.
            command.arg("--no-tests=pass");
        }
    } else {
        command.arg("test");
        if packages == [TESTS_PACKAGE] {
            // Without the examples in the documentation, the summary of the tests comes last.
            command.arg("--tests");
        }
    }
    command.arg("--locked").args(packages.iter().flat_map(|package| ["--package", package])).args(filter);
    Ok(command)
}

fn has_nextest(workspace: &Workspace) -> Result<bool> {
    process::succeeds(workspace.cargo().args(["nextest", "--version"]))
}
