//! The compiler for the BPF target: Debian's, or a rustup toolchain that builds `core` itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::ebpf::manifest::Tools;
use crate::needs::{DEBIAN_CLIPPY, DEBIAN_OBJCOPY, DEBIAN_RUSTC};
use crate::process::{cargo, output, remove_env, search_path};
use crate::workspace::{EBPF_PACKAGE, Workspace};

/// The target of the kernel programs.
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";
/// The compiler's flags: `-Clink-arg=--btf` makes bpf-linker turn the debug information into BTF, and the instruction set
/// v3 has 32-bit instructions and atomics that fetch.
pub(crate) const BPF_FLAGS: [&str; 3] = ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];

/// The prefixes of variables that would change the object, or lead Debian's compiler to another toolchain's libraries.
const MISLEADING: [&str; 10] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_",
    "CARGO_INCREMENTAL",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTFLAGS",
];

/// The choice of the compiler for the kernel programs.
#[derive(clap::Args)]
pub(crate) struct ToolchainArgs {
    /// A rustup toolchain with `rust-src` to build the kernel programs with, such as `nightly`, instead of
    /// Debian's `rustc-web`.
    #[arg(long, value_name = "NAME")]
    toolchain: Option<String>,
}

impl ToolchainArgs {
    /// Tells whether Debian's compiler is chosen.
    pub(crate) fn is_debian(&self) -> bool {
        self.toolchain.is_none()
    }

    /// Finds the toolchain.
    ///
    /// # Errors
    /// It is not installed, or cannot build for the BPF target.
    pub(crate) fn find(&self) -> Result<BpfToolchain> {
        let Some(name) = self.toolchain.clone() else {
            let core = Path::new("/usr/lib/rustlib").join(BPF_TARGET);
            if Path::new(DEBIAN_RUSTC).exists() && core.exists() {
                return Ok(BpfToolchain::Debian);
            }
            bail!(
                "found no compiler for {BPF_TARGET}: expected {} and {}; on Debian 12 install \
                 rustc-web and libstd-rust-web-dev-bpf (`cargo xtask test` does it as root), elsewhere pass \
                 `--toolchain nightly` with rustup's nightly and its component rust-src",
                DEBIAN_RUSTC,
                core.display()
            );
        };
        let toolchain = BpfToolchain::Rustup(name.clone());
        if !toolchain.rust_src()?.is_some_and(|directory| directory.join("library/core").exists()) {
            bail!("toolchain {name} has no rust-src; run `rustup component add rust-src --toolchain {name}`");
        }
        Ok(toolchain)
    }
}

/// A compiler for the BPF target.
pub(crate) enum BpfToolchain {
    /// Debian's `rustc-web` with the ready-made `core` of `libstd-rust-web-dev-bpf`.
    Debian,
    /// The rustup toolchain of this name, which builds `core` from `rust-src`.
    Rustup(String),
}

impl BpfToolchain {
    /// A cargo command for the kernel programs: `build` or `clippy`.
    pub(crate) fn cargo(&self, workspace: &Workspace, subcommand: &str, remapped: &[(PathBuf, &str)]) -> Command {
        let mut command = match self {
            // The `clippy` of rustup's cargo cannot read the `core` of Debian's compiler; Debian's asks $CARGO to build.
            Self::Debian if subcommand == "clippy" => Command::new(DEBIAN_CLIPPY),
            Self::Debian => cargo(),
            Self::Rustup(name) => rustup(name, "cargo"),
        };
        remove_env(&mut command, &["CARGO_MANIFEST_", "CARGO_PKG_"]);
        remove_env(&mut command, &MISLEADING);
        let flags = BPF_FLAGS.iter().map(|flag| (*flag).to_owned());
        let remaps = remapped.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
        command
            .current_dir(&workspace.root)
            .arg(subcommand)
            .args(["--release", "--locked", "--package", EBPF_PACKAGE, "--target", BPF_TARGET, "--target-dir"])
            .arg(workspace.ebpf_target())
            .env("CARGO_ENCODED_RUSTFLAGS", flags.chain(remaps).collect::<Vec<_>>().join("\x1f"))
            .env("PATH", search_path())
            // The debug information becomes BTF, and is stripped after that.
            .env("CARGO_PROFILE_RELEASE_STRIP", "none")
            .env("CARGO_PROFILE_RELEASE_SPLIT_DEBUGINFO", "off")
            // An empty value also overrides a configuration file.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            // The kernel programs use `core::intrinsics`.
            .env("RUSTC_BOOTSTRAP", "1");
        match self {
            Self::Debian => command.env("RUSTC", DEBIAN_RUSTC),
            Self::Rustup(_) => command.arg("-Zbuild-std=core"),
        };
        command
    }

    /// The sources of `core`, if this toolchain builds it.
    ///
    /// # Errors
    /// The toolchain is not installed.
    pub(crate) fn rust_src(&self) -> Result<Option<PathBuf>> {
        let Self::Rustup(name) = self else { return Ok(None) };
        let sysroot = output(rustup(name, "rustc").args(["--print", "sysroot"]))?;
        Ok(Some(Path::new(sysroot.trim()).join("lib/rustlib/src/rust")))
    }

    /// The program that strips an object.
    ///
    /// # Errors
    /// The toolchain is not installed.
    pub(crate) fn objcopy(&self) -> Result<Command> {
        let Self::Rustup(name) = self else { return Ok(Command::new(DEBIAN_OBJCOPY)) };
        let directory = output(rustup(name, "rustc").args(["--print", "target-libdir"]))?;
        Ok(Command::new(Path::new(directory.trim()).with_file_name("bin").join("rust-objcopy")))
    }

    /// The versions of the tools that make the object.
    ///
    /// # Errors
    /// One of the programs is missing.
    pub(crate) fn tools(&self) -> Result<Tools> {
        let (mut rustc, mut cargo) = match self {
            Self::Debian => (Command::new(DEBIAN_RUSTC), cargo()),
            Self::Rustup(name) => (rustup(name, "rustc"), rustup(name, "cargo")),
        };
        remove_env(&mut rustc, &["LD_LIBRARY_PATH"]);
        let rustc = output(rustc.arg("-vV"))?;
        let field =
            |name| rustc.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown").trim().to_owned();
        let target_cpu = BPF_FLAGS.iter().find_map(|flag| flag.strip_prefix("-Ctarget-cpu="));
        Ok(Tools {
            host: field("host:"),
            rustc: rustc.lines().next().unwrap_or("unknown").to_owned(),
            llvm: field("LLVM version:"),
            cargo: output(cargo.arg("-V"))?.trim().to_owned(),
            bpf_linker: output(Command::new("bpf-linker").arg("-V").env("PATH", search_path()))?.trim().to_owned(),
            target_cpu: target_cpu.unwrap_or("unknown").to_owned(),
        })
    }
}

fn rustup(toolchain: &str, program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, program]);
    command
}
