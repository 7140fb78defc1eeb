//! The rule maps: a rule set is written to the slot that is not in force, which is then switched to.

use bytemuck::{Pod, Zeroable};
use tcpops_common::maps::{RULE_ADDRS, RULE_INDEX, RULE_KEYS, RULE_MASKS, RULE_PORTS, RULE_SETS, RULE_SOURCE, RULES};
use tcpops_common::rule::{
    AddrKey, MAX_CLASSES, MAX_RULES, PORT_BLOCKS, PortBlock, Rule, RuleIndex, RuleKey, RuleMask, RuleSet, SOURCE_CHUNK,
    SOURCE_CHUNKS,
};

use crate::kernel::error::Result;
use crate::kernel::pins::Pins;
use crate::kernel::table::{SeldomTable, Table};

/// The most bytes of the text of a rule set.
pub(crate) const MAX_SOURCE: usize = SOURCE_CHUNK * SOURCE_CHUNKS as usize;

/// A rule set in the form of the maps, for one slot.
#[derive(Clone, Debug)]
pub(crate) struct RuleTables {
    /// The header; [`Rules::replace`] fills in the length of the source.
    pub(crate) set: RuleSet,
    /// The rules, in order.
    pub(crate) rules: Vec<Rule>,
    /// For each class, the rules that accept it.
    pub(crate) masks: Vec<RuleMask>,
    /// The classes of all local ports, then of all remote ports; empty if no rule asks for ports.
    pub(crate) ports: Vec<PortBlock>,
    /// The length, the key and the class of each prefix; the length includes the bits of the key before the address.
    pub(crate) addrs: Vec<(u32, AddrKey, u32)>,
    /// The class of each uid and cgroup.
    pub(crate) keys: Vec<(RuleKey, u32)>,
    /// The text for the next agent, at most [`MAX_SOURCE`] bytes.
    pub(crate) source: Vec<u8>,
}

/// A prefix of `RULE_ADDRS`, as the kernel wants the key of a trie.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct AddrPrefix {
    /// Its length in bits.
    length: u32,
    data: AddrKey,
}

pub(crate) struct Rules {
    index: SeldomTable<u32, RuleIndex>,
    sets: SeldomTable<u32, RuleSet>,
    rules: SeldomTable<u32, Rule>,
    masks: SeldomTable<u32, RuleMask>,
    ports: SeldomTable<u32, PortBlock>,
    addrs: SeldomTable<AddrPrefix, u32>,
    keys: SeldomTable<RuleKey, u32>,
    /// No kernel program uses it: the descriptor keeps it where its pin is removed.
    source: Table<u32, [u8; SOURCE_CHUNK]>,
}

impl Rules {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            index: SeldomTable::find(pins, RULE_INDEX)?,
            sets: SeldomTable::find(pins, RULE_SETS)?,
            rules: SeldomTable::find(pins, RULES)?,
            masks: SeldomTable::find(pins, RULE_MASKS)?,
            ports: SeldomTable::find(pins, RULE_PORTS)?,
            addrs: SeldomTable::find(pins, RULE_ADDRS)?,
            keys: SeldomTable::find(pins, RULE_KEYS)?,
            source: Table::open(pins, RULE_SOURCE)?,
        })
    }

    /// The slot in force.
    pub(crate) fn index(&self) -> Result<RuleIndex> {
        self.index.open()?.at(0)
    }

    /// The slot to write next.
    pub(crate) fn free_slot(&self) -> Result<u32> {
        Ok(slot_of(self.index()?.generation + 1))
    }

    /// The header of the rules in force.
    pub(crate) fn set(&self) -> Result<RuleSet> {
        self.sets.open()?.at(slot_of(self.index()?.generation))
    }

    /// The text of the rules in force.
    pub(crate) fn source(&self) -> Result<Vec<u8>> {
        let slot = slot_of(self.index()?.generation);
        let length = self.set()?.source_len as usize;
        let mut text = Vec::with_capacity(length);
        for chunk in 0..(length.div_ceil(SOURCE_CHUNK) as u32).min(SOURCE_CHUNKS) {
            text.extend(self.source.at(slot * SOURCE_CHUNKS + chunk)?);
        }
        text.truncate(length);
        Ok(text)
    }

    /// Writes a rule set into the free slot, for which it was made, and puts it in force. On an error the rules in
    /// force are what they were.
    pub(crate) fn replace(&self, tables: &RuleTables) -> Result<RuleIndex> {
        let generation = self.index()?.generation + 1;
        let slot = slot_of(generation);
        let (keys, addrs) = (self.keys.open()?, self.addrs.open()?);
        clear(&keys, &addrs, slot)?;
        for (key, class) in &tables.keys {
            keys.put(*key, class)?;
        }
        for (length, data, class) in &tables.addrs {
            addrs.put(AddrPrefix { length: *length, data: *data }, class)?;
        }
        let ports = self.ports.open()?;
        for (index, block) in (slot * 2 * PORT_BLOCKS..).zip(&tables.ports) {
            ports.put(index, block)?;
        }
        let masks = self.masks.open()?;
        for (index, mask) in (slot * MAX_CLASSES..).zip(&tables.masks) {
            masks.put(index, mask)?;
        }
        let rules = self.rules.open()?;
        for (index, rule) in (slot * MAX_RULES as u32..).zip(&tables.rules) {
            rules.put(index, rule)?;
        }
        for (index, chunk) in (slot * SOURCE_CHUNKS..).zip(tables.source.chunks(SOURCE_CHUNK)) {
            let mut padded = [0; SOURCE_CHUNK];
            padded[..chunk.len()].copy_from_slice(chunk);
            self.source.put(index, &padded)?;
        }
        self.sets.open()?.put(slot, &RuleSet { source_len: tables.source.len() as u32, ..tables.set })?;
        let index = RuleIndex { generation };
        self.index.open()?.put(0, &index)?;
        Ok(index)
    }
}

/// Removes what an earlier set left in the hash and the trie of the slot; the arrays are overwritten as far as they are used.
fn clear(keys: &Table<RuleKey, u32>, addrs: &Table<AddrPrefix, u32>, slot: u32) -> Result<()> {
    let mut old_keys = keys.keys()?.into_iter().filter(|key| key.slot == slot);
    old_keys.try_for_each(|key| keys.remove(key))?;
    let mut old_addrs = addrs.keys()?.into_iter().filter(|prefix| u32::from(prefix.data.slot) == slot);
    old_addrs.try_for_each(|prefix| addrs.remove(prefix))
}

fn slot_of(generation: u64) -> u32 {
    (generation & 1) as u32
}
