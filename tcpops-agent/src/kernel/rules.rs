//! Writing the rule maps: the slot that is not in force first, then the switch.

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use tcpops_common::maps::{RULE_ADDRS, RULE_INDEX, RULE_KEYS, RULE_MASKS, RULE_PORTS, RULE_SETS, RULE_SOURCE, RULES};
use tcpops_common::rule::{
    AddrKey, MAX_CLASSES, MAX_RULES, PORT_BLOCK, PORT_BLOCKS, PortBlock, Rule, RuleIndex, RuleKey, RuleMask, RuleSet,
    SOURCE_CHUNK, SOURCE_CHUNKS, WORDS,
};

use crate::kernel::error::{KernelError, Result};
use crate::kernel::pins::Pins;

/// The most bytes that the text of a rule set takes.
pub(crate) const MAX_SOURCE: usize = SOURCE_CHUNK * SOURCE_CHUNKS as usize;

/// A rule set in the form of the maps, for one slot.
#[derive(Clone, Debug)]
pub(crate) struct RuleTables {
    /// The header; the length of the source is filled in when it is written.
    pub(crate) set: RuleSet,
    /// The rules in order.
    pub(crate) rules: Vec<Rule>,
    /// The rules that accept each class.
    pub(crate) masks: Vec<RuleMask>,
    /// The classes of all local ports, then of all remote ones, where some rule asks for ports.
    pub(crate) ports: Vec<PortBlock>,
    /// The class of each prefix; the length counts the bits of the key before the address.
    pub(crate) addrs: Vec<(u32, AddrKey, u32)>,
    /// The class of each uid and cgroup.
    pub(crate) keys: Vec<(RuleKey, u32)>,
    /// The text that the next agent reads, at most [`MAX_SOURCE`] bytes.
    pub(crate) source: Vec<u8>,
}

/// The rule maps.
pub(crate) struct Rules {
    index: Array<MapData, [u8; size_of::<RuleIndex>()]>,
    sets: Array<MapData, [u8; size_of::<RuleSet>()]>,
    rules: Array<MapData, [u8; size_of::<Rule>()]>,
    masks: Array<MapData, [u64; WORDS]>,
    ports: Array<MapData, [u16; PORT_BLOCK as usize]>,
    addrs: LpmTrie<MapData, [u8; size_of::<AddrKey>()], u32>,
    keys: HashMap<MapData, [u8; size_of::<RuleKey>()], u32>,
    source: Array<MapData, [u8; SOURCE_CHUNK]>,
}

