//! The programs and files that the checks and tests need; on Debian 12, missing ones are installed when run as root.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, cargo, search_path};

/// The compiler of Debian's `rustc-web`.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The formatter that goes with it.
pub(crate) const DEBIAN_RUSTFMT: &str = "/usr/bin/rustfmt";
/// The clippy that goes with it.
pub(crate) const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";
/// The objcopy of its LLVM.
pub(crate) const DEBIAN_OBJCOPY: &str = "/usr/lib/llvm-22/bin/llvm-objcopy";
/// The daemon of virtio-fs, in Debian's `qemu-system-common`.
pub(crate) const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";

/// The version of bpf-linker that goes with Debian's compiler.
const BPF_LINKER: &str = "0.13.0";
/// The LLVM of Debian's compiler; the linker must read what that compiler writes.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// A sign that a package is installed.
enum Proof {
    /// A program on the search path.
    Program(&'static str),
    /// A file or directory at this path.
    File(&'static str),
}
use Proof::{File, Program};

/// Something that is needed: the sign that it is installed, and the Debian package that provides it.
type Need = (Proof, &'static str);

/// To build, format and lint the kernel programs with Debian's compiler.
const COMPILER: [Need; 8] = [
    (File(DEBIAN_RUSTC), "rustc-web"),
    (File("/usr/lib/rustlib/bpfel-unknown-none"), "libstd-rust-web-dev-bpf"),
    (File(DEBIAN_CLIPPY), "rust-web-clippy"),
    (File(DEBIAN_RUSTFMT), "rustfmt-web"),
    (File(DEBIAN_OBJCOPY), "llvm-22"),
    (File("/usr/lib/llvm-22/lib/libLLVM.so"), "llvm-22-dev"),
    (File("/usr/lib/llvm-22/lib/libPolly.a"), "libpolly-22-dev"),
    (Program("pkg-config"), "pkg-config"),
];

/// To run the end-to-end tests.
const TOOLS: [Need; 9] = [
    (Program("gcc"), "gcc"),
    (Program("bpftool"), "bpftool"),
    (Program("ip"), "iproute2"),
    (Program("nc"), "netcat-openbsd"),
    (Program("nft"), "nftables"),
    (Program("python3"), "python3"),
    (Program("nsenter"), "util-linux"),
    (Program("capsh"), "libcap2-bin"),
    (Program("ps"), "procps"),
];

/// To run the end-to-end tests on other kernels, in addition to [`TOOLS`].
const MACHINE: [Need; 5] = [
    (Program("qemu-system-x86_64"), "qemu-system-x86"),
    (File(VIRTIOFSD), "qemu-system-common"),
    // The static one is needed; /bin/busybox itself may be the other.
    (File("/usr/share/doc/busybox-static"), "busybox-static"),
    (Program("depmod"), "kmod"),
    (Program("timeout"), "coreutils"),
];

/// Makes sure that the checks and the end-to-end tests can run here.
///
/// `compiler` asks for Debian's compiler and its linker too; `fetch` allows installing what is missing.
///
/// # Errors
/// Something is missing and cannot be installed; the error names all of it.
pub(crate) fn ensure(compiler: bool, fetch: bool) -> Result<()> {
    let needs: Vec<_> = COMPILER.iter().filter(|_| compiler).chain(&TOOLS).collect();
    packages(&needs, fetch)?;
    if compiler { linker(fetch) } else { Ok(()) }
}

/// Makes sure that the end-to-end tests can run in a virtual machine.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_machine(fetch: bool) -> Result<()> {
    packages(&TOOLS.iter().chain(&MACHINE).collect::<Vec<_>>(), fetch)
}

/// Makes sure that one more program is there.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_program(name: &'static str, package: &'static str, fetch: bool) -> Result<()> {
    packages(&[&(Program(name), package)], fetch)
}

fn packages(needs: &[&Need], fetch: bool) -> Result<()> {
    let missing = || needs.iter().filter(|(proof, _)| !proof.holds()).map(|(_, name)| *name).collect::<Vec<_>>();
    if !missing().is_empty() && fetch && is_debian_12() && is_root() {
        // If this fails, the packages are still missing below.
        if let Err(error) = install(&missing()) {
            eprintln!("warning: {error:#}");
        }
    }
    let missing = missing();
    if !missing.is_empty() {
        bail!(
            "not installed: {}; they are packages of Debian 12, which this task installs as root (without `--no-fetch`); \
             elsewhere install what corresponds to them",
            missing.join(" ")
        );
    }
    Ok(())
}

/// Tells whether this program runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Proof {
    fn holds(&self) -> bool {
        match self {
            Program(name) => env::split_paths(&search_path()).any(|directory| directory.join(name).exists()),
            File(path) => Path::new(path).exists(),
        }
    }
}

fn is_debian_12() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let has = |line: &str| release.lines().any(|found| found == line);
    has("ID=debian") && has("VERSION_ID=\"12\"")
}

fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {}", packages.join(" "));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
        command
    };
    process::run(apt().arg("update"))?;
    process::run(apt().args(["install", "-y", "--no-install-recommends"]).args(packages))
}

fn linker(fetch: bool) -> Result<()> {
    let found = || process::output(Command::new("bpf-linker").arg("-V").env("PATH", search_path()));
    let expected = format!("bpf-linker {BPF_LINKER}");
    if found().is_ok_and(|version| version.trim() == expected) {
        return Ok(());
    }
    let features = ["--locked", "--no-default-features", "--features", "llvm-22"];
    let mut install = cargo();
    install
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .args(["install", "bpf-linker", "--force", "--version", BPF_LINKER])
        .args(features);
    let advice = format!(
        "expected {expected}; install it with `LLVM_PREFIX={LLVM_PREFIX} cargo install bpf-linker \
         --version {BPF_LINKER} {}`",
        features.join(" ")
    );
    if !fetch {
        bail!("{advice}");
    }
    eprintln!("installing {expected}");
    process::run(&mut install).context(advice)
}
