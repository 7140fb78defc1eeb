//! What keeps the agent from starting is said in words, with exit status 1 and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::agent::Setup;
use crate::harness::bpftool;
use crate::harness::command::{Log, Running};
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_for, wait_until};
use crate::harness::{http, mounts, require};

/// The agent in a mount namespace of its own, after a script that hides something.
fn in_mount_namespace(script: &str, setup: &Setup) -> Command {
    let mut command = Command::new(require::tool("unshare"));
    command.args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]);
    command.arg(require::tcpops()).args(setup.command_line());
    command
}

/// Takes away every mount of a kind, and makes sure that none is left.
fn without_mounts(kind: &str) -> String {
    require::tool("umount");
    let places: Vec<_> = mounts::of_type(kind).iter().map(|place| format!("umount -l {}\n", place.display())).collect();
    format!("{}if grep -q -- ' - {kind} ' /proc/self/mountinfo; then exit 99; fi", places.concat())
}

#[test]
fn root_is_needed() {
    let lab = Lab::new();
    // A copy that everybody can reach.
    let binary = lab.directory.path().join("tcpops");
    fs::copy(require::tcpops(), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let setup = lab.agent();
    let mut command = Command::new(require::tool("setpriv"));
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary).args(setup.command_line());
    let said = setup.fails_as(&mut command);
    assert!(said.contains("root"), "{said}");
}

#[test]
fn cgroup2_is_needed() {
    let lab = Lab::new();
    // Its cgroup is hidden with the rest.
    let setup = lab.agent();
    let said = setup.fails_as(&mut in_mount_namespace(&without_mounts("cgroup2"), &setup));
    assert!(said.contains("cgroup2"), "{said}");
}

#[test]
fn a_directory_that_is_no_cgroup_is_refused() {
    let lab = Lab::new();
    for directory in [lab.directory.path().to_owned(), PathBuf::from("/nonexistent")] {
        let text = directory.to_str().unwrap();
        let setup = lab.agent();
        let mut line = setup.command_line();
        let at = line.iter().position(|argument| argument == "--cgroup").unwrap();
        line[at + 1] = text.to_owned();
        let mut command = Command::new(require::tcpops());
        let said = setup.fails_as(command.args(line));
        assert!(said.contains(text) && said.contains("cgroup"), "{said}");
    }
}

#[test]
fn a_directory_that_is_not_on_bpffs_is_refused_for_pins() {
    let lab = Lab::new();
    let pins = lab.directory.path().join("pins");
    let said = lab.agent().pins(pins.clone()).fails();
    assert!(said.contains(pins.to_str().unwrap()) && said.to_lowercase().contains("bpf"), "{said}");
}

#[test]
fn the_kernels_types_are_needed() {
    let lab = Lab::new();
    let setup = lab.agent();
    let said = setup.fails_as(&mut in_mount_namespace("mount -t tmpfs none /sys/kernel/btf", &setup));
    assert!(said.contains("/sys/kernel/btf/vmlinux"), "{said}");
}

#[test]
fn bpffs_is_mounted_if_it_is_not() {
    let lab = Lab::new();
    // In a namespace where it is not mounted, and which ends with the agent.
    let setup = lab.agent().pins(PathBuf::from("/sys/fs/bpf/tcpops-test-mount"));
    let mut command = in_mount_namespace(&without_mounts("bpf"), &setup);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = lab.ns.spawn(&mut command);
    let log = Log::default();
    log.collect(child.stderr.take().expect("it is piped"));
    let mut agent = Running(child);
    let socket = lab.directory.path().join("tcpops.sock");
    let status = wait_for("the agent serves", SOON, || {
        assert!(agent.0.try_wait().unwrap().is_none(), "{}", log.text());
        let answer = http::exchange(&socket, http::request_text("GET", "/v1/status", None).as_bytes());
        answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.json())
    });
    assert_eq!(status["pins"], "/sys/fs/bpf/tcpops-test-mount/v2");
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", agent.0.id())).unwrap();
    assert!(table.lines().any(|line| line.contains(" /sys/fs/bpf ") && line.contains(" - bpf ")), "{table}");
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.wait(SOON).code(), Some(0), "{}", log.text());
    // The mount, and with it the pins, went with the namespace.
    wait_until("the program is detached", SOON, || bpftool::attached(lab.cgroup.path()).is_empty());
}

#[test]
fn a_command_line_that_cannot_be_is_refused() {
    let lab = Lab::new();
    for arguments in
        [&["--max-connections", "0"][..], &["--ebpf-log", "loud"], &["--colour", "red"], &["--netns", "some"]]
    {
        let (status, said) = lab.agent().arguments(arguments).ends();
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains(arguments[0]), "{said}");
    }
    assert!(bpftool::attached(lab.cgroup.path()).is_empty());
}

#[test]
fn a_command_without_an_agent_says_so() {
    let lab = Lab::new();
    let socket = lab.directory.path().join("nobody.sock");
    let output = Command::new(require::tcpops()).args(["conn", "list", "--socket"]).arg(&socket).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(socket.to_str().unwrap()) && said.contains("tcpops agent"), "{said}");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).ok(), None);
}

#[test]
fn while_it_starts_it_says_how_far_it_is_and_other_requests_wait() {
    let lab = Lab::new();
    let mut line = lab.outbound("127.0.0.1");
    let mut agent = lab.agent().begin();
    let healthz = http::request_text("GET", "/healthz", None);
    wait_until("its socket answers", SOON, || http::exchange(agent.socket(), healthz.as_bytes()).is_ok());
    // It takes far longer to load the programs than to send this.
    for path in ["/readyz", "/v1/status"] {
        let problem = agent.get(path).problem(503, "starting");
        let detail = problem["detail"].as_str().expect("it says how far it is");
        assert!(detail.starts_with("the agent is starting: "), "{detail}");
        assert_eq!(agent.get(path).header("retry-after"), Some("1"));
    }
    assert_eq!(agent.get("/healthz").ok(), json!({ "ready": false }));
    assert_eq!(agent.code(&line.sock.id()), 1, "the answer has waited");
    agent.wait_until_ready();
    assert_eq!(agent.get("/healthz").ok(), json!({ "ready": true }));
    line.program.reset(line.sock);
    wait_until("it is tracked", SOON, || agent.code(&line.sock.id()) == -1);
}