impl Rules {
    /// Opens the maps.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            index: pins.map(RULE_INDEX)?,
            sets: pins.map(RULE_SETS)?,
            rules: pins.map(RULES)?,
            masks: pins.map(RULE_MASKS)?,
            ports: pins.map(RULE_PORTS)?,
            addrs: pins.map(RULE_ADDRS)?,
            keys: pins.map(RULE_KEYS)?,
            source: pins.map(RULE_SOURCE)?,
        })
    }

    /// Which slot is in force.
    pub(crate) fn index(&self) -> Result<RuleIndex> {
        Ok(bytemuck::must_cast(self.index.get(&0, 0).map_err(KernelError::map(RULE_INDEX))?))
    }

    /// The slot to write next.
    pub(crate) fn free_slot(&self) -> Result<u32> {
        Ok(slot_of(self.index()?.generation + 1))
    }

    /// The header of the rules in force.
    pub(crate) fn set(&self) -> Result<RuleSet> {
        let slot = slot_of(self.index()?.generation);
        Ok(bytemuck::must_cast(self.sets.get(&slot, 0).map_err(KernelError::map(RULE_SETS))?))
    }

    /// The text of the rules in force.
    pub(crate) fn source(&self) -> Result<Vec<u8>> {
        let slot = slot_of(self.index()?.generation);
        let length = self.set()?.source_len as usize;
        let mut text = Vec::with_capacity(length);
        for chunk in 0..(length.div_ceil(SOURCE_CHUNK) as u32).min(SOURCE_CHUNKS) {
            let index = slot * SOURCE_CHUNKS + chunk;
            text.extend(self.source.get(&index, 0).map_err(KernelError::map(RULE_SOURCE))?);
        }
        text.truncate(length);
        Ok(text)
    }

    /// Writes a rule set into the free slot, for which it was made, and puts it in force. On an error the rules in
    /// force are what they were.
    pub(crate) fn replace(&mut self, tables: &RuleTables) -> Result<RuleIndex> {
        let before = self.index()?;
        let generation = before.generation + 1;
        let slot = slot_of(generation);
        self.clear(slot)?;
        for (key, class) in &tables.keys {
            let key: [u8; size_of::<RuleKey>()] = bytemuck::must_cast(*key);
            self.keys.insert(key, class, 0).map_err(KernelError::map(RULE_KEYS))?;
        }
        for (prefix_len, key, class) in &tables.addrs {
            let key = Key::new(*prefix_len, bytemuck::must_cast(*key));
            self.addrs.insert(&key, class, 0).map_err(KernelError::map(RULE_ADDRS))?;
        }
        for (index, block) in (slot * 2 * PORT_BLOCKS..).zip(&tables.ports) {
            self.ports.set(index, block.classes, 0).map_err(KernelError::map(RULE_PORTS))?;
        }
        for (index, mask) in (slot * MAX_CLASSES..).zip(&tables.masks) {
            self.masks.set(index, mask.words, 0).map_err(KernelError::map(RULE_MASKS))?;
        }
        for (index, rule) in (slot * MAX_RULES as u32..).zip(&tables.rules) {
            let rule: [u8; size_of::<Rule>()] = bytemuck::must_cast(*rule);
            self.rules.set(index, rule, 0).map_err(KernelError::map(RULES))?;
        }
        for (index, chunk) in (slot * SOURCE_CHUNKS..).zip(tables.source.chunks(SOURCE_CHUNK)) {
            let mut padded = [0; SOURCE_CHUNK];
            padded[..chunk.len()].copy_from_slice(chunk);
            self.source.set(index, padded, 0).map_err(KernelError::map(RULE_SOURCE))?;
        }
        let set = RuleSet { source_len: tables.source.len() as u32, ..tables.set };
        let set: [u8; size_of::<RuleSet>()] = bytemuck::must_cast(set);
        self.sets.set(slot, set, 0).map_err(KernelError::map(RULE_SETS))?;
        let index = RuleIndex { generation };
        let bytes: [u8; size_of::<RuleIndex>()] = bytemuck::must_cast(index);
        self.index.set(0, bytes, 0).map_err(KernelError::map(RULE_INDEX))?;
        Ok(index)
    }

    /// Removes what an earlier set left in the hashes of the slot; the arrays are overwritten as far as they are used.
    fn clear(&mut self, slot: u32) -> Result<()> {
        let keys: Vec<_> =
            self.keys.keys().collect::<std::result::Result<_, _>>().map_err(KernelError::map(RULE_KEYS))?;
        for key in keys {
            if bytemuck::must_cast::<_, RuleKey>(key).slot == slot {
                self.keys.remove(&key).map_err(KernelError::map(RULE_KEYS))?;
            }
        }
        let addrs: Vec<_> =
            self.addrs.keys().collect::<std::result::Result<_, _>>().map_err(KernelError::map(RULE_ADDRS))?;
        for key in addrs {
            if u32::from(bytemuck::must_cast::<_, AddrKey>(key.data()).slot) == slot {
                self.addrs.remove(&key).map_err(KernelError::map(RULE_ADDRS))?;
            }
        }
        Ok(())
    }
}

fn slot_of(generation: u64) -> u32 {
    (generation & 1) as u32
}
