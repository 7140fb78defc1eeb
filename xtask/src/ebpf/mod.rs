//! `build-ebpf`: builds the kernel programs into the object that is committed and ships.

mod build;
mod manifest;
mod sources;
mod toolchain;

use anyhow::{Context, Result, bail};

use crate::files;
use crate::process::heading;
use crate::workspace::Workspace;

pub(crate) use build::{build, remapped};
pub(crate) use manifest::Manifest;
pub(crate) use toolchain::{BpfToolchain, ToolchainArgs};

/// The object that ships, from the root of the workspace.
const OBJECT: &str = "tcpops-ebpf/object/tcpops.bpf.o";
/// The manifest beside it, which says what made it.
const MANIFEST: &str = "tcpops-ebpf/object/tcpops.bpf.toml";

/// The arguments of `build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build nothing: fail if the committed object was not made from the sources that are here.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    toolchain: ToolchainArgs,
}

/// Builds the object and writes it and its manifest, or checks the committed ones.
///
/// # Errors
/// The toolchain is missing, the build fails, or (with `--check`) the committed object is stale.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.check {
        let manifest = check(workspace)?;
        println!("{OBJECT} was made from the sources that are here, by {}", manifest.tools.rustc);
        return Ok(());
    }
    let toolchain = args.toolchain.find()?;
    // Hashed before the build, so that a change during it shows as stale.
    let sources = sources::hash(&workspace.root)?;
    let built = build(workspace, &toolchain)?;
    let object = files::read(&built)?;
    let manifest = Manifest::new(&object, sources, toolchain.tools()?);

    let path = workspace.root.join(OBJECT);
    files::make_directory(path.parent().context("the object has no directory")?)?;
    files::write(&path, &object)?;
    manifest.write(&workspace.root.join(MANIFEST))?;
    println!("{OBJECT}: {} bytes, sha256 {}", object.len(), manifest.sha256);
    println!("Commit it together with {MANIFEST} and the sources.");
    Ok(())
}

/// Checks that the committed object is the one that its manifest describes, and that the sources have not changed since.
///
/// # Errors
/// The object or its manifest is missing or does not match.
pub(crate) fn check(workspace: &Workspace) -> Result<Manifest> {
    let manifest = Manifest::read(&workspace.root.join(MANIFEST))?;
    let sha256 = manifest::sha256(&committed(workspace)?);
    if sha256 != manifest.sha256 {
        bail!(
            "{OBJECT} is not the object of {MANIFEST}: expected sha256 {}, found {sha256}; \
             run `cargo xtask build-ebpf` and commit both",
            manifest.sha256
        );
    }
    let sources = sources::hash(&workspace.root)?;
    if sources != manifest.sources_sha256 {
        bail!(
            "{OBJECT} is stale: it was made from sources with the hash {}, those here have {sources}; \
             run `cargo xtask build-ebpf` and commit the object with its sources",
            manifest.sources_sha256
        );
    }
    Ok(manifest)
}

/// Compares an object that was just built with the committed one, and prints the result.
///
/// # Errors
/// They differ although the same tools made them.
pub(crate) fn compare(workspace: &Workspace, manifest: &Manifest, tools: &manifest::Tools, built: &[u8]) -> Result<()> {
    heading("compare it with the committed object");
    if built == committed(workspace)? {
        eprintln!("byte-identical to {OBJECT}");
    } else if *tools == manifest.tools {
        bail!(
            "the object built from source (sha256 {}) differs from {OBJECT} (sha256 {}) although the same tools made it; \
             run `cargo xtask build-ebpf` and commit the result, and if it differs again, find out what in it \
             depends on the machine",
            manifest::sha256(built),
            manifest.sha256
        );
    } else {
        eprintln!("note: it differs from {OBJECT}, which other tools made; the tests use the one built here");
        eprintln!("  committed: {}\n  here:      {tools}", manifest.tools);
    }
    Ok(())
}

fn committed(workspace: &Workspace) -> Result<Vec<u8>> {
    files::read(&workspace.root.join(OBJECT))
        .context("expected the committed object; `cargo xtask build-ebpf` makes it")
}
