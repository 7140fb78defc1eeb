//! Pins that are broken, or of somebody else, and a lock that only root can take.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::agent::Agent;
use crate::harness::bpftool;
use crate::harness::command::Running;
use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};
use crate::harness::{mounts, require};

const NOBODY: u32 = 65534;

/// Runs `tcpops detach`, which nobody serves: its exit code, and what it prints and says.
fn detach(agent: &Agent, more: &[&str]) -> (Option<i32>, String) {
    let pins = agent.pins().to_str().expect("paths of tests are text");
    let output = agent.cli(&[&["detach", "--pins", pins], more].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Is attached to nothing and pinned nowhere.
fn assert_clean(lab: &Lab, agent: &Agent) {
    assert!(!agent.pins().exists(), "{} is left", agent.pins().display());
    // The kernel takes a program off its cgroup a little after the last of its link is gone.
    wait_until("nothing is attached", SOON, || bpftool::attached(lab.cgroup.path()).is_empty());
}

/// Puts somebody else's map where something was.
fn replace(path: &Path) {
    fs::remove_file(path).expect("it is there");
    bpftool::pin_other_map(path);
}

/// Runs something as another user, which must succeed.
fn as_nobody(arguments: &[&str]) {
    let mut command = Command::new(require::tool("setpriv"));
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).args(arguments);
    assert!(command.status().expect("it can be run").success(), "{arguments:?}");
}

/// Lets another user hold the lock of a directory.
fn lock_as_nobody(directory: &Path) -> Running {
    let mut command = Command::new(require::tool("setpriv"));
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
    let script = "import fcntl, os, sys, time\nfd = os.open(sys.argv[1], os.O_RDONLY)\nfcntl.flock(fd, fcntl.LOCK_EX)\n\
                  print('locked', flush=True)\ntime.sleep(1000)";
    command.arg(require::tool("python3")).args(["-I", "-S", "-c", script]).arg(directory);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be run");
    let stdout = child.stdout.take().expect("it is piped");
    let running = Running(child);
    let mut said = String::new();
    BufReader::new(stdout).read_line(&mut said).expect("a pipe can be read");
    assert_eq!(said, "locked\n");
    running
}

#[test]
fn broken_pins_are_cured_by_force() {
    let lab = Lab::new();
    // With these both programs are attached.
    let rules = "[[rule]]\nname = \"all\"\nkeepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\n";
    let mut agent = lab.agent().rules(rules).start();
    let v2 = agent.pins().join("v2");
    let broken: [(&str, &dyn Fn()); 6] = [
        ("v2/CONNECTIONS", &|| fs::remove_file(v2.join("CONNECTIONS")).unwrap()),
        ("v2/SETTINGS", &|| fs::remove_file(v2.join("SETTINGS")).unwrap()),
        ("v2/EVENTS", &|| fs::remove_file(v2.join("EVENTS")).unwrap()),
        ("v2/CONNECTIONS", &|| replace(&v2.join("CONNECTIONS"))),
        ("v2/EVENTS", &|| {
            fs::remove_file(v2.join("EVENTS")).unwrap();
            fs::create_dir(v2.join("EVENTS")).unwrap();
        }),
        ("v2", &|| {
            fs::remove_dir_all(&v2).unwrap();
            bpftool::pin_other_map(&v2);
        }),
    ];
    for (what, breaks) in broken {
        agent.stop(Signal::KILL);
        breaks();
        let (code, said) = detach(&agent, &[]);
        assert_eq!(code, Some(1), "{what} is broken: {said}");
        let (code, said) = detach(&agent, &["--force", "-o", "json"]);
        assert_eq!(code, Some(5), "{what} is broken: {said}");
        let answer: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(answer["restored"], false);
        assert!(answer["broken"].as_str().unwrap().contains(agent.pins().join(what).to_str().unwrap()), "{answer}");
        let removed: Vec<_> = answer["removed"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(removed.last().copied(), v2.to_str(), "{answer}");
        let links = removed.iter().filter(|path| path.ends_with("/sockops") || path.ends_with("/setsockopt"));
        assert_eq!(links.count(), if what == "v2" { 0 } else { 2 }, "{answer}");
        assert_clean(&lab, &agent);
        agent.start_again();
        assert_eq!(agent.get("/v1/status").ok()["resumed"], false);
        let line = lab.outbound("127.0.0.1");
        assert_eq!(agent.code(&line.sock.id()), 1);
    }
}

#[test]
fn an_agent_says_how_broken_pins_are_cured() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let v2 = agent.pins().join("v2");
    agent.stop(Signal::KILL);
    let setup = || lab.agent().pins(agent.pins().to_owned());
    let said = |path: &Path| {
        let (status, said) = setup().ends();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("detach --force") && said.contains(path.to_str().unwrap()), "{said}");
    };
    fs::rename(v2.join("SETTINGS"), agent.pins().join("aside")).unwrap();
    said(&v2.join("SETTINGS"));
    fs::create_dir(v2.join("SETTINGS")).unwrap();
    said(&v2.join("SETTINGS"));
    fs::remove_dir_all(&v2).unwrap();
    bpftool::pin_other_map(&v2);
    said(&v2);
}

