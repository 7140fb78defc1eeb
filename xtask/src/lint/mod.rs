//! `lint`: checks formatting, clippy, and the project's own rules.

mod check;
mod circles;
mod counters;
mod rules;
mod tools;

mod imports;
mod mentions;
mod names;
mod source;
mod tokens;
mod violation;

use anyhow::{Result, bail};

use crate::ebpf::{BpfToolchain, ToolchainArgs};
use crate::lint::source::Package;
use crate::process::{self, heading};
use crate::workspace::Workspace;

/// The directories of the packages that have rules.
const PACKAGES: [&str; 5] = ["tcpops-common", "tcpops-ebpf", "tcpops-agent", "xtask", "tests"];

/// The arguments of `lint`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    toolchain: ToolchainArgs,
}

/// Runs every check.
///
/// # Errors
/// The compiler for the BPF target is missing, or a check fails.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    all(workspace, &args.toolchain.find()?)
}

/// Runs every check, even after one fails, and names those that failed.
///
/// # Errors
/// A check fails.
pub(crate) fn all(workspace: &Workspace, toolchain: &BpfToolchain) -> Result<()> {
    let checks: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("Cargo.lock", &|| lock(workspace)),
        ("rules", &|| rules(workspace)),
        ("format", &|| tools::format(workspace)),
        ("clippy for the kernel programs", &|| tools::clippy_ebpf(workspace, toolchain)),
        ("clippy", &|| tools::clippy(workspace)),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        heading(&format!("lint: {name}"));
        if let Err(error) = check() {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    Ok(())
}

fn lock(workspace: &Workspace) -> Result<()> {
    let metadata = ["metadata", "--format-version=1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    process::output(workspace.cargo().args(metadata)).map(drop)
}

fn rules(workspace: &Workspace) -> Result<()> {
    let packages = PACKAGES.iter().map(|name| Package::read(&workspace.root, name)).collect::<Result<Vec<_>>>()?;
    let mut violations = check::check(&packages);
    violations.extend(circles::check(&packages));
    violations.extend(counters::check(&packages));
    for violation in &violations {
        eprintln!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} violations of the project's rules, which are under xtask/src/lint", violations.len());
    }
    Ok(())
}
