//! Runs rustfmt and clippy: rustup's where they are installed, otherwise Debian's.

use std::process::Command;

use anyhow::Result;

use crate::ebpf::{BpfToolchain, remapped};
use crate::needs::{DEBIAN_RUSTC, DEBIAN_RUSTFMT};
use crate::process::{self, remove_env};
use crate::workspace::{HOST_PACKAGES, TESTS_PACKAGE, Workspace};

/// Checks the format of every crate, the kernel programs included.
///
/// # Errors
/// A file is not formatted.
pub(crate) fn format(workspace: &Workspace) -> Result<()> {
    process::run(cargo_tool(workspace, "fmt")?.args(["--all", "--", "--check"]))
}

/// Runs clippy over the crates for the host, with their tests.
///
/// # Errors
/// Clippy has a finding.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    let packages = HOST_PACKAGES.iter().chain([&TESTS_PACKAGE]).flat_map(|package| ["--package", package]);
    let mut command = cargo_tool(workspace, "clippy")?;
    process::run(command.args(["--locked", "--all-targets"]).args(packages).args(["--", "-D", "warnings"]))
}

/// Runs clippy over the kernel programs, for their target.
///
/// # Errors
/// Clippy has a finding.
pub(crate) fn clippy_ebpf(workspace: &Workspace, toolchain: &BpfToolchain) -> Result<()> {
    let mut command = toolchain.cargo(workspace, "clippy", &remapped(workspace, toolchain)?);
    process::run(command.args(["--", "-D", "warnings"]))
}

/// The command `cargo <name>`, of rustup's toolchain if it has that component.
fn cargo_tool(workspace: &Workspace, name: &str) -> Result<Command> {
    let mut command = workspace.cargo();
    command.arg(name);
    if process::succeeds(workspace.cargo().args([name, "--version"]))? {
        return Ok(command);
    }
    let mut debian = Command::new(format!("/usr/bin/cargo-{name}"));
    remove_env(&mut debian, &["LD_LIBRARY_PATH"]);
    debian.current_dir(&workspace.root).arg(name).env("RUSTC", DEBIAN_RUSTC).env("RUSTFMT", DEBIAN_RUSTFMT);
    Ok(debian)
}
