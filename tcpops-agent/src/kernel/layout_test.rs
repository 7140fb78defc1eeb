//! The layout at the border, as the kernel programs were built with it, compared with this program's.

use std::mem::offset_of;

use btfparse::{Offset, TypeInformation};
use object::{Object as _, ObjectSection as _};
use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::event::{Event, Summary};
use tcpops_common::maps::PINNED;
use tcpops_common::policy::{Lifetime, Options, Policy, SocketOptions};
use tcpops_common::probe::Probe;
use tcpops_common::rule::{AddrKey, PortBlock, Rule, RuleIndex, RuleKey, RuleMask, RuleSet};
use tcpops_common::settings::Settings;
use tcpops_common::slots::ConidSlot;

use crate::kernel::btf::Bytes;
use crate::kernel::object::OBJECT;

/// Compares the size of a type and the offset of each field that is named; a field that is not named is found, since the
/// number of fields is compared as well.
macro_rules! same_layout {
    ($types:expr, $($name:ident { $($field:ident),+ $(,)? })+) => {$(
        let id = $types.id_of(stringify!($name)).expect(concat!("the object's BTF has ", stringify!($name)));
        assert_eq!($types.size_of(id).unwrap(), size_of::<$name>(), concat!("size of ", stringify!($name)));
        $(
            let (_, offset) = $types.offset_of(id, stringify!($field)).expect(stringify!($name.$field));
            let expected = offset_of!($name, $field) as u32;
            assert!(matches!(offset, Offset::ByteOffset(found) if found == expected), "{}: {offset:?}, expected {expected}",
                stringify!($name.$field));
        )+
        let fields = [$(stringify!($field)),+].len();
        assert_eq!(members($types, id), fields, concat!("number of fields of ", stringify!($name)));
    )+};
}

fn members(types: &TypeInformation, id: u32) -> usize {
    match types.from_id(id) {
        Some(btfparse::TypeVariant::Struct(structure)) => structure.member_list().len(),
        other => panic!("expected a structure, found {other:?}"),
    }
}

#[test]
fn the_object_has_the_layout_of_this_program() {
    let file = object::File::parse(OBJECT).unwrap();
    let section = file.section_by_name(".BTF").expect("the object has BTF");
    let types = &TypeInformation::new(&Bytes(section.data().unwrap().to_vec())).unwrap();
    same_layout! { types,
        ConnKey { cookie, conid }
        Connection {
            local_addr, remote_addr, local_port, remote_port, uid, netns_cookie, cgroup_id, opened_boot_ns,
            established_boot_ns, state_since_boot_ns, state, direction, origin, family, rule, policy, original, in_force,
            applied_boot_ns, touched, keepalive_source, lifetime_source, outcome, errno, refused, own, bound_dev_if, fin_by,
            user_timeout_source, socket_flags, pad,
        }
        Policy { options, lifetime_setting, options_pushed, tells, jitter_percent, serial, by_uid, lifetime }
        Options { keepalive, user_timeout, keepcnt, pad, keepidle_s, keepintvl_s, user_timeout_ms }
        SocketOptions { keepalive, keepcnt, keepidle_s, keepintvl_s, pad, user_timeout_ms }
        Lifetime { idle_ns, max_age_ns, deadline_boot_ns }
        Event { at_boot_ns, key, kind, old_state, new_state, flags, errno, left_boot_ns, connection, summary }
        Summary { bytes_received, bytes_sent, total_retrans, idle_ms, retransmits, probes, sk_flags, pad, user_timeout_ms }
        Probe { phase, pad, saved, asked_boot_ns }
        Rule { policy, id, untracked, name }
        RuleIndex { generation }
        RuleSet { rules, words, dimensions, other_uid, other_cgroup, source_len, kind_classes, file_hash }
        RuleMask { words }
        PortBlock { classes }
        AddrKey { slot, side, pad, address }
        RuleKey { slot, kind, value }
        Settings { reader_awake, restoring, adopting, reevaluating, probing, telling, cgroup_id, secret, only, room }
        ConidSlot { cookie, left_boot_ns }
    }
}

#[test]
fn every_map_of_the_object_is_pinned_or_known_not_to_be() {
    let object = aya_obj::Object::parse(OBJECT).unwrap();
    let of_aya = |name: &&str| name.starts_with('.') || name.starts_with("AYA_");
    let mut maps: Vec<&str> = object.maps.keys().map(String::as_str).filter(|name| !of_aya(name)).collect();
    maps.sort_unstable();
    let mut expected = [&PINNED[..], &["LISTEN_PORTS", "RECONNECTS"]].concat();
    expected.sort_unstable();
    assert_eq!(maps, expected);
}
