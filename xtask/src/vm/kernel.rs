//! Fetches Debian's kernels with apt and unpacks them; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::files::{make_directory, names};
use crate::process::{heading, output, run};

/// A kernel that can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kernel {
    /// The kernel of Debian 12, the oldest one supported.
    #[value(name = "6.1")]
    V6_1,
    /// The newer kernel that Debian 12 offers.
    #[value(name = "6.12")]
    V6_12,
}

/// A kernel, unpacked.
pub(crate) struct Image {
    /// The release, as `uname -r` prints it.
    pub(crate) release: String,
    /// The file to boot.
    pub(crate) vmlinuz: PathBuf,
    /// The directory of its modules, with their index.
    pub(crate) modules: PathBuf,
    /// The directory that it was unpacked in.
    pub(crate) directory: PathBuf,
}

impl Kernel {
    /// The package that depends on the current kernel of this version.
    fn package(self) -> &'static str {
        match self {
            Self::V6_1 => "linux-image-cloud-amd64",
            Self::V6_12 => "linux-image-6.12-cloud-amd64",
        }
    }

    /// The kernel, fetched into a directory below `cache` unless it is there. It stays until somebody removes it.
    ///
    /// # Errors
    /// It cannot be fetched, or the package holds no kernel.
    pub(crate) fn image(self, cache: &Path) -> Result<Image> {
        let directory = cache.join(self.package());
        if !directory.exists() {
            heading(&format!("fetch {}", self.package()));
            // Unpacked aside and renamed, so that an interrupted fetch leaves no half of a kernel.
            let aside = cache.join(format!("{}-new", self.package()));
            if aside.exists() {
                fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
            }
            make_directory(&aside)?;
            fetch(self.package(), &aside)?;
            fs::rename(&aside, &directory).with_context(|| format!("cannot rename {}", aside.display()))?;
        }
        let release = only_entry(&directory.join("lib/modules"))?;
        Ok(Image {
            vmlinuz: directory.join(format!("boot/vmlinuz-{release}")),
            modules: directory.join("lib/modules").join(&release),
            release,
            directory,
        })
    }
}

/// Fetches the package that `meta` depends on, and unpacks it in `directory`.
fn fetch(meta: &str, directory: &Path) -> Result<()> {
    let package = || -> Result<String> {
        let depends = output(Command::new("apt-cache").args(["depends", meta]))?;
        let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        name.map(str::to_owned).with_context(|| format!("expected {meta} to depend on a kernel, found {depends:?}"))
    };
    let download = |package: &str| {
        // As root, since apt's own user cannot write here.
        let mut apt = Command::new("apt-get");
        run(apt.current_dir(directory).args(["-q", "-o", "APT::Sandbox::User=root", "download", package]))
    };
    if package().and_then(|package| download(&package)).is_err() {
        // The package lists are missing, or older than the mirror's.
        run(Command::new("apt-get").args(["-q", "-o", "DPkg::Lock::Timeout=300", "update"]))?;
        download(&package()?)?;
    }
    let archive = directory.join(only_entry(directory)?);
    run(Command::new("dpkg-deb").arg("-x").args([&archive, directory]))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    run(Command::new("depmod").arg("-b").arg(directory).arg(only_entry(&directory.join("lib/modules"))?))
}

/// The name of the one entry of a directory.
fn only_entry(directory: &Path) -> Result<String> {
    match names(directory)?.as_slice() {
        [name] => Ok(name.clone()),
        other => bail!("expected one entry in {}, found {other:?}; remove it, to fetch it anew", directory.display()),
    }
}
