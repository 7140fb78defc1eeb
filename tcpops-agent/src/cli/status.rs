//! `tcpops status`: how the agent fares.

use super::context::Context;
use super::exit::{Exit, Failure};
use super::human;
use super::table::fields;
use crate::api::status::Status;

pub(super) const EXAMPLES: &str = "\
The table leaves out counters that are zero; JSON has them all.

Examples:
  tcpops status
  tcpops status -o json | jq .counters";

/// Prints how the agent fares.
///
/// # Errors
/// Those of asking the agent, and of writing.
pub(crate) async fn status(context: &mut Context) -> Result<Exit, Failure> {
    let status = context.client().await?.status().await?;
    context.out.show(&status, status_fields)?;
    Ok(Exit::Done)
}

fn status_fields(status: &Status) -> String {
    let rules = &status.rules;
    let file = rules.file.as_ref().map(|file| format!(", file {file}")).unwrap_or_default();
    let resumed = if status.resumed { ", with the maps of an agent before" } else { "" };
    let mut all = vec![
        ("agent", format!("version {}, pid {}", status.version, status.pid)),
        ("started", format!("{}{resumed}", human::time(status.started))),
        ("kernel", status.kernel.clone()),
        ("cgroup", status.cgroup.clone()),
        ("pins", status.pins.clone()),
        ("connections", format!("{} of at most {}", status.tracked, status.max_connections)),
        ("lifetimes", status.lifetimes.to_string()),
        ("rules", format!("{}, generation {}{file}", rules.count, rules.generation)),
    ];
    all.extend(status.limitations.iter().map(|limitation| ("limitation", limitation.clone())));
    let mut text = fields(all);
    let mut counted = status.counters.iter().filter(|(_, count)| **count != 0).peekable();
    if counted.peek().is_some() {
        text.push_str("counters\n");
        text.push_str(&fields(counted.map(|(name, count)| (format!("  {name}"), count.to_string()))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::RulesStatus;

    #[test]
    fn what_is_amiss_and_what_was_counted() {
        let counters = [("handshakes", 12), ("map_full", 0), ("rule_matched", 3)];
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 1234,
            started: "2026-11-23T00:00:00.25Z".parse().unwrap(),
            kernel: "6.12.30".to_owned(),
            cgroup: "/sys/fs/cgroup".to_owned(),
            pins: "/sys/fs/bpf/tcpops/v1".to_owned(),
            resumed: true,
            tracked: 7,
            max_connections: 1_048_576,
            lifetimes: 2,
            rules: RulesStatus { count: 3, generation: 5, file: Some("/etc/tcpops/rules.toml".to_owned()) },
            counters: counters.map(|(name, count)| (name.to_owned(), count)).into(),
            limitations: vec!["no SOCK_DESTROY: nothing can be closed".to_owned()],
        };
        assert_eq!(
            status_fields(&status),
            "agent        version 0.1.0, pid 1234\n\
             started      2026-11-23T00:00:00Z, with the maps of an agent before\n\
             kernel       6.12.30\n\
             cgroup       /sys/fs/cgroup\n\
             pins         /sys/fs/bpf/tcpops/v1\n\
             connections  7 of at most 1048576\n\
             lifetimes    2\n\
             rules        3, generation 5, file /etc/tcpops/rules.toml\n\
             limitation   no SOCK_DESTROY: nothing can be closed\n\
             counters\n\
             \x20 handshakes    12\n\
             \x20 rule_matched  3\n"
        );
    }
}
