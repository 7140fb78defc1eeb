//! The rule maps: a rule set is written to the slot that is not in force, which is then switched to.

use bytemuck::{Pod, Zeroable};
use tcpops_common::maps::{RULE_ADDRS, RULE_INDEX, RULE_KEYS, RULE_MASKS, RULE_PORTS, RULE_SETS, RULE_SOURCE, RULES};
use tcpops_common::rule::{
    AddrKey, MAX_CLASSES, MAX_RULES, PORT_BLOCKS, PortBlock, Rule, RuleIndex, RuleKey, RuleMask, RuleSet, SOURCE_CHUNK,
    SOURCE_CHUNKS,
};

use crate::kernel::error::Result;
use crate::kernel::pins::Pins;
use crate::kernel::table::Table;

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
    index: Table<u32, RuleIndex>,
    sets: Table<u32, RuleSet>,
    rules: Table<u32, Rule>,
    masks: Table<u32, RuleMask>,
    ports: Table<u32, PortBlock>,
    addrs: Table<AddrPrefix, u32>,
    keys: Table<RuleKey, u32>,
    source: Table<u32, [u8; SOURCE_CHUNK]>,
}

impl Rules {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            index: Table::open(pins, RULE_INDEX)?,
            sets: Table::open(pins, RULE_SETS)?,
            rules: Table::open(pins, RULES)?,
            masks: Table::open(pins, RULE_MASKS)?,
            ports: Table::open(pins, RULE_PORTS)?,
            addrs: Table::open(pins, RULE_ADDRS)?,
            keys: Table::open(pins, RULE_KEYS)?,
            source: Table::open(pins, RULE_SOURCE)?,
        })
    }

    /// The slot in force.
    pub(crate) fn index(&self) -> Result<RuleIndex> {
        self.index.at(0)
    }

    /// The slot to write next.
    pub(crate) fn free_slot(&self) -> Result<u32> {
        Ok(slot_of(self.index()?.generation + 1))
    }

    /// The header of the rules in force.
    pub(crate) fn set(&self) -> Result<RuleSet> {
        self.sets.at(slot_of(self.index()?.generation))
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
        self.clear(slot)?;
        for (key, class) in &tables.keys {
            self.keys.put(*key, class)?;
        }
        for (length, data, class) in &tables.addrs {
            self.addrs.put(AddrPrefix { length: *length, data: *data }, class)?;
        }
        for (index, block) in (slot * 2 * PORT_BLOCKS..).zip(&tables.ports) {
            self.ports.put(index, block)?;
        }
        for (index, mask) in (slot * MAX_CLASSES..).zip(&tables.masks) {
            self.masks.put(index, mask)?;
        }
        for (index, rule) in (slot * MAX_RULES as u32..).zip(&tables.rules) {
            self.rules.put(index, rule)?;
        }
        for (index, chunk) in (slot * SOURCE_CHUNKS..).zip(tables.source.chunks(SOURCE_CHUNK)) {
            let mut padded = [0; SOURCE_CHUNK];
            padded[..chunk.len()].copy_from_slice(chunk);
            self.source.put(index, &padded)?;
        }
        self.sets.put(slot, &RuleSet { source_len: tables.source.len() as u32, ..tables.set })?;
        let index = RuleIndex { generation };
        self.index.put(0, &index)?;
        Ok(index)
    }

    /// Removes what an earlier set left in the hash and the trie of the slot; the arrays are overwritten as far as they are
    /// used.
    fn clear(&self, slot: u32) -> Result<()> {
        let mut keys = self.keys.keys()?.into_iter().filter(|key| key.slot == slot);
        keys.try_for_each(|key| self.keys.remove(key))?;
        let mut addrs = self.addrs.keys()?.into_iter().filter(|prefix| u32::from(prefix.data.slot) == slot);
        addrs.try_for_each(|prefix| self.addrs.remove(prefix))
    }
}

fn slot_of(generation: u64) -> u32 {
    (generation & 1) as u32
}
