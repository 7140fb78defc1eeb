//! The sizes at the border, asserted when this is compiled; a test compares them with the BTF of the built object.

use core::mem::{offset_of, size_of};

use crate::conn::{ConnKey, Connection};
use crate::event::{Event, Summary};
use crate::policy::{Lifetime, Options, Policy, SocketOptions};
use crate::probe::Probe;
use crate::rule::{AddrKey, PortBlock, Rule, RuleIndex, RuleKey, RuleMask, RuleSet};
use crate::settings::Settings;
use crate::slots::ConidSlot;

const _: () = {
    assert!(size_of::<ConnKey>() == 16);
    assert!(size_of::<Options>() == 12);
    assert!(size_of::<SocketOptions>() == 12);
    assert!(size_of::<Lifetime>() == 24);
    assert!(size_of::<Policy>() == 48);
    // 48 bytes of the kernel's hash element, the key, and this stay within one 256-byte slab object.
    assert!(size_of::<Connection>() == 184);
    assert!(offset_of!(Connection, state) == 80);
    assert!(offset_of!(Connection, policy) == 88);
    assert!(offset_of!(Connection, original) == 136);
    assert!(offset_of!(Connection, applied_boot_ns) == 160);
    assert!(size_of::<Summary>() == 32);
    assert!(size_of::<Event>() == 256);
    assert!(size_of::<ConidSlot>() == 16);
    assert!(size_of::<Probe>() == 24);
    assert!(size_of::<RuleMask>() == 128);
    assert!(size_of::<RuleIndex>() == 8);
    assert!(size_of::<RuleSet>() == 120);
    assert!(size_of::<Rule>() == 120);
    assert!(size_of::<PortBlock>() == 128);
    assert!(size_of::<AddrKey>() == 20);
    assert!(size_of::<RuleKey>() == 16);
    assert!(size_of::<Settings>() == 136);
};
