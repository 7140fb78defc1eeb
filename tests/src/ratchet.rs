//! What the kernel programs may cost at the most: whoever makes one dearer has to say so here.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::agent::Agent;
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

/// The most calls in the code of the sockops program that touch a map: what a connection's life costs above all. Array
/// look-ups are not among them: the kernel makes a few instructions of each.
const MAP_OPERATIONS: [(&str, usize); 8] = [
    ("__htab_map_lookup_elem", 8),
    ("htab_map_update_elem", 1),
    ("htab_map_delete_elem", 2),
    ("bpf_sk_storage_get", 8),
    ("bpf_sk_storage_delete", 1),
    ("trie_lookup_elem", 1),
    ("bpf_ringbuf_reserve", 2),
    ("bpf_probe_read_kernel", 9),
];

/// The programs of a running agent: name and id of each, and the instructions that the verifier went through.
fn programs(agent: &Agent) -> BTreeMap<String, (u64, u64)> {
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", agent.get("/v1/status").ok()["pid"])).expect("the agent runs")
    {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry.expect("it can be listed").path()) else { continue };
        if let (Some(id), Some(count)) = (field(&text, "prog_id:"), field(&text, "verified_insns:")) {
            programs.insert(bpftool::program_name(id), (id, count));
        }
    }
    programs
}

#[test]
fn the_verifier_accepts_the_programs_with_room_to_spare() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let programs = programs(&agent);
    let bound = |name: &str| {
        let most = VERIFIED.iter().find(|(known, _)| *known == name).map(|(_, most)| *most);
        most.filter(|_| require::kernel_is_at_least(6, 18)).unwrap_or(1_000_000)
    };
    for (name, (_, count)) in &programs {
        assert!(*count <= bound(name), "{name}: {count} instructions, and {} are allowed", bound(name));
    }
    for name in ["tcpops_iter", "tcpops_setsockopt", "tcpops_sockops"] {
        assert!(programs.contains_key(name), "no {name} in {programs:?}");
    }
}

#[test]
fn a_connections_life_takes_few_map_operations() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let (id, _) = programs(&agent)["tcpops_sockops"];
    let calls = bpftool::calls(id);
    assert!(calls.contains_key("htab_map_update_elem"), "{calls:?}");
    if !require::kernel_is_at_least(6, 18) {
        // Other kernels inline other calls.
        return;
    }
    for (function, most) in MAP_OPERATIONS {
        let count = calls.get(function).copied().unwrap_or(0);
        assert!(count <= most, "{count} calls of {function}, and {most} are allowed");
    }
    let others = calls.keys().filter(|name| name.contains("map_") || name.contains("storage"));
    let unknown: Vec<_> = others.filter(|name| !MAP_OPERATIONS.iter().any(|(known, _)| known == name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} have no bound");
}
