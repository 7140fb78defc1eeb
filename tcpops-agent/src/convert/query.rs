//! From the filters of a request to the model's.

use std::collections::HashSet;

use tcpops_common::state::TcpState;

use super::rules::{from_direction, from_family, from_origin};
use crate::api::connections::ListQuery;
use crate::model::requests::filter::Filter;

/// The filter that a query asks for. `cgroup_ids` gives the ids of a cgroup path and of everything below it, `rule_id`
/// the id of a rule's name.
///
/// # Errors
/// Names the parameter and what was expected.
pub(crate) fn filter(
    query: &ListQuery,
    cgroup_ids: impl FnOnce(&str) -> Result<Vec<u64>, String>,
    rule_id: impl FnOnce(&str) -> Option<u32>,
) -> Result<Filter, String> {
    Ok(Filter {
        state: query.state.as_deref().map(state).transpose()?,
        direction: query.direction.map(from_direction),
        family: query.family.map(from_family),
        origin: query.origin.map(from_origin),
        local: query.local.map(|network| network.net()),
        remote: query.remote.map(|network| network.net()),
        local_port: query.local_port.map(|ports| ports.range()),
        remote_port: query.remote_port.map(|ports| ports.range()),
        cgroups: match &query.cgroup {
            None => None,
            Some(path) => {
                let ids = cgroup_ids(path.as_str()).map_err(|error| format!("cgroup: {error}"))?;
                Some(ids.into_iter().collect::<HashSet<u64>>())
            }
        },
        uid: query.uid,
        netns_cookie: query.netns,
        rule: match &query.rule {
            None => None,
            Some(name) => Some(
                rule_id(name.as_str()).ok_or_else(|| format!("rule: expected a rule in force, found \"{name}\""))?,
            ),
        },
        visible_to_uid: None,
        after_conid: query.cursor.unwrap_or(0),
    })
}

fn state(text: &str) -> Result<TcpState, String> {
    TcpState::ALL.iter().copied().find(|state| *state != TcpState::Unknown && state.name() == text).ok_or_else(|| {
        let known: Vec<&str> = TcpState::ALL.iter().skip(1).map(|state| state.name()).collect();
        format!("state: expected one of {}, found \"{text}\"", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::testing::connection;

    fn parse(query: &Value) -> Result<Filter, String> {
        let query: ListQuery = serde_json::from_value(query.clone()).map_err(|error| error.to_string())?;
        filter(&query, |_| Ok(vec![1]), |name| (name == "known").then_some(3))
    }

    #[test]
    fn filters_by_what_is_given() {
        let connection = connection();
        let query = json!({
            "state": "established", "direction": "outbound", "family": "ipv4", "origin": "handshake",
            "local": "10.0.0.0/8", "remote": "192.0.2.7", "remote_port": "5060-5070", "local_port": 40_000,
            "cgroup": "/", "uid": 1000, "netns": 1,
        });
        assert!(parse(&query).unwrap().matches(1, &connection));
        for (field, other) in [
            ("state", json!("listen")),
            ("direction", json!("inbound")),
            ("family", json!("ipv6")),
            ("origin", json!("adopted")),
            ("local", json!("10.0.0.2")),
            ("remote", json!("192.0.2.8")),
            ("local_port", json!(40_001)),
            ("remote_port", json!(5061)),
            ("uid", json!(0)),
            ("netns", json!(2)),
            ("rule", json!("known")),
            ("cursor", json!(1)),
        ] {
            let mut query = query.clone();
            query[field] = other;
            assert!(!parse(&query).unwrap().matches(1, &connection), "{query}");
        }
    }

    #[test]
    fn says_what_was_expected() {
        for (query, part) in [
            (json!({ "state": "open" }), "state: expected one of established"),
            (json!({ "local": "10.0.0.0/33" }), "expected an address or a network"),
            (json!({ "local": "10.0.0.1/8" }), "10.0.0.1/8 has bits set beyond /8; expected 10.0.0.0/8"),
            (json!({ "local_port": "9-1" }), "expected the lower port first"),
            (json!({ "rule": "other" }), "rule: expected a rule in force"),
            (json!({ "family": "unix" }), "expected \"ipv4\" or \"ipv6\""),
        ] {
            let error = parse(&query).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
