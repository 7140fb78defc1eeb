//! Ports: an array has the class of each of the 65536.

use core::ops::RangeInclusive;
use std::collections::BTreeMap;

use tcpops_common::rule::{MAX_CLASSES, PORT_BLOCK, PORT_BLOCKS, PortBlock};

use super::classes::{Classes, asked, insert, remove};
use crate::model::rules::rule_set::Matcher;

const PORTS: u32 = PORT_BLOCKS * PORT_BLOCK;

/// A class and the first port that has it; the segment ends where the next one begins.
pub(crate) struct Segment {
    first: u32,
    class: u32,
}

/// The classes from port 0 upward; `None` if no rule asks for ports.
pub(crate) fn segments<'a>(
    matchers: &[&'a Matcher],
    ranges: impl Fn(&'a Matcher) -> &'a [RangeInclusive<u16>],
    classes: &mut Classes,
) -> Option<Vec<Segment>> {
    let mut mask = asked(matchers, &ranges)?;
    // The rules for which a range begins at a port (+1) or ended at the port before (-1).
    let mut changes: BTreeMap<u32, Vec<(usize, i32)>> = BTreeMap::from([(0, Vec::new())]);
    for (rule, matcher) in matchers.iter().enumerate() {
        for range in ranges(matcher).iter().filter(|range| !range.is_empty()) {
            changes.entry((*range.start()).into()).or_default().push((rule, 1));
            changes.entry(u32::from(*range.end()) + 1).or_default().push((rule, -1));
        }
    }
    // How many ranges of each rule hold the port: they may overlap.
    let mut depths = vec![0; matchers.len()];
    let mut segments = Vec::new();
    for (port, changes) in changes.into_iter().filter(|(port, _)| *port < PORTS) {
        for (rule, change) in changes {
            depths[rule] += change;
            if depths[rule] > 0 { insert(&mut mask, rule) } else { remove(&mut mask, rule) }
        }
        segments.push(Segment { first: port, class: classes.class(&mask) });
    }
    Some(segments)
}

/// The values of the array: all blocks of both sides, so that a block's place follows from side and port; empty where no
/// rule asks for ports.
pub(crate) fn blocks(sides: [Option<Vec<Segment>>; 2]) -> Vec<PortBlock> {
    if sides.iter().all(Option::is_none) {
        return Vec::new();
    }
    let mut blocks = vec![PortBlock { classes: [0; PORT_BLOCK as usize] }; sides.len() * PORT_BLOCKS as usize];
    for (segments, blocks) in sides.iter().zip(blocks.chunks_mut(PORT_BLOCKS as usize)) {
        let segments = segments.as_deref().unwrap_or_default();
        let ends = segments.iter().skip(1).map(|next| next.first).chain([PORTS]);
        for (segment, end) in segments.iter().zip(ends) {
            let class = u16::try_from(segment.class).expect("compile refuses more classes than MAX_CLASSES first");
            for port in segment.first..end {
                blocks[(port / PORT_BLOCK) as usize].classes[(port % PORT_BLOCK) as usize] = class;
            }
        }
    }
    blocks
}

const _: () = assert!(MAX_CLASSES <= u16::MAX as u32, "a class fits into a PortBlock");
