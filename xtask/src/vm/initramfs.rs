//! Builds the initramfs that the kernel starts from: just enough to reach the files of the host.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::files;
use crate::process::{output, run};
use crate::vm::kernel::Image;

/// One static program with a shell and the commands that the scripts use.
const BUSYBOX: &str = "/bin/busybox";

/// The modules needed to reach the files of the host; a module that is built into the kernel has no file.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];

/// A program to run in the machine.
pub(crate) struct Program {
    /// The directory that it starts in.
    pub(crate) directory: PathBuf,
    /// Its environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
}

/// Writes the archive into the directory `scratch`, and returns its path.
///
/// # Errors
/// A file cannot be read or written, or busybox is missing.
pub(crate) fn build(image: &Image, program: &Program, scratch: &Path) -> Result<PathBuf> {
    let root = scratch.join("initramfs");
    for directory in ["bin", "dev", "host", "modules", "proc", "root", "rw"] {
        files::make_directory(&root.join(directory))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).with_context(|| format!("cannot copy {BUSYBOX}"))?;
    script(&root.join("init"), include_str!("init.sh"))?;
    script(&root.join("guest"), include_str!("guest.sh"))?;
    script(&root.join("command"), &command(image, program)?)?;
    for (position, module) in modules(image)?.iter().enumerate() {
        // The number keeps the order of loading. Compressed modules, as in 6.12, are unpacked: their kernel does not do it.
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
    files::write(&list, names)?;
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
    files::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| format!("chmod {}", path.display()))
}

/// The script that defines how to start the program.
fn command(image: &Image, program: &Program) -> Result<String> {
    let mut text = format!("#!/bin/sh\nMODULES={}\n", quoted(image.modules.as_os_str())?);
    for (name, value) in &program.environment {
        writeln!(text, "export {name}={}", quoted(value)?)?;
    }
    let words = program.command.iter().map(|word| quoted(word)).collect::<Result<Vec<_>>>()?;
    write!(text, "start() {{\n    cd {} && exec {}\n}}\n", quoted(program.directory.as_os_str())?, words.join(" "))?;
    Ok(text)
}

/// Quotes a word for a shell.
fn quoted(word: &OsStr) -> Result<String> {
    let word = word.to_str().with_context(|| format!("expected text, found {}", word.display()))?;
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// The files of [`MODULES`] and of their dependencies, in the order of loading.
fn modules(image: &Image) -> Result<Vec<String>> {
    Ok(loading_order(&files::read_text(&image.modules.join("modules.dep"))?))
}

/// Reads `modules.dep`: each line is a module and, after a colon, its dependencies, the last of which is to be loaded first.
fn loading_order(dependencies: &str) -> Vec<String> {
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
    fn quoted_words_stay_as_they_are() {
        assert_eq!(quoted(OsStr::new("it's $HOME")).unwrap(), r"'it'\''s $HOME'");
    }

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
        assert_eq!(loading_order(dependencies), expected.map(|name| format!("kernel/{name}")));
    }
}
