//! Rules as the kernel programs look them up: the first match, at a cost that does not grow with their number.
//!
//! Each rule is a bit in a [`RuleMask`]. Each thing that a rule may ask about (a *dimension*: direction and family, the
//! two addresses, the two ports, uid, cgroup) maps the connection's value to a *class*, and each class to the set of
//! rules that accept it. The rules that match are the intersection of these sets, and the lowest bit is the first of
//! them. Look-ups are one each in a hash, an array or a longest-prefix trie, whether there is one rule or a thousand.
//!
//! The agent compiles rules into this form. There are two slots: one is read, the other is written whole, and then
//! [`RuleIndex::generation`] is raised by one, which switches slots. A program that finds the generation changed after
//! its look-ups repeats them; so no handshake sees half a rule set.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::conn::{Direction, Family, Origin};
use crate::policy::Policy;

/// The most rules in a set.
pub const MAX_RULES: usize = 1024;
/// The words of a [`RuleMask`].
pub const WORDS: usize = MAX_RULES / 64;
/// The slots: one is read while the other is written.
pub const SLOTS: u32 = 2;
/// The most classes of a set, over all dimensions.
pub const MAX_CLASSES: u32 = 8192;
/// The class that no rule accepts.
pub const CLASS_NONE: u32 = 0;
/// The class that every rule accepts.
pub const CLASS_ALL: u32 = 1;
/// The longest name of a rule, bytes.
pub const MAX_NAME: usize = 63;
/// The ports in one [`PortBlock`].
pub const PORT_BLOCK: u32 = 64;
/// The blocks for all ports of one side.
pub const PORT_BLOCKS: u32 = 65_536 / PORT_BLOCK;
/// The bytes of one chunk of `RULE_SOURCE`.
pub const SOURCE_CHUNK: usize = 4096;
/// The chunks of one slot of `RULE_SOURCE`: the text of a rule set may have 1 MiB.
pub const SOURCE_CHUNKS: u32 = 256;
/// The number of levels up the cgroup hierarchy in which a rule's cgroup is looked for.
pub const MAX_CGROUP_DEPTH: u32 = 16;

/// One end of a connection, as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Side {
    /// This host's.
    Local = 0,
    /// The peer's.
    Remote = 1,
}

/// The rules that accept something, a bit for each, the first rule the lowest bit of the first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct RuleMask {
    /// The bits.
    pub words: [u64; WORDS],
}

impl RuleMask {
    /// No rule.
    pub const NONE: Self = Self { words: [0; WORDS] };
    /// Every rule.
    pub const ALL: Self = Self { words: [u64::MAX; WORDS] };
}

/// The one value of `RULE_INDEX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RuleIndex {
    /// Raised by one with each new rule set; its lowest bit is the slot that is read.
    pub generation: u64,
}

/// The dimensions that some rule of the set asks about; the look-ups of the others are saved.
pub mod dimensions {
    /// The local address.
    pub const LOCAL_ADDR: u32 = 1 << 0;
    /// The remote address.
    pub const REMOTE_ADDR: u32 = 1 << 1;
    /// The local port.
    pub const LOCAL_PORT: u32 = 1 << 2;
    /// The remote port.
    pub const REMOTE_PORT: u32 = 1 << 3;
    /// The uid of the socket.
    pub const UID: u32 = 1 << 4;
    /// The cgroup of the socket.
    pub const CGROUP: u32 = 1 << 5;
    /// No dimension: some rule limits how long a handshake may take, so that rules are looked up at connect(2) too.
    pub const CONNECT: u32 = 1 << 6;
    /// No dimension: some rule leaves connections untracked, so that rules are looked up before there is an entry.
    pub const UNTRACKED: u32 = 1 << 7;
}

/// The number of kinds of connection: every direction, family and origin.
pub const KINDS: usize = 16;

/// The index of a kind of connection in [`RuleSet::kind_classes`].
pub const fn kind(direction: Direction, family: Family, origin: Origin) -> usize {
    (direction as usize) << 2 | (family as usize) << 1 | origin as usize
}

/// The things that the rules of one slot have in common: a value of `RULE_SETS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RuleSet {
    /// The number of rules.
    pub rules: u32,
    /// The number of words of a [`RuleMask`] that they take.
    pub words: u32,
    /// [`dimensions`] in use.
    pub dimensions: u32,
    /// The class of a uid that no rule names.
    pub other_uid: u32,
    /// The class of a cgroup that no rule names, nor one above it.
    pub other_cgroup: u32,
    /// The length of the text in `RULE_SOURCE`, bytes.
    pub source_len: u32,
    /// The class of each kind of connection, see [`kind`].
    pub kind_classes: [u32; KINDS],
    /// SHA-256 of the rules file as it was when it was last read; zero if there was none.
    pub file_hash: [u8; 32],
}

/// One rule: a value of `RULES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Rule {
    /// The policy that the rule wants.
    pub policy: Policy,
    /// A number made from the name, so that it stays with it; never zero.
    pub id: u32,
    /// 1: the connections that match get no entry; 0: they are tracked.
    pub untracked: u32,
    /// The name, UTF-8, padded with zeros.
    pub name: [u8; MAX_NAME + 1],
}

/// The classes of consecutive ports: a value of `RULE_PORTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PortBlock {
    /// The class of each port.
    pub classes: [u16; PORT_BLOCK as usize],
}

/// The index of the block with `port` in `RULE_PORTS`.
pub const fn port_block(slot: u32, side: Side, port: u16) -> u32 {
    (slot * 2 + side as u32) * PORT_BLOCKS + port as u32 / PORT_BLOCK
}

/// The data of a key of `RULE_ADDRS`, after the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct AddrKey {
    /// The slot.
    pub slot: u8,
    /// A [`Side`].
    pub side: u8,
    /// Explicit padding; part of the prefix.
    pub pad: [u8; 2],
    /// The address, sixteen bytes.
    pub address: [u8; 16],
}

/// The bits of an [`AddrKey`] that come before the address.
pub const ADDR_KEY_PREFIX: u32 = 32;

/// The kind of a key of `RULE_KEYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum KeyKind {
    /// A uid.
    Uid = 0,
    /// A cgroup id.
    Cgroup = 1,
}

/// A key of `RULE_KEYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct RuleKey {
    /// The slot.
    pub slot: u32,
    /// A [`KeyKind`].
    pub kind: u32,
    /// The uid or the cgroup id.
    pub value: u64,
}
