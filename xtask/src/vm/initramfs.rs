//! What the kernel starts from: enough to reach this machine's files.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{output, run};
use crate::vm::kernel::Image;
use crate::vm::quoted;

/// A shell and the commands that the scripts use, in one program that needs no library.
const BUSYBOX: &str = "/bin/busybox";

/// The modules that lead to this machine's files; where the kernel has one of them built in, there is no file for it.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];

/// What runs in the machine.
pub(crate) struct Program {
    /// Where.
    pub(crate) directory: PathBuf,
    /// The variables that it sees.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
}

/// Writes the archive into the directory `scratch`, and returns where it is.
///
/// # Errors
/// A file cannot be read or written, or busybox is not there.
pub(crate) fn build(image: &Image, program: &Program, scratch: &Path) -> Result<PathBuf> {
    let root = scratch.join("initramfs");
    for directory in ["bin", "dev", "host", "modules", "proc", "root", "rw"] {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).with_context(|| format!("cannot copy {BUSYBOX}"))?;
    script(&root.join("init"), include_str!("init.sh"))?;
    script(&root.join("guest"), include_str!("guest.sh"))?;
    script(&root.join("command"), &command(image, program)?)?;
    for (position, module) in modules(image)?.iter().enumerate() {
        // In the order in which they are to be loaded; those of 6.12 are compressed, which its kernel does not read by
        // itself.
        let name = Path::new(module).file_name().context("a module is a file")?.to_string_lossy();
        let into = root.join("modules").join(format!("{position:02}-{}", name.trim_end_matches(".xz")));
        let from = image.modules.join(module);
        if name.ends_with(".xz") {
            run(Command::new(BUSYBOX).args(["unxz", "-c"]).arg(&from).stdout(create(&into)?))?;
        } else {
            fs::copy(&from, &into).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    let archive = scratch.join("initramfs.cpio");
    let names = output(Command::new("find").arg(".").current_dir(&root))?;
    let list = scratch.join("initramfs.list");
    fs::write(&list, names).with_context(|| format!("cannot write {}", list.display()))?;
    let list = File::open(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut cpio = Command::new(BUSYBOX);
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(&root).stdin(list).stdout(create(&archive)?);
    run(cpio.stderr(Stdio::null()))?;
    Ok(archive)
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| format!("chmod {}", path.display()))
}

/// The script that becomes the program.
fn command(image: &Image, program: &Program) -> Result<String> {
    let mut text = format!("#!/bin/sh\nMODULES={}\n", quoted(image.modules.as_os_str())?);
    for (name, value) in &program.environment {
        writeln!(text, "export {name}={}", quoted(value)?)?;
    }
    let words = program.command.iter().map(|word| quoted(word)).collect::<Result<Vec<_>>>()?;
    write!(text, "start() {{\n    cd {} && exec {}\n}}\n", quoted(program.directory.as_os_str())?, words.join(" "))?;
    Ok(text)
}

/// The files of [`MODULES`] and of what they need, each after what it needs.
fn modules(image: &Image) -> Result<Vec<String>> {
    let path = image.modules.join("modules.dep");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(in_order(&text))
}

/// A line of `modules.dep` is a module and, after a colon, all that it needs, what is to be loaded first last.
fn in_order(dependencies: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for wanted in MODULES {
        let is_wanted = |file: &str| {
            file.rsplit('/').next().and_then(|name| name.split('.').next()).is_some_and(|name| name == wanted)
        };
        let line = dependencies.lines().filter_map(|line| line.split_once(':')).find(|(file, _)| is_wanted(file));
        let Some((file, needs)) = line else { continue };
        for file in needs.split_whitespace().rev().chain([file]) {
            if !found.iter().any(|known| known == file) {
                found.push(file.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_first_and_once() {
        let dependencies = "\
kernel/fs/fuse/fuse.ko:
kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko kernel/virtio/virtio.ko kernel/virtio/ring.ko
kernel/virtio/virtio_pci.ko.xz: kernel/virtio/virtio.ko kernel/virtio/ring.ko
kernel/virtio/virtio_pci_dev.ko:
";
        let expected =
            ["virtio/ring.ko", "virtio/virtio.ko", "virtio/virtio_pci.ko.xz", "fs/fuse/fuse.ko", "fs/fuse/virtiofs.ko"];
        assert_eq!(in_order(dependencies), expected.map(|name| format!("kernel/{name}")));
    }
}
