//! `tcpops status`: prints the state of the agent.

use super::context::Context;
use super::exit::{Exit, Failure};
use super::human::{self, NOTHING};
use super::table::fields;
use crate::api::status::{Follow, GuardStatus, Status, UnreachableNamespace};

pub(crate) const EXAMPLES: &str = "\
The table leaves out counters that are zero; JSON has them all.

Examples:
  tcpops status
  tcpops status -o json | jq .counters";

pub(crate) async fn status(context: &mut Context) -> Result<Exit, Failure> {
    let status = context.client().await?.status().await?;
    context.out.show(&status, status_fields)?;
    Ok(Exit::Done)
}

/// The way in which adopted connections are followed.
fn follow(follow: Follow) -> &'static str {
    match follow {
        Follow::Callbacks => "callbacks",
        Follow::Tracepoint => "tracepoint",
    }
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
        ("follow", follow(status.follow).to_owned()),
        ("connections", format!("{} of at most {}", status.tracked, status.max_connections)),
        ("lifetimes", status.lifetimes.to_string()),
        ("rules", format!("{}, generation {}{file}", rules.count, rules.generation)),
    ];
    all.extend(guard(&status.guard).map(|guard| ("guard", guard)));
    all.extend(status.unreachable.iter().map(|namespace| ("unreachable", unreachable_line(namespace))));
    all.extend(status.limitations.iter().map(|limitation| ("limitation", limitation.clone())));
    let mut text = fields(all);
    for (title, counts) in [("counters", &status.counters), ("agent counters", &status.agent_counters)] {
        let mut counted = counts.iter().filter(|(_, count)| **count != 0).peekable();
        if counted.peek().is_some() {
            text.push_str(&format!("{title}\n"));
            text.push_str(&fields(counted.map(|(name, count)| (format!("  {name}"), count.to_string()))));
        }
    }
    text
}

/// The bounds of the guard and the closes that wait for them; none where it has no bounds.
fn guard(guard: &GuardStatus) -> Option<String> {
    let bounds = human::join(
        [
            guard.closes_per_second.map(|budget| format!("{budget} closes in a second")),
            guard.percent_per_minute.map(|percent| format!("{percent}% of the connections by each rule in a minute")),
        ],
        ", ",
    );
    (!bounds.is_empty()).then(|| format!("{bounds}; {} wait", guard.waiting))
}

fn unreachable_line(namespace: &UnreachableNamespace) -> String {
    let UnreachableNamespace { netns_cookie, place, why } = namespace;
    let name = match (netns_cookie, place) {
        (Some(cookie), _) => format!("with cookie {cookie}"),
        (None, Some(place)) => place.clone(),
        (None, None) => NOTHING.to_owned(),
    };
    format!("network namespace {name}: {why}")
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
            pins: "/sys/fs/bpf/tcpops/v2".to_owned(),
            resumed: true,
            follow: Follow::Tracepoint,
            tracked: 7,
            max_connections: 1_048_576,
            lifetimes: 2,
            rules: RulesStatus { count: 3, generation: 5, file: Some("/etc/tcpops/rules.toml".to_owned()) },
            counters: counters.map(|(name, count)| (name.to_owned(), count)).into(),
            guard: GuardStatus {
                closes_per_second: Some(100),
                percent_per_minute: Some(20),
                waiting: 4,
                ..GuardStatus::default()
            },
            agent_counters: [("expired_reset".to_owned(), 2), ("not_closable".to_owned(), 0)].into(),
            unreachable: vec![
                UnreachableNamespace { netns_cookie: Some(4407), place: None, why: "nothing leads there".to_owned() },
                UnreachableNamespace {
                    netns_cookie: None,
                    place: Some("/run/netns/blue".to_owned()),
                    why: "setns: Operation not permitted".to_owned(),
                },
            ],
            limitations: vec!["no SOCK_DESTROY: nothing can be closed".to_owned()],
        };
        assert_eq!(
            status_fields(&status),
            "agent        version 0.1.0, pid 1234\n\
             started      2026-11-23T00:00:00Z, with the maps of an agent before\n\
             kernel       6.12.30\n\
             cgroup       /sys/fs/cgroup\n\
             pins         /sys/fs/bpf/tcpops/v2\n\
             follow       tracepoint\n\
             connections  7 of at most 1048576\n\
             lifetimes    2\n\
             rules        3, generation 5, file /etc/tcpops/rules.toml\n\
             guard        100 closes in a second, 20% of the connections by each rule in a minute; 4 wait\n\
             unreachable  network namespace with cookie 4407: nothing leads there\n\
             unreachable  network namespace /run/netns/blue: setns: Operation not permitted\n\
             limitation   no SOCK_DESTROY: nothing can be closed\n\
             counters\n\
             \x20 handshakes    12\n\
             \x20 rule_matched  3\n\
             agent counters\n\
             \x20 expired_reset  2\n"
        );
    }
}
