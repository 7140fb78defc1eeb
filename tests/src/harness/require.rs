//! What the tests need of the machine: what is missing is named, with what to install. Only what the kernel lacks is
//! done without, and only after it was asked.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::stdout_of;

/// Where programs are looked for before the search path: these work for every uid and in every namespace, which
/// wrappers in somebody's home directory do not.
const FIRST: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// The programs that the tests call, and the Debian package of each.
const PACKAGES: [(&str, &str); 11] = [
    ("bpftool", "bpftool"),
    ("ip", "iproute2"),
    ("nc", "netcat-openbsd"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("python3", "python3"),
    ("setpriv", "util-linux"),
    ("sh", "dash"),
    ("ss", "iproute2"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
];

/// The path of the program `name`.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = FIRST.map(PathBuf::from).into_iter().chain(env::split_paths(&path));
    directories.map(|directory| directory.join(name)).find(|file| file.exists()).unwrap_or_else(|| {
        let package = PACKAGES.iter().find(|(tool, _)| *tool == name).map_or(name, |(_, package)| *package);
        panic!("the tests need the program {name}: install it (Debian: apt-get install {package})")
    })
}

/// Root, for namespaces, cgroups and BPF.
pub(crate) fn root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "the tests make network namespaces and cgroups and load programs into the kernel: run them as root"
    );
}

/// Asks for the process at the other end of a unix socket: SO_PEERPIDFD; 92 is ENOPROTOOPT.
const ASK_FOR_PEER: &str = "
import socket
try:
    socket.socketpair()[0].getsockopt(socket.SOL_SOCKET, 77)
    print('known')
except OSError as error:
    if error.errno != 92: raise
    print('unknown')
";

/// Whether the kernel has what `fd:` rests on (SO_PEERPIDFD, Linux 6.5).
pub(crate) fn has_descriptors_of_peers() -> bool {
    let said = stdout_of(Command::new(tool("python3")).args(["-I", "-S", "-c", ASK_FOR_PEER]));
    match said.trim() {
        "known" => true,
        "unknown" => false,
        other => panic!("expected an answer about SO_PEERPIDFD, found {other:?}"),
    }
}

/// The program under test: `TCPOPS_BIN`, or what cargo built last in this workspace.
pub(crate) fn tcpops() -> PathBuf {
    if let Some(path) = env::var_os("TCPOPS_BIN") {
        let path = PathBuf::from(path);
        assert!(path.exists(), "TCPOPS_BIN names {}, which does not exist", path.display());
        return path;
    }
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("tcpops"));
    built.into_iter().find(|path| path.exists()).unwrap_or_else(|| {
        panic!("no tcpops in {}: build it (cargo build --release -p tcpops-agent) or set TCPOPS_BIN", target.display())
    })
}

/// Whether the running kernel is of this version, or a later one.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_else(|| panic!("cannot understand {release}"));
    let running: (u32, u32) = (next(), next());
    running >= (major, minor)
}
