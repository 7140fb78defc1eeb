//! Sets of rules and their numbers, the classes.

use std::collections::HashMap;

use tcpops_common::rule::{CLASS_ALL, CLASS_NONE, RuleMask};

use crate::model::rules::rule_set::Matcher;

/// The sets of rules that accept some value, each once.
pub(crate) struct Classes {
    masks: Vec<RuleMask>,
    numbers: HashMap<RuleMask, u32>,
}

impl Classes {
    /// The classes that every rule set has: [`CLASS_NONE`], and [`CLASS_ALL`] with all `rules`.
    pub(crate) fn new(rules: usize) -> Self {
        let mut all = RuleMask::NONE;
        (0..rules).for_each(|rule| insert(&mut all, rule));
        // CLASS_NONE comes last: without rules both are the same set, and that is its number.
        let numbers = HashMap::from([(all, CLASS_ALL), (RuleMask::NONE, CLASS_NONE)]);
        Self { masks: vec![RuleMask::NONE, all], numbers }
    }

    /// The class of a set. There is no limit here, so that an error can tell how many classes the rules need.
    pub(crate) fn class(&mut self, mask: &RuleMask) -> u32 {
        *self.numbers.entry(*mask).or_insert_with(|| {
            self.masks.push(*mask);
            (self.masks.len() - 1) as u32
        })
    }

    /// The sets by class.
    pub(crate) fn into_masks(self) -> Vec<RuleMask> {
        self.masks
    }
}

/// The rules that do not ask for a dimension, where `values` returns the values that a rule names; `None` if no rule asks
/// for it.
pub(crate) fn asked<'a, T: 'a>(matchers: &[&'a Matcher], values: impl Fn(&'a Matcher) -> &'a [T]) -> Option<RuleMask> {
    matchers
        .iter()
        .any(|matcher| !values(matcher).is_empty())
        .then(|| mask(matchers, |matcher| values(matcher).is_empty()))
}

/// The rules for which `accepts` is true.
pub(crate) fn mask<'a>(matchers: &[&'a Matcher], accepts: impl Fn(&'a Matcher) -> bool) -> RuleMask {
    let mut mask = RuleMask::NONE;
    for (rule, matcher) in matchers.iter().enumerate() {
        if accepts(matcher) {
            insert(&mut mask, rule);
        }
    }
    mask
}

/// Adds a rule to the set.
pub(crate) fn insert(mask: &mut RuleMask, rule: usize) {
    mask.words[rule / 64] |= 1 << (rule % 64);
}

/// Takes a rule out of the set.
pub(crate) fn remove(mask: &mut RuleMask, rule: usize) {
    mask.words[rule / 64] &= !(1 << (rule % 64));
}

/// Adds the rules of another set.
pub(crate) fn unite(mask: &mut RuleMask, other: &RuleMask) {
    mask.words.iter_mut().zip(other.words).for_each(|(word, other)| *word |= other);
}
