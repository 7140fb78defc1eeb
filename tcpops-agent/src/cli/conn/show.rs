//! `tcpops conn show`.

use clap::Args;

use super::row::keepalive;
use crate::api::connections::{ApplyResult, ConnectionDetail, TcpInfo};
use crate::api::keepalive::SocketOptions;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::human::{self, NOTHING};
use crate::cli::id::Id;
use crate::cli::table::fields;

/// The arguments of `conn show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    id: Id,
}

impl ShowArgs {
    /// Prints the connection.
    pub(super) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let detail = context.client().await?.connection(&self.id.id).await?;
        context.out.show(&detail, |detail| fields(lines(detail)))?;
        Ok(Exit::Done)
    }
}

fn lines(detail: &ConnectionDetail) -> Vec<(&'static str, String)> {
    let connection = &detail.connection;
    let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| NOTHING.to_owned());
    let mut lines = vec![
        ("conid", connection.conid.to_string()),
        ("cookie", connection.cookie.to_string()),
        ("state", format!("{}, for {}", connection.state, human::age(connection.state_seconds))),
        ("code", format!("{} {}", detail.code, detail.code_name)),
        ("direction", connection.direction.clone()),
        ("origin", connection.origin.clone()),
        ("family", connection.family.clone()),
        ("local", connection.local.clone()),
        ("remote", or_nothing(&connection.remote)),
        ("netns", connection.netns_cookie.to_string()),
        ("uid", connection.uid.to_string()),
        ("cgroup", or_nothing(&detail.cgroup)),
        ("cgroup id", or_nothing(&connection.cgroup_id.map(|id| id.to_string()))),
        ("opened", format!("{}, {} ago", human::time(connection.opened), human::age(connection.age_seconds))),
        ("established", or_nothing(&connection.established.map(human::time))),
    ];
    policy_lines(detail, &mut lines);
    if let Some(info) = &detail.tcp_info {
        tcp_lines(info, &mut lines);
    }
    lines
}

fn policy_lines(detail: &ConnectionDetail, lines: &mut Vec<(&'static str, String)>) {
    let policy = &detail.connection.policy;
    let from = |text: String, source: &Option<String>| match source {
        Some(source) => format!("{text}, from the {source}"),
        None => text,
    };
    lines.push(("rule", policy.rule.clone().unwrap_or_else(|| NOTHING.to_owned())));
    if let Some(wanted) = &policy.wanted {
        if wanted.keepalive.is_some() {
            lines.push(("keepalive", from(keepalive(policy), &policy.options_source)));
        }
        if let Some(ms) = wanted.user_timeout_ms {
            lines.push(("user timeout", from(human::user_timeout(ms), &policy.options_source)));
        }
    }
    if let Some(lifetime) = &policy.lifetime {
        lines.push(("lifetime", from(human::lifetime(lifetime), &policy.lifetime_source)));
    }
    if let Some(result) = &policy.result {
        lines.push(("result", outcome(result)));
        lines.push(("in force", options(&result.in_force)));
        lines.push(("original", options(&result.original)));
    }
}

fn outcome(result: &ApplyResult) -> String {
    let mut text = format!("{} at {}", result.outcome, human::time(result.at));
    if let Some(option) = &result.refused_option {
        text.push_str(&format!(", {option}"));
    }
    if let Some(errno) = result.errno {
        text.push_str(&format!(": {}", std::io::Error::from_raw_os_error(errno)));
    }
    text
}

/// All options, also the parameters of a keepalive that is off.
fn options(options: &SocketOptions) -> String {
    format!(
        "keepalive {} ({}), user timeout {}",
        if options.keepalive { "on" } else { "off" },
        human::keepalive(options.idle_seconds, options.count, options.interval_seconds),
        human::user_timeout(options.user_timeout_ms)
    )
}

fn tcp_lines(info: &TcpInfo, lines: &mut Vec<(&'static str, String)>) {
    let ms = |us: u32| f64::from(us) / 1000.0;
    lines.push(("idle", human::age(info.idle_seconds)));
    lines.push(("round trip", format!("{} ms, varies by {} ms", ms(info.rtt_us), ms(info.rtt_var_us))));
    lines.push(("bytes", format!("{} acknowledged, {} received", info.bytes_acked, info.bytes_received)));
    lines.push((
        "waiting",
        format!(
            "{} segments unacknowledged, {} retransmissions, {} probes, back-off {}",
            info.unacked, info.retransmits, info.probes, info.backoff
        ),
    ));
    lines.push(("retransmitted", format!("{} segments in all", info.total_retrans)));
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::connection;
    use super::*;

    #[test]
    fn everything_known_of_one() {
        let mut connection = connection(17);
        if let Some(result) = &mut connection.policy.result {
            result.outcome = "refused".to_owned();
            result.refused_option = Some("TCP_KEEPIDLE".to_owned());
            result.errno = Some(22);
        }
        let detail = ConnectionDetail {
            connection,
            code: 1,
            code_name: "ok".to_owned(),
            cgroup: Some("/system.slice/kamailio.service".to_owned()),
            tcp_info: Some(TcpInfo {
                idle_seconds: 3.25,
                rtt_us: 1500,
                rtt_var_us: 250,
                bytes_acked: 10,
                bytes_received: 20,
                unacked: 0,
                retransmits: 0,
                probes: 1,
                backoff: 0,
                total_retrans: 2,
            }),
        };
        assert_eq!(
            fields(lines(&detail)),
            "conid          17\n\
             cookie         42\n\
             state          established, for 5m12s\n\
             code           1 ok\n\
             direction      inbound\n\
             origin         handshake\n\
             family         ipv4\n\
             local          10.0.0.1:5060\n\
             remote         192.0.2.7:40112\n\
             netns          1\n\
             uid            107\n\
             cgroup         /system.slice/kamailio.service\n\
             cgroup id      4711\n\
             opened         2026-11-23T00:00:00Z, 5m12s ago\n\
             established    2026-11-23T00:00:00Z\n\
             rule           sip-clients\n\
             keepalive      refused, from the rule\n\
             user timeout   1m25s, from the rule\n\
             lifetime       idle 5m, max 1h, from the override\n\
             result         refused at 2026-11-23T00:00:00Z, TCP_KEEPIDLE: Invalid argument (os error 22)\n\
             in force       keepalive on (60s/5x5s), user timeout 1m25s\n\
             original       keepalive off (7200s/9x75s), user timeout off\n\
             idle           3.2s\n\
             round trip     1.5 ms, varies by 0.25 ms\n\
             bytes          10 acknowledged, 20 received\n\
             waiting        0 segments unacknowledged, 0 retransmissions, 1 probes, back-off 0\n\
             retransmitted  2 segments in all\n"
        );
    }
}
