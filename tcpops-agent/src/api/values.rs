//! Values as people write them: in a rules file, in a request, behind a flag.
//!
//! Each type refuses what it cannot be in one sentence, "expected …, found …". It does so during deserialization, so
//! that the parser adds line and column.

mod dates;
mod lists;
mod names;
mod net;
mod numbers;
mod percent;
pub(crate) mod read;
mod switch;
mod time;
pub(crate) mod words;

pub(crate) use dates::{Deadline, time};
pub(crate) use lists::OneOrMany;
pub(crate) use names::{CgroupPath, RuleName};
pub(crate) use net::{Cidr, Ports};
pub(crate) use numbers::{
    JitterPercent, KeepaliveCount, KeepaliveSeconds, LifetimeSeconds, ProbeSeconds, Rate, Uid, UserTimeoutMs,
};
pub(crate) use percent::{Jitter, Share};
pub(crate) use read::{Found, ValueError, Written, present, read};
pub(crate) use switch::{Switch, Switchable};
pub(crate) use time::{KeepaliveTime, LifetimeDuration, UserTimeout};
pub(crate) use words::{Direction, Family, Manner, Mode, Origin, State};
