//! `run`: builds and starts the agent, the first thing that a new user does.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tcpops_common::maps::ABI;

use crate::needs::is_root;
use crate::process;
use crate::workspace::Workspace;

/// The arguments of `run`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of `tcpops agent`, after `--`.
    #[arg(last = true)]
    agent: Vec<String>,
}

/// Builds the agent and replaces this process by it, so that signals reach it.
///
/// # Errors
/// This is not root, the build fails, or the agent cannot be started.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if !is_root() {
        bail!(
            "the agent loads programs into the kernel: expected root, found another user; \
             run `cargo xtask run` as root, or build with `cargo build --release` and start \
             `sudo target/release/tcpops agent`"
        );
    }
    let binary = build_agent(workspace)?;
    let shown = binary.strip_prefix(&workspace.root).unwrap_or(&binary).display();
    eprintln!(
        "\
Starting the agent. With no rules it only watches: it changes no connection. Ctrl-C ends it, and the kernel
programs keep tracking; `detach` takes them out. In another terminal, from here, as root:

  {shown} status
  {shown} conn list
  {shown} keepalive enable ID --idle 60s --count 5 --interval 5s    # ID from the list
  bpftool map dump pinned /sys/fs/bpf/tcpops/v{ABI}/CONNECTIONS
  {shown} rule apply examples/rules.toml --dry-run
  {shown} detach
"
    );
    let error = Command::new(&binary).arg("agent").args(&args.agent).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}

/// Builds the release binary and returns its path.
///
/// # Errors
/// The build fails.
pub(crate) fn build_agent(workspace: &Workspace) -> Result<PathBuf> {
    process::run(workspace.cargo().args(["build", "--release", "--locked", "--package", "tcpops-agent"]))?;
    Ok(workspace.target.join("release/tcpops"))
}
