//! Request targets: paths and queries, percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::error::ClientError;

/// The characters that are encoded in a segment of a path: all but those that RFC 3986 calls unreserved, and `:` and `+`.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'+');

/// The path of a connection, or of a part of it such as `state`. The id may hold anything.
pub(crate) fn connection(id: &str, part: Option<&str>) -> String {
    // As a segment, one or two dots would be a step in the path.
    let id = match id {
        "." | ".." => id.replace('.', "%2E"),
        _ => utf8_percent_encode(id, SEGMENT).to_string(),
    };
    match part {
        Some(part) => format!("/v1/connections/{id}/{part}"),
        None => format!("/v1/connections/{id}"),
    }
}

/// `path` with the fields of `query` that are there.
pub(crate) fn with_query(path: &str, query: &impl Serialize) -> Result<String, ClientError> {
    let query = serde_urlencoded::to_string(query)
        .map_err(|error| ClientError::protocol("a query of plain fields", error))?
        .replace('+', "%20");
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::connections::ListQuery;

    #[test]
    fn ids_are_one_segment_of_the_path() {
        for (id, encoded) in [
            ("17", "17"),
            ("cookie:42", "cookie:42"),
            ("local:10.0.0.1:5060+remote:192.0.2.7:40112", "local:10.0.0.1:5060+remote:192.0.2.7:40112"),
            ("remote:[2001:db8::7]:5060", "remote:%5B2001:db8::7%5D:5060"),
            ("remote:[fe80::1%eth0]:1", "remote:%5Bfe80::1%25eth0%5D:1"),
            ("a/../b?c#d e", "a%2F..%2Fb%3Fc%23d%20e"),
            ("..", "%2E%2E"),
            ("\n\u{e9}\u{0}", "%0A%C3%A9%00"),
        ] {
            assert_eq!(connection(id, None), format!("/v1/connections/{encoded}"));
            assert_eq!(connection(id, Some("state")), format!("/v1/connections/{encoded}/state"));
        }
    }

    #[test]
    fn queries_hold_the_fields_that_are_there() {
        let target = |query: &ListQuery| with_query("/v1/connections", query).unwrap();
        assert_eq!(target(&ListQuery::default()), "/v1/connections");
        let query = ListQuery {
            remote: Some("2001:db8::/32".parse().unwrap()),
            rule: Some("a + b&c".parse().unwrap()),
            uid: Some(0),
            cursor: Some(u64::MAX),
            ..ListQuery::default()
        };
        let target = target(&query);
        let mut fields: Vec<_> = target.strip_prefix("/v1/connections?").unwrap().split('&').collect();
        fields.sort_unstable();
        let remote = "remote=2001%3Adb8%3A%3A%2F32";
        assert_eq!(fields, ["cursor=18446744073709551615", remote, "rule=a%20%2B%20b%26c", "uid=0"]);
    }
}
