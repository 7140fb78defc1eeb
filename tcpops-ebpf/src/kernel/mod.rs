//! The only code that the compiler cannot check and the verifier must: contexts, helpers, pointers from the kernel.

pub(crate) mod atomic;
pub(crate) mod candidate;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod follow;
pub(crate) mod iter;
pub(crate) mod maps;
pub(crate) mod options;
pub(crate) mod ring;
pub(crate) mod slots;
pub(crate) mod socket;
pub(crate) mod sockops;
pub(crate) mod sockopt;
pub(crate) mod storage;
pub(crate) mod table;
pub(crate) mod tags;
