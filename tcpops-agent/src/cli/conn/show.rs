//! `tcpops conn show`: prints everything known of one connection.

use super::row::keepalive;
use crate::api::connections::{ConnectionDetail, Expires, Limit, TcpInfo};
use crate::api::policy::{ApplyResult, Override, Source, Why};
use crate::api::rules::Rule;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::human::{self, NOTHING};
use crate::cli::id::Id;
use crate::cli::rule::row as rule_row;
use crate::cli::table::fields;

pub(crate) async fn show(id: Id, context: &mut Context) -> Result<Exit, Failure> {
    let detail = context.client().await?.connection(&id.id).await?;
    context.out.show(&detail, |detail| fields(lines(detail)))?;
    Ok(Exit::Done)
}

fn lines(detail: &ConnectionDetail) -> Vec<(&'static str, String)> {
    let connection = &detail.connection;
    let mut lines = vec![
        ("conid", connection.conid.to_string()),
        ("cookie", connection.cookie.to_string()),
        ("state", format!("{}, for {}", connection.state, human::age(connection.state_seconds))),
        ("code", format!("{} {}", detail.code, detail.code_name)),
        ("direction", connection.direction.to_string()),
        ("origin", connection.origin.to_string()),
        ("family", connection.family.to_string()),
        ("local", connection.local.clone()),
        ("remote", human::or_nothing(connection.remote.as_ref())),
        ("netns", connection.netns_cookie.to_string()),
        ("uid", connection.uid.to_string()),
        ("cgroup", human::or_nothing(detail.cgroup.as_ref())),
        ("cgroup id", human::or_nothing(connection.cgroup_id)),
        ("opened", format!("{}, {} ago", human::time(connection.opened), human::age(connection.age_seconds))),
        ("established", human::or_nothing(connection.established.map(human::time))),
    ];
    policy_lines(detail, &mut lines);
    lines.extend(connection.expires.iter().map(|expires| ("ends", ends(expires))));
    lines.extend(detail.tcp_info.iter().flat_map(tcp_lines));
    lines
}

/// The time of its end, and the limit that ends it, or why it does not.
fn ends(expires: &Expires) -> String {
    let Expires { at, seconds, limit, source, held } = expires;
    let earliest = if matches!(limit, Limit::Idle | Limit::FirstByte) { " at the earliest" } else { "" };
    let when = format!("{}, in {}{earliest}, by {limit} of the {source}", human::time(*at), human::age(*seconds));
    match held {
        Some(held) => format!("{when}; {held}"),
        None => when,
    }
}

