//! What the kernel programs may cost at the most: whoever makes one dearer has to say so here.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::bpftool;
use crate::harness::lab::Lab;
use crate::harness::require;

/// The most instructions that the verifier of Linux 6.18 goes through for each program; the limit of the kernel is a
/// million. An agent waits for it at its start, and other verifiers go through more.
const VERIFIED: [(&str, u64); 4] =
    [("tcpops_destroy", 40), ("tcpops_iter", 33_000), ("tcpops_setsockopt", 23_000), ("tcpops_sockops", 42_000)];

/// The number after a field of a file of `/proc/<pid>/fdinfo`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().parse().expect("it is a number"))
}

#[test]
fn the_verifier_accepts_the_programs_with_room_to_spare() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut verified = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", agent.get("/v1/status").ok()["pid"])).expect("the agent runs")
    {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry.expect("it can be listed").path()) else { continue };
        if let (Some(id), Some(count)) = (field(&text, "prog_id:"), field(&text, "verified_insns:")) {
            verified.insert(bpftool::program_name(id), count);
        }
    }
    let bound = |name: &str| {
        let most = VERIFIED.iter().find(|(known, _)| *known == name).map(|(_, most)| *most);
        most.filter(|_| require::kernel_is_at_least(6, 18)).unwrap_or(1_000_000)
    };
    for (name, count) in &verified {
        assert!(*count <= bound(name), "{name}: {count} instructions, and {} are allowed", bound(name));
    }
    for name in ["tcpops_iter", "tcpops_setsockopt", "tcpops_sockops"] {
        assert!(verified.contains_key(name), "no {name} in {verified:?}");
    }
}
