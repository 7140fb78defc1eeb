//! The rows of the table, and which scene measures them.

use anyhow::{Result, bail};

use crate::bench::context::Context;
use crate::bench::figure::Figure;
use crate::bench::scenes::{
    agent_cpu, churn, close_burst, close_lateness, data, event_latency, kernel_time, lookup, open, rest,
};

/// A row: what is measured, in words.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) id: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
}

/// Every row, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    Row { id: "churn-rules", about: "connect, accept, close: rate with ten rules, against no agent; and others" },
    Row { id: "churn-watch", about: "connect, accept, close: rate with an agent that only watches, against no agent" },
    Row { id: "churn-untracked", about: "connect, accept, close: rate with `track = false`, against no agent" },
    Row { id: "kernel-time", about: "time of all kernel programs in one socket's life" },
    Row { id: "handshake-latency", about: "connect and accept: p99 against no agent" },
    Row { id: "agent-cpu", about: "processor time of the agent at 10,000 connections a second" },
    Row { id: "rules-1000", about: "handshake with 1,000 rules against one" },
    Row { id: "change-fd", about: "keepalive of an open connection, by its program's descriptor" },
    Row { id: "change-conid", about: "keepalive of an open connection, by its conid" },
    Row { id: "lookup-endpoints", about: "finding a connection by its endpoint" },
    Row { id: "rules-change", about: "other rules for all open connections" },
    Row { id: "start", about: "start over open connections, five options each" },
    Row { id: "close-burst", about: "closing many that are due at one instant" },
    Row { id: "close-lateness", about: "how late connections are closed, at 1,000 a second" },
    Row { id: "list-all", about: "all open connections as NDJSON, and the agent's memory meanwhile" },
    Row { id: "pages", about: "all open connections, page by page" },
    Row { id: "memory", about: "memory of a tracked connection, in the kernel and in the agent" },
    Row { id: "rest", about: "an agent with nothing to do: memory, wake-ups" },
    Row { id: "event-latency", about: "from a connection's end until a reader has the event" },
    Row { id: "data", about: "open connections: throughput and responses, against no agent" },
    Row { id: "setsockopt", about: "setsockopt(2) of an option that is none of the agent's, against no agent" },
];

/// Measures the rows that are wanted of those that it knows.
type Measure = fn(&Context, &[&'static str]) -> Result<Vec<Figure>>;

/// Every scene: the rows that it measures, and how.
pub(crate) const SCENES: &[(&[&str], Measure)] = &[
    (&churn::ROWS, churn::run),
    (&kernel_time::ROWS, kernel_time::run),
    (&agent_cpu::ROWS, agent_cpu::run),
    (&open::ROWS, open::run),
    (&lookup::ROWS, lookup::run),
    (&close_burst::ROWS, close_burst::run),
    (&close_lateness::ROWS, close_lateness::run),
    (&rest::ROWS, rest::run),
    (&event_latency::ROWS, event_latency::run),
    (&data::ROWS, data::run),
];

/// The ids of the rows that are asked for: all of them where none is.
///
/// # Errors
/// There is no such row.
pub(crate) fn wanted(asked: &[String]) -> Result<Vec<&'static str>> {
    for name in asked {
        if ROWS.iter().all(|row| row.id != name) {
            bail!("there is no row {name:?}; there are:\n{}", list());
        }
    }
    let is_wanted = |row: &&Row| asked.is_empty() || asked.iter().any(|name| name == row.id);
    Ok(ROWS.iter().filter(is_wanted).map(|row| row.id).collect())
}

/// All rows, one a line.
pub(crate) fn list() -> String {
    ROWS.iter().map(|row| format!("  {:18} {}\n", row.id, row.about)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_one_scene() {
        for row in ROWS {
            let scenes = SCENES.iter().filter(|(rows, _)| rows.contains(&row.id)).count();
            assert_eq!(scenes, 1, "{}", row.id);
        }
        assert_eq!(SCENES.iter().map(|(rows, _)| rows.len()).sum::<usize>(), ROWS.len());
    }

    #[test]
    fn an_unknown_row_is_refused_with_the_list() {
        let error = wanted(&["nothing".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("churn-rules"), "{error}");
    }
}