#[test]
fn force_does_what_detach_does_where_nothing_is_broken() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    let second = lab.agent().socket(lab.directory.path().join("other.sock")).pins(agent.pins().to_owned());
    // It takes nothing from an agent that runs.
    let pins = agent.pins().to_str().unwrap().to_owned();
    let socket = lab.directory.path().join("nobody.sock");
    let mut command = Command::new(require::tcpops());
    command.args(["detach", "--force", "--pins", &pins, "--socket"]).arg(&socket);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another agent"), "{said}");
    assert!(second.fails().contains("in use by another agent"));
    assert_eq!(agent.get("/readyz").status, 200);
    agent.stop(Signal::KILL);
    let (code, said) = detach(&agent, &["--force"]);
    assert_eq!((code, said.as_str()), (Some(0), "detached, socket options restored\n"));
    let (code, said) = detach(&agent, &["--force"]);
    assert_eq!((code, said.as_str()), (Some(0), "nothing is attached\n"));
    assert_clean(&lab, &agent);
}

#[test]
fn an_agent_whose_pins_were_taken_away_can_be_detached() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    // While it does not look: it would pin again what is removed.
    agent.running().signal(Signal::STOP);
    fs::remove_dir_all(agent.pins().join("v2")).unwrap();
    agent.running().signal(Signal::CONT);
    agent.cli_stdout(&["detach"]);
    assert_eq!(agent.running().wait(std::time::Duration::from_secs(10)).code(), Some(0), "{}", agent.log());
    assert_clean(&lab, &agent);
}

#[test]
fn what_another_user_has_made_first_is_refused_and_cured_by_force() {
    let lab = Lab::new();
    let setup = lab.agent();
    let place = mounts::bpffs();
    let mode = fs::metadata(&place).unwrap().mode() & 0o7777;
    let line = setup.command_line();
    let at = line.iter().position(|argument| argument == "--pins").unwrap() + 1;
    let pins = Path::new(&line[at]).to_owned();
    let path = pins.to_str().unwrap();
    let make_first = || {
        if mode & 0o002 == 0 {
            // Only root can, on a file system that was mounted for root alone: as if it had not been.
            fs::create_dir(&pins).unwrap();
            fs::create_dir(pins.join("v2")).unwrap();
            chown(&pins, Some(NOBODY), Some(NOBODY)).unwrap();
        } else {
            as_nobody(&["mkdir", "-p", &format!("{path}/v2")]);
        }
    };
    make_first();
    let said = setup.fails();
    for part in [path, &format!("belongs to uid {NOBODY}"), "detach --force"] {
        assert!(said.contains(part), "{said}");
    }
    let socket = lab.directory.path().join("nobody.sock");
    let forced = || {
        let mut command = Command::new(require::tcpops());
        command.args(["detach", "--force", "--pins", path, "--socket"]).arg(&socket);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = forced();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(&format!("removed {path}/v2\nremoved {path}\n")), "{said}");
    assert!(!pins.exists());
    // Neither does a file stand in the way.
    bpftool::pin_other_map(&pins);
    let said = setup.fails();
    assert!(said.contains("is not a directory") && said.contains("detach --force"), "{said}");
    let (code, said) = forced();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(&format!("removed {path}\n")), "{said}");
    // One that all may write to is no better.
    fs::create_dir(&pins).unwrap();
    fs::set_permissions(&pins, fs::Permissions::from_mode(0o1777)).unwrap();
    let said = setup.fails();
    assert!(said.contains("can be written to by others (mode 1777)"), "{said}");
    fs::remove_dir(&pins).unwrap();
    let agent = setup.start();
    assert_eq!(agent.get("/readyz").status, 200);
}

#[test]
fn another_user_cannot_keep_an_agent_from_starting() {
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    agent.stop(Signal::KILL);
    // Root's, and open for all to read.
    fs::set_permissions(agent.pins(), fs::Permissions::from_mode(0o755)).unwrap();
    let _locked = [agent.pins().to_owned(), agent.pins().join("v2")].map(|directory| lock_as_nobody(&directory));
    agent.start_again();
    assert_eq!(agent.get("/v1/status").ok()["resumed"], true);
    let lock = fs::metadata(agent.pins().join("lock")).unwrap();
    assert_eq!((lock.uid(), lock.mode() & 0o777), (0, 0o700));
}