fn policy_lines(detail: &ConnectionDetail, lines: &mut Vec<(&'static str, String)>) {
    let policy = &detail.connection.policy;
    lines.push(("rule", rule_line(&detail.why)));
    lines.extend(detail.why.r#override.iter().map(|policy| ("override", override_line(policy))));
    let rule = detail.why.rule.as_ref();
    let from = |text: String, source: Option<Source>, alone: fn(&Rule) -> String| match (source, rule.map(alone)) {
        (None, _) => text,
        (Some(Source::Override), Some(alone)) if alone != NOTHING => {
            format!("{text}, override; the rule wants {alone}")
        }
        (Some(Source::Override), _) => format!("{text}, override"),
        (Some(source), _) => format!("{text}, from the {source}"),
    };
    if let Some(wanted) = &policy.wanted {
        if wanted.keepalive.is_some() {
            let keepalive = human::with_mode(keepalive(policy), wanted.keepalive_mode);
            lines.push(("keepalive", from(keepalive, policy.keepalive_source, rule_row::keepalive)));
        }
        if let Some(ms) = wanted.user_timeout_ms {
            let timeout = human::with_mode(human::user_timeout(ms), wanted.user_timeout_mode);
            lines.push(("user timeout", from(timeout, policy.user_timeout_source, rule_row::user_timeout)));
        }
    }
    // A lifetime that was taken off has a source too.
    if policy.lifetime.is_some() || policy.lifetime_source.is_some() {
        let lifetime = policy.lifetime.as_ref().map_or_else(|| "none".to_owned(), human::lifetime);
        lines.push(("lifetime", from(lifetime, policy.lifetime_source, rule_row::lifetime)));
    }
    let own: Vec<&str> = detail.why.set_by_program.iter().map(Into::into).collect();
    if !own.is_empty() {
        lines.push(("own", format!("{}: the program has set it itself", own.join(", "))));
    }
    if let Some(result) = &policy.result {
        lines.push(("result", outcome(result)));
        lines.push(("in force", human::options(&result.in_force)));
        lines.push(("original", human::options(&result.original)));
    }
}

fn rule_line(why: &Why) -> String {
    match &why.rule {
        Some(rule) => {
            let matching = rule_row::matching(&rule.matching);
            format!("{}, which matches {matching}", rule.name)
        }
        None if why.rule_is_gone => format!("{NOTHING}, one that is not in force any more; no walk has come by since"),
        None => format!("{NOTHING}, none matches"),
    }
}

fn override_line(policy: &Override) -> String {
    let Override { by_uid, applied, wanted, lifetime } = policy;
    let wishes = [
        wanted
            .filter(|wanted| wanted.keepalive.is_some())
            .map(|wanted| format!("keepalive {}", human::wanted_keepalive(&wanted))),
        wanted.and_then(|wanted| wanted.user_timeout_ms).map(|ms| format!("user timeout {}", human::user_timeout(ms))),
        lifetime.as_ref().map(|limits| format!("lifetime {}", human::wanted_lifetime(limits))),
    ];
    let waits = if *applied { "" } else { "; not applied yet" };
    format!("by uid {by_uid}: {}{waits}", human::join(wishes, ", "))
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

fn tcp_lines(info: &TcpInfo) -> [(&'static str, String); 5] {
    let TcpInfo { unacked, retransmits, probes, backoff, .. } = info;
    let ms = |us: u32| f64::from(us) / 1000.0;
    let waiting = format!(
        "{unacked} segments unacknowledged, {retransmits} retransmissions, {probes} probes, back-off {backoff}"
    );
    [
        ("idle", human::age(info.idle_seconds)),
        ("round trip", format!("{} ms, varies by {} ms", ms(info.rtt_us), ms(info.rtt_var_us))),
        ("bytes", format!("{} acknowledged, {} received", info.bytes_acked, info.bytes_received)),
        ("waiting", waiting),
        ("retransmitted", format!("{} segments in all", info.total_retrans)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::connection;
    use super::*;
    use crate::api::connections::StateName;
    use crate::api::lifetime::Lifetime;
    use crate::api::policy::{OptionName, Outcome, OwnOption};
    use crate::api::values::Mode;
    use crate::cli::rule::tests::rules;

    #[test]
    fn everything_known_of_one() {
        let rule = rules().rules.remove(0);
        let mut connection = connection(17);
        if let Some(result) = &mut connection.policy.result {
            result.outcome = Outcome::Refused;
            result.refused_option = Some(OptionName::TcpKeepidle);
            result.errno = Some(22);
        }
        if let Some(wanted) = &mut connection.policy.wanted {
            wanted.user_timeout_mode = Some(Mode::Floor);
        }
        if let Some(lifetime) = &mut connection.policy.lifetime {
            lifetime.jitter_percent = Some(10);
        }
        let detail = ConnectionDetail {
            connection,
            code: 1,
            code_name: StateName::Ok,
            cgroup: Some("/system.slice/kamailio.service".to_owned()),
            why: Why {
                rule: Some(rule),
                rule_is_gone: false,
                r#override: Some(Override {
                    by_uid: 1000,
                    applied: true,
                    wanted: None,
                    lifetime: Some(Lifetime {
                        idle_seconds: Some(300.0),
                        max_age_seconds: Some(3600.0),
                        ..Lifetime::default()
                    }),
                }),
                set_by_program: vec![OwnOption::Keepalive],
            },
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
             rule           sip-clients, which matches direction=inbound local_port=5060,5070-5079 remote=192.0.2.0/24\n\
             override       by uid 1000: lifetime idle 5m, max 1h\n\
             keepalive      refused, from the rule\n\
             user timeout   1m25s (floor), from the rule\n\
             lifetime       idle 5m, max 1h, jitter 10%, override; the rule wants idle 10m, max 7d\n\
             own            keepalive: the program has set it itself\n\
             result         refused at 2026-11-23T00:00:00Z, TCP_KEEPIDLE: Invalid argument (os error 22)\n\
             in force       keepalive on (60s/5x5s), user timeout 1m25s\n\
             original       keepalive off (7200s/9x75s), user timeout off\n\
             ends           2026-11-23T00:10:00Z, in 4m12s at the earliest, by idle of the override\n\
             idle           3.2s\n\
             round trip     1.5 ms, varies by 0.25 ms\n\
             bytes          10 acknowledged, 20 received\n\
             waiting        0 segments unacknowledged, 0 retransmissions, 1 probes, back-off 0\n\
             retransmitted  2 segments in all\n"
        );
    }
}
