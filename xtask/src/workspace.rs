//! The packages and directories of this checkout.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::{cargo, output};

/// The default members: the packages that stable Rust builds for the host and whose tests need no root.
pub(crate) const HOST_PACKAGES: [&str; 3] = ["tcpops-common", "tcpops-agent", "xtask"];
/// The package of the end-to-end tests.
pub(crate) const TESTS_PACKAGE: &str = "tcpops-tests";
/// The package of the kernel programs.
pub(crate) const EBPF_PACKAGE: &str = "tcpops-ebpf";

/// The directories of this checkout, all absolute.
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The directory that cargo builds in.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo for the directories.
    ///
    /// # Errors
    /// Cargo finds no workspace, or cannot read its manifests.
    pub(crate) fn load() -> Result<Self> {
        let metadata = metadata(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory })
    }

    /// A cargo command in the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// The directory that the kernel programs are built in: one of its own, since another compiler builds them.
    pub(crate) fn ebpf_target(&self) -> PathBuf {
        self.target.join("ebpf")
    }

    /// The directories that hold the sources of foreign packages, which are fetched if they are missing.
    ///
    /// # Errors
    /// Cargo cannot fetch them, or `Cargo.lock` is not up to date.
    pub(crate) fn registries(&self, target: &str) -> Result<Vec<PathBuf>> {
        let mut command = self.cargo();
        command.args(["metadata", "--format-version=1", "--locked", "--filter-platform", target]);
        let packages = metadata(&mut command)?.packages;
        let foreign = packages.iter().filter(|package| package.source.is_some());
        let mut found: Vec<_> =
            foreign.filter_map(|package| Some(package.manifest_path.parent()?.parent()?.to_owned())).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// The part of `cargo metadata` that is used here.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    /// Absent for a member of the workspace.
    source: Option<String>,
    manifest_path: PathBuf,
}

fn metadata(command: &mut Command) -> Result<Metadata> {
    serde_json::from_str(&output(command)?).context("`cargo metadata` printed what is not its documented format")
}
