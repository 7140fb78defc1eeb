//! Sets of rules, and the numbers that stand for them.

use std::collections::HashMap;

use tcpops_common::rule::{CLASS_ALL, CLASS_NONE, RuleMask};

use crate::model::rules::rule_set::Matcher;

/// The sets of rules that some value is accepted by, each once.
pub(crate) struct Classes {
    masks: Vec<RuleMask>,
    numbers: HashMap<RuleMask, u32>,
}

impl Classes {
    /// Those that every rule set has, [`CLASS_NONE`] and [`CLASS_ALL`]; the latter of the rules that there are.
    pub(crate) fn new(rules: usize) -> Self {
        let mut all = RuleMask::NONE;
        (0..rules).for_each(|rule| insert(&mut all, rule));
        // In this order: where there are no rules, both are the same set, and its number is CLASS_NONE.
        let numbers = HashMap::from([(all, CLASS_ALL), (RuleMask::NONE, CLASS_NONE)]);
        Self { masks: vec![RuleMask::NONE, all], numbers }
    }

    /// The number of a set. There is no limit here, so that the error can say how many would be needed.
    pub(crate) fn class(&mut self, mask: &RuleMask) -> u32 {
        *self.numbers.entry(*mask).or_insert_with(|| {
            self.masks.push(*mask);
            (self.masks.len() - 1) as u32
        })
    }

    /// The sets, by number.
    pub(crate) fn into_masks(self) -> Vec<RuleMask> {
        self.masks
    }
}

/// The rules that ask nothing about a dimension, of which `values` gives the values that a rule names; `None` if that
/// is every rule, so that the dimension is of no account.
pub(crate) fn asked<'a, T: 'a>(matchers: &[&'a Matcher], values: impl Fn(&'a Matcher) -> &'a [T]) -> Option<RuleMask> {
    matchers
        .iter()
        .any(|matcher| !values(matcher).is_empty())
        .then(|| mask(matchers, |matcher| values(matcher).is_empty()))
}

/// The rules that `accepts` is true of.
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
