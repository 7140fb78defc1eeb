//! Runs QEMU, and the daemon that shares the files of the host with the guest.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::files;
use crate::needs::VIRTIOFSD;
use crate::vm::initramfs::{self, Program};
use crate::vm::kernel::Image;

/// The memory of a machine, which also holds the files that the guest writes.
const MEMORY: &str = "3G";

/// The exit code of `timeout` when the time is up.
const TIMED_OUT: i32 = 124;

/// The time that the daemon may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A process that is killed when this value is dropped.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A directory for the files of one machine, removed when this value is dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `parent`, with a name that no other process uses.
    fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("machine-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Boots the kernel, runs the program on the files of the host, and returns its exit code. Its output goes to stdout.
///
/// # Errors
/// The machine cannot be started, exceeds `limit`, or ends before the program does.
pub(crate) fn run(image: &Image, program: &Program, limit: Duration) -> Result<u8> {
    let scratch = Scratch::new(&image.directory)?;
    let initramfs = initramfs::build(image, program, &scratch.0)?;
    let (socket, answer) = (scratch.0.join("files.sock"), scratch.0.join("answer"));
    let _files = share_files(&socket, &scratch.0.join("virtiofsd.log"))?;
    let mut qemu = qemu(image, &initramfs, &socket, &answer, limit);
    let status = qemu.status().context("cannot start qemu-system-x86_64")?;
    if status.code() == Some(TIMED_OUT) {
        bail!("the machine was not done within {} minutes; --minutes gives it more", limit.as_secs() / 60);
    }
    let said = fs::read_to_string(&answer).with_context(|| format!("qemu-system-x86_64 ended with {status}"))?;
    said.trim().parse().with_context(|| {
        format!("expected the machine to say how the command ended, found {said:?}; what it printed is above")
    })
}

/// Shares all files of the host over a socket; the guest mounts them read-only.
fn share_files(socket: &Path, log: &Path) -> Result<KillOnDrop> {
    let log_file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(VIRTIOFSD);
    // A container may deny a sandbox of namespaces, and what runs in the guest is trusted.
    command.arg(option("--socket-path=", socket)).args(["-o", "source=/,cache=always,sandbox=chroot"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
    let mut running = KillOnDrop(command.spawn().with_context(|| format!("cannot start {VIRTIOFSD}"))?);
    let start = Instant::now();
    while !socket.exists() {
        if running.0.try_wait()?.is_some() || start.elapsed() > READY_WITHIN {
            bail!("{VIRTIOFSD} does not serve; it said: {}", files::read_text(log)?);
        }
        thread::sleep(POLL);
    }
    Ok(running)
}

/// The command that runs the machine. It emulates the processor, which works inside a virtual machine too and boots in
/// seconds.
fn qemu(image: &Image, initramfs: &Path, socket: &Path, answer: &Path, limit: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=10", &limit.as_secs().to_string(), "qemu-system-x86_64"]);
    command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-smp", "2", "-m", MEMORY]);
    // Without `erms`: emulated string instructions copy byte by byte.
    command.args(["-cpu", "max,-erms"]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    // virtio-fs needs the memory of the guest to be shared.
    command.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")]);
    command.args(["-numa", "node,memdev=memory"]);
    command.arg("-chardev").arg(option("socket,id=files,path=", socket));
    command.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
    command.args(["-serial", "stdio", "-serial"]).arg(option("file:", answer));
    command.arg("-kernel").arg(&image.vmlinuz).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    command
}

/// An option that ends with a path.
fn option(name: &str, path: &Path) -> OsString {
    let mut word = OsString::from(name);
    word.push(path);
    word
}
