//! The agent's socket: where it may be, and whose it is.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use rustix::process::Signal;

use crate::harness::lab::Lab;

const NOBODY: u32 = 65534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn an_agent_that_ends_leaves_the_socket_of_another() {
    let lab = Lab::new();
    let mut first = lab.agent().start();
    // While it does not look; otherwise it would bind another at once.
    first.running().signal(Signal::STOP);
    fs::remove_file(first.socket()).unwrap();
    // The harness gives it other pins, and the same socket.
    let second = lab.agent().start();
    first.running().signal(Signal::CONT);
    first.wait_to_say("it cannot be bound again");
    let inode = || fs::symlink_metadata(second.socket()).map(|found| found.ino()).ok();
    let of_second = inode();
    assert_eq!(first.stop(Signal::TERM).code(), Some(0));
    assert!(of_second.is_some());
    assert_eq!(inode(), of_second, "it is gone, or another's");
    assert_eq!(second.get("/readyz").status, 200);
}

#[test]
fn a_directory_that_others_can_change_is_refused_unless_it_is_asked_for() {
    let lab = Lab::new();
    let place = lab.directory.path();
    let (all, others, below, link) =
        (place.join("all"), place.join("others"), place.join("all/own"), place.join("link"));
    for directory in [&all, &others, &below] {
        fs::create_dir(directory).unwrap();
    }
    set_mode(&all, 0o1777);
    chown(&others, Some(NOBODY), None).unwrap();
    symlink("others", &link).unwrap();
    for (directory, why) in [
        (&all, format!("{} can be written to by others (mode 1777)", all.display())),
        (&others, format!("{} belongs to uid {NOBODY}", others.display())),
        (&link, format!("{} belongs to uid {NOBODY}", others.display())),
    ] {
        let said = lab.agent().socket(directory.join("s")).fails();
        assert!(said.contains(&why) && said.contains("--socket-directory shared"), "{said}");
        assert!(!directory.join("s").exists());
        let mut agent = lab.agent().socket(directory.join("s")).arguments(&["--socket-directory", "shared"]).start();
        assert_eq!(agent.stop(Signal::TERM).code(), Some(0));
    }
    // Root's below one in which everybody may make something: as in /tmp, nobody but root can take it away there.
    let agent = lab.agent().socket(below.join("s")).start();
    assert_eq!(agent.get("/readyz").status, 200);
    drop(agent);
    set_mode(&all, 0o777);
    let said = lab.agent().socket(below.join("s")).fails();
    assert!(said.contains("can be written to by others (mode 777)"), "{said}");
}
