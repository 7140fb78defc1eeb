//! Values of maps, as references.

use aya_ebpf::btf_maps::HashMap;
use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::policy::Policy;
use tcpops_common::probe::Probe;
use tcpops_common::rule::RuleKey;
use tcpops_common::settings::reconnects_entry;

use crate::kernel::maps::{CONNECTIONS, OVERRIDES, PROBES, RECONNECTS, RULE_KEYS};

/// The entry of a connection, to change in place.
pub(crate) fn connection(key: &ConnKey) -> Option<&'static mut Connection> {
    let entry = CONNECTIONS.get_ptr_mut(key)?;
    // SAFETY: an element of a map without preallocation is freed after an RCU grace period, and a program runs within
    // one. Only the programs that run for this socket write to it, and they run one at a time, under the socket's lock.
    unsafe { entry.as_mut() }
}

/// The override of a connection.
pub(crate) fn override_of(key: &ConnKey) -> Option<&'static Policy> {
    shared(&OVERRIDES, key)
}

/// The probe of a connection, to change in place.
pub(crate) fn probe(key: &ConnKey) -> Option<&'static mut Probe> {
    let probe = PROBES.get_ptr_mut(key)?;
    // SAFETY: as in `connection`; the agent replaces elements whole, by new ones.
    unsafe { probe.as_mut() }
}

/// The class of a uid or a cgroup.
pub(crate) fn class(key: &RuleKey) -> Option<u32> {
    shared(&RULE_KEYS, key).copied()
}

/// Notes that a program of this cgroup connects descriptors again: its connections are closed with more care.
pub(crate) fn note_reconnect(cgroup_id: u64) {
    if let Some(entry) = RECONNECTS.get_ptr_mut(reconnects_entry(cgroup_id)) {
        // SAFETY: an element of an array map stays for as long as the program; it is an aligned word, and only ever 1.
        unsafe { entry.write_volatile(1) };
    }
}

fn shared<K, V, const N: usize, const F: usize>(map: &'static HashMap<K, V, N, F>, key: &K) -> Option<&'static V> {
    // SAFETY: as above, the element outlives the program's run; the agent replaces elements whole, by new ones.
    unsafe { map.get(key) }
}
