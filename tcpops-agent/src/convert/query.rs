//! From the query of a list to the model's filter.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use tcpops_common::state::TcpState;

use crate::api::connections::ListQuery;
use crate::model::filter::Filter;

/// The filter that a query asks for. `cgroup_ids` gives the ids of a cgroup path and of everything below it, `rule_id`
/// the id of a rule's name.
///
/// # Errors
/// Names the parameter and what was expected.
pub fn filter(
    query: &ListQuery,
    cgroup_ids: impl FnOnce(&str) -> Result<Vec<u64>, String>,
    rule_id: impl FnOnce(&str) -> Option<u32>,
) -> Result<Filter, String> {
    Ok(Filter {
        state: query.state.as_deref().map(state).transpose()?,
        local: query.local.as_deref().map(|text| network("local", text)).transpose()?,
        remote: query.remote.as_deref().map(|text| network("remote", text)).transpose()?,
        local_port: query.local_port.as_deref().map(|text| ports("local_port", text)).transpose()?,
        remote_port: query.remote_port.as_deref().map(|text| ports("remote_port", text)).transpose()?,
        cgroups: match query.cgroup.as_deref() {
            None => None,
            Some(path) => {
                let ids = cgroup_ids(path).map_err(|error| format!("cgroup: {error}"))?;
                Some(ids.into_iter().collect::<HashSet<u64>>())
            }
        },
        uid: query.uid,
        netns_cookie: query.netns,
        rule: match query.rule.as_deref() {
            None => None,
            Some(name) => {
                Some(rule_id(name).ok_or_else(|| format!("rule: expected a rule in force, found \"{name}\""))?)
            }
        },
        visible_to_uid: None,
        after_conid: query.cursor.unwrap_or(0),
    })
}

fn state(text: &str) -> Result<TcpState, String> {
    TcpState::ALL.into_iter().find(|state| *state != TcpState::Unknown && state.name() == text).ok_or_else(|| {
        let known: Vec<&str> = TcpState::ALL.into_iter().skip(1).map(TcpState::name).collect();
        format!("state: expected one of {}, found \"{text}\"", known.join(", "))
    })
}

fn network(parameter: &str, text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    address.or_else(|_not_an_address| text.parse()).map_err(|_neither: ipnet::AddrParseError| {
        format!("{parameter}: expected an address or a network such as 10.0.0.0/8, found \"{text}\"")
    })
}

fn ports(parameter: &str, text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("{parameter}: expected a port or a range such as 5060-5070, found \"{text}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::connection;

    fn parse(query: ListQuery) -> Result<Filter, String> {
        filter(&query, |_| Ok(vec![1]), |name| (name == "known").then_some(3))
    }

    #[test]
    fn filters_by_what_is_given() {
        let some = |text: &str| Some(text.to_owned());
        let connection = connection();
        let query = ListQuery {
            state: some("established"),
            local: some("10.0.0.0/8"),
            remote: some("192.0.2.7"),
            remote_port: some("5060-5070"),
            cgroup: some("/"),
            uid: Some(1000),
            ..ListQuery::default()
        };
        assert!(parse(query.clone()).unwrap().matches(1, &connection));
        for other in [
            ListQuery { state: some("listen"), ..query.clone() },
            ListQuery { remote: some("192.0.2.8"), ..query.clone() },
            ListQuery { remote_port: some("5061"), ..query.clone() },
            ListQuery { uid: Some(0), ..query.clone() },
            ListQuery { rule: some("known"), ..query.clone() },
            ListQuery { cursor: Some(1), ..query.clone() },
        ] {
            assert!(!parse(other.clone()).unwrap().matches(1, &connection), "{other:?}");
        }
    }

    #[test]
    fn says_what_was_expected() {
        let some = |text: &str| Some(text.to_owned());
        for (query, part) in [
            (ListQuery { state: some("open"), ..ListQuery::default() }, "state: expected one of established"),
            (ListQuery { local: some("10.0.0.0/33"), ..ListQuery::default() }, "local: expected an address"),
            (ListQuery { local_port: some("9-1"), ..ListQuery::default() }, "local_port: expected a port"),
            (ListQuery { rule: some("other"), ..ListQuery::default() }, "rule: expected a rule in force"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
