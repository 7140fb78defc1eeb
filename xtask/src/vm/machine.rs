//! QEMU, and the daemon that shares this machine's files with what runs in it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::vm::initramfs::{self, Program};
use crate::vm::kernel::Image;

/// The daemon of virtio-fs: where Debian's qemu-system-common has it.
pub(crate) const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";

/// The memory of a machine; what is written in it is there too.
const MEMORY: &str = "3G";

/// What `timeout` answers where the time was up.
const TIME_WAS_UP: i32 = 124;

/// How long the daemon may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A directory for what belongs to one machine; removed with this value.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `parent`, of which no other process has the name.
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

/// Boots the kernel, runs the program with this machine's files for its own, and returns its exit code. What it prints
/// goes to standard output.
///
/// # Errors
/// The machine cannot be started, is not done within `limit`, or ends before the program does.
pub(crate) fn run(image: &Image, program: &Program, limit: Duration) -> Result<u8> {
    let scratch = Scratch::new(&image.directory)?;
    let initramfs = initramfs::build(image, program, &scratch.0)?;
    let (socket, answer) = (scratch.0.join("files.sock"), scratch.0.join("answer"));
    let _files = share_files(&socket, &scratch.0.join("virtiofsd.log"))?;
    let mut qemu = qemu(image, &initramfs, &socket, &answer, limit);
    let status = qemu.status().context("cannot start qemu-system-x86_64")?;
    if status.code() == Some(TIME_WAS_UP) {
        bail!("the machine was not done within {} minutes; --minutes gives it more", limit.as_secs() / 60);
    }
    let said = fs::read_to_string(&answer).with_context(|| format!("qemu-system-x86_64 ended with {status}"))?;
    said.trim().parse().with_context(|| {
        format!("expected the machine to say how the command ended, found {said:?}; what it printed is above")
    })
}

/// Shares all files of this machine over a socket; read-only, by the mount in the machine.
fn share_files(socket: &Path, log: &Path) -> Result<Running> {
    let log_file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(VIRTIOFSD);
    // A sandbox of namespaces may be denied within a container; what runs in the machine is this user's own.
    command.arg(option("--socket-path=", socket)).args(["-o", "source=/,cache=always,sandbox=chroot"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
    let mut running = Running(command.spawn().with_context(|| format!("cannot start {VIRTIOFSD}"))?);
    let start = Instant::now();
    while !socket.exists() {
        if running.0.try_wait()?.is_some() || start.elapsed() > READY_WITHIN {
            bail!("{VIRTIOFSD} does not serve; it said: {}", fs::read_to_string(log)?);
        }
        thread::sleep(POLL);
    }
    Ok(running)
}

/// The command that is the machine. It emulates the processor: that works within a virtual machine too, and boots in
/// seconds.
fn qemu(image: &Image, initramfs: &Path, socket: &Path, answer: &Path, limit: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=10", &limit.as_secs().to_string(), "qemu-system-x86_64"]);
    command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-smp", "2", "-m", MEMORY]);
    // Without the copying of strings by single instructions: emulated, these go byte by byte.
    command.args(["-cpu", "max,-erms"]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    // virtio-fs reaches into the machine's memory.
    command.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")]);
    command.args(["-numa", "node,memdev=memory"]);
    command.arg("-chardev").arg(option("socket,id=files,path=", socket));
    command.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
    command.args(["-serial", "stdio", "-serial"]).arg(option("file:", answer));
    command.arg("-kernel").arg(&image.vmlinuz).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    command
}

/// A word that ends with a path.
fn option(name: &str, path: &Path) -> OsString {
    let mut word = OsString::from(name);
    word.push(path);
    word
}
