//! The group `tcpops`, whose members may do everything, and system databases that do not answer.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::agent::{Agent, Setup};
use crate::harness::lab::Lab;
use crate::harness::peer::Peer;
use crate::harness::wait::{SOON, patient, wait_to_see, wait_until};
use crate::permissions::open_to_all;

const NOBODY: u32 = 65534;
const GID: u32 = 47_110;

/// An /etc of the agent's own, with the group under this number.
fn etc(lab: &Lab, gid: u32) -> PathBuf {
    let etc = lab.directory.path().join("etc");
    fs::create_dir(&etc).expect("there is none yet");
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\n").expect("it is ours");
    set_group(&etc, gid);
    etc
}

fn set_group(etc: &Path, gid: u32) {
    fs::write(etc.join("new"), format!("root:x:0:\ntcpops:x:{gid}:\n")).expect("it is ours");
    fs::rename(etc.join("new"), etc.join("group")).expect("it is ours");
}

/// From now on, whoever reads the groups waits until somebody writes some.
fn hang(etc: &Path) {
    let new = etc.join("new");
    rustix::fs::mkfifoat(rustix::fs::CWD, &new, rustix::fs::Mode::from(0o644)).expect("it is ours");
    fs::rename(new, etc.join("group")).expect("it is ours");
}

/// An agent that has this /etc.
fn with<'lab>(lab: &'lab Lab, etc: &Path) -> Setup<'lab> {
    lab.agent().after(&format!("mount --bind {} /etc", etc.display()))
}

fn group_of(agent: &Agent) -> u32 {
    fs::metadata(agent.socket()).expect("it serves").gid()
}

/// The status of an answer that only root and members of the group get.
fn may_do_everything(agent: &Agent, program: &mut Peer) -> bool {
    let rules = agent.get("/v1/rules").ok();
    program.http(agent.socket(), "PUT", "/v1/rules", Some(&rules)).status == 200
}

#[test]
fn members_may_do_everything_and_who_they_are_is_read_again() {
    let lab = Lab::new();
    let etc = etc(&lab, GID);
    let mut agent = with(&lab, &etc).start();
    assert_eq!(group_of(&agent), GID);
    open_to_all(&agent);
    let member = format!("--groups={GID}");
    let mut member = Peer::start_in_groups(&lab.ns, Some(&lab.cgroup), NOBODY, &member);
    let mut nobody = lab.program_of(NOBODY);
    assert!(may_do_everything(&agent, &mut member) && !may_do_everything(&agent, &mut nobody));
    set_group(&etc, GID + 1);
    assert!(may_do_everything(&agent, &mut member), "nobody asked for it to be read again");
    agent.running().signal(Signal::HUP);
    wait_until("it belongs to the other group", SOON, || group_of(&agent) == GID + 1);
    assert!(!may_do_everything(&agent, &mut member));
}

#[test]
fn clients_have_nobody_asked_who_does_not_answer() {
    let lab = Lab::new();
    let etc = etc(&lab, GID);
    let mut agent = with(&lab, &etc).start();
    open_to_all(&agent);
    let (mut nobody, mut line) = (lab.program_of(NOBODY), lab.outbound("127.0.0.1"));
    hang(&etc);
    // Read again it hangs, where nobody waits for it.
    agent.running().signal(Signal::HUP);
    agent.lifetime(&line.sock.id(), &json!({ "max_age_seconds": 1 })).ok();
    let began = Instant::now();
    nobody.hold(agent.socket(), 3);
    assert_eq!(agent.get("/readyz").status, 200);
    assert_eq!(line.program.receive(line.sock).unwrap_err(), "ECONNABORTED");
    assert!(began.elapsed() < patient(Duration::from_secs(5)), "after {:?}", began.elapsed());
    assert!(!may_do_everything(&agent, &mut nobody));
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
}

#[test]
fn a_start_does_not_wait_for_who_does_not_answer() {
    let lab = Lab::new();
    let etc = etc(&lab, GID);
    hang(&etc);
    let mut agent = with(&lab, &etc).start();
    agent.wait_to_say("only root may do everything");
    assert_eq!(group_of(&agent), 0);
    // Its reader finds that no groups can be read from a pipe.
    drop(fs::File::create(etc.join("group")).expect("somebody reads it"));
    agent.wait_to_say("cannot look up the group");
    set_group(&etc, GID);
    agent.running().signal(Signal::HUP);
    wait_to_see("its group", &GID, || group_of(&agent));
    assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
}
