//! What is told of a run: on the terminal, and as files.

pub(crate) mod document;
pub(crate) mod machine;
pub(crate) mod run;
pub(crate) mod table;

mod plot;
