//! Filters of a request to those of the model.

use std::collections::HashSet;
use std::fmt;

use crate::api::connections::ListQuery;
use crate::api::values::ValueError;
use crate::model::requests::filter::Filter;

/// The filter that a query asks for. `cgroup_ids` gives the ids of a cgroup path and of everything below it, `rule_id`
/// the id of a rule's name.
///
/// # Errors
/// Fails at a cgroup that `cgroup_ids` does not find, and at a rule that is not in force.
pub(crate) fn filter<E: fmt::Display>(
    query: &ListQuery,
    cgroup_ids: impl FnOnce(&str) -> Result<Vec<u64>, E>,
    rule_id: impl FnOnce(&str) -> Option<u32>,
) -> Result<Filter, ValueError> {
    let cgroups = match &query.cgroup {
        None => None,
        Some(path) => {
            let ids = cgroup_ids(path.as_str()).map_err(|error| ValueError::other(error.to_string()).of("cgroup"))?;
            Some(ids.into_iter().collect::<HashSet<u64>>())
        }
    };
    let unknown_rule = |name| ValueError::new("a rule in force", format_args!("\"{name}\"")).of("rule");
    let rule = query.rule.as_ref().map(|name| rule_id(name.as_str()).ok_or_else(|| unknown_rule(name))).transpose()?;
    Ok(Filter {
        state: query.state.map(|state| state.0),
        direction: query.direction.map(Into::into),
        family: query.family.map(Into::into),
        origin: query.origin.map(Into::into),
        local: query.local.map(|network| network.net()),
        remote: query.remote.map(|network| network.net()),
        local_port: query.local_port.map(|ports| ports.range()),
        remote_port: query.remote_port.map(|ports| ports.range()),
        cgroups,
        uid: query.uid,
        netns_cookie: query.netns,
        rule,
        visible_to_uid: None,
        after_conid: query.cursor.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::testing::connection;

    fn parse(query: &Value) -> Result<Filter, String> {
        let query: ListQuery = serde_json::from_value(query.clone()).map_err(|error| error.to_string())?;
        let filter = filter(&query, |_| Ok::<_, Infallible>(vec![1]), |name| (name == "known").then_some(3));
        filter.map_err(|error| error.to_string())
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
            (json!({ "state": "open" }), "expected one of established"),
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
