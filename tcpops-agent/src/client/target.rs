//! Request targets: paths and queries, percent-encoded.

use std::fmt::Write;

use serde::Serialize;

use super::ClientError;

/// The path of a connection, or of a part of it such as `state`. The id may hold anything.
pub(crate) fn connection(id: &str, part: Option<&str>) -> String {
    let mut target = "/v1/connections/".to_owned();
    encode(id, &mut target);
    if let Some(part) = part {
        target.push('/');
        target.push_str(part);
    }
    target
}

/// `path` with the fields of `query` that are there.
pub(crate) fn with_query(path: &str, query: &impl Serialize) -> Result<String, ClientError> {
    let fields =
        serde_json::to_value(query).map_err(|error| ClientError::protocol("a query of plain fields", error))?;
    let mut target = path.to_owned();
    let mut separator = '?';
    for (name, value) in fields.as_object().into_iter().flatten() {
        target.push(separator);
        separator = '&';
        encode(name, &mut target);
        target.push('=');
        match value.as_str() {
            Some(text) => encode_strictly(text, &mut target),
            None => encode_strictly(&value.to_string(), &mut target),
        }
    }
    Ok(target)
}

/// Appends `text` as a segment of a path: everything is encoded but what RFC 3986 calls unreserved, and `:` and `+`.
fn encode(text: &str, into: &mut String) {
    // A segment of dots alone would be a step in the path.
    let dots = text.bytes().all(|byte| byte == b'.');
    encode_but(text, into, |byte| match byte {
        b'.' => !dots,
        b':' | b'+' => true,
        _ => is_unreserved(byte),
    });
}

/// Appends `text` as a value of a query, where `+` would be a space.
fn encode_strictly(text: &str, into: &mut String) {
    encode_but(text, into, is_unreserved);
}

fn encode_but(text: &str, into: &mut String, plain: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if plain(byte) {
            into.push(char::from(byte));
        } else {
            write!(into, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
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
