//! Masks: a value that differs from run to run becomes a word for its type.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Numbers as JSON writes them.
const WHOLE: &str = "[0-9]+";
const FRACTION: &str = r"(?:[0-9]+\.[0-9]+(?:e-?[0-9]+)?|[0-9]+e-?[0-9]+)";
/// Fields with a whole number, wherever they are.
const WHOLE_FIELDS: &str = "cookie|netns_cookie|cgroup_id|pid|seq";
/// Fields with a fraction.
const FRACTION_FIELDS: &str = "age_seconds|state_seconds|seconds|waited_seconds|heard_seconds_ago";
/// Objects whose numbers are all measured or counted.
const MEASURED: &str = "tcp_info|summary|counters|agent_counters";
/// The longest line of an answer that is not broken.
const WIDTH: usize = 120;

static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let masks = [
        (format!(r#""({WHOLE_FIELDS})":( ?){WHOLE}"#), r#""$1":$2<int>"#),
        (format!(r#""({FRACTION_FIELDS})":( ?){FRACTION}"#), r#""$1":$2<float>"#),
        (r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z".to_owned(), "<time>"),
        // Those that the system gave; those of the tests have four digits at the most.
        (r"(127\.0\.0\.1|\[::1\]):[0-9]{5}".to_owned(), "$1:<port>"),
        (r"cookie(:| )[0-9]+".to_owned(), "cookie$1<int>"),
        (r"fd:[1-9]\b".to_owned(), "fd:<int>"),
        // What is lost, and what is there after it.
        (r#""count":[0-9]+,"reason""#.to_owned(), r#""count":<int>,"reason""#),
        (r#""tracked":[0-9]+\}"#.to_owned(), r#""tracked":<int>}"#),
        // What a peer that is asked leaves unanswered.
        (r#""probes":[0-9]+,"retransmits":[0-9]+,"e"#.to_owned(), r#""probes":<int>,"retransmits":<int>,"e"#),
        ("[0-9]+ (probes without|times)".to_owned(), "<int> $1"),
        // For browsers.
        ("(?m)^id: [0-9]+$".to_owned(), "id: <int>"),
        // Where the tests are, and what the machine is.
        (r#"/[^" ?=:]*tcpops-test-[0-9]+-[0-9]+"#.to_owned(), "<path>"),
        (r"/[a-z0-9/._-]+/no/such/cgroup".to_owned(), "<path>/no/such/cgroup"),
        (r#""(version|kernel)":( ?)"[^"]+""#.to_owned(), r#""$1":$2"<text>""#),
        (r#""follow":( ?)"(callbacks|tracepoint)""#.to_owned(), r#""follow":$1"<callbacks|tracepoint>""#),
        (r#""limitations":( ?)\[[^\]]*\]"#.to_owned(), r#""limitations":$1[<texts>]"#),
    ];
    let compiled = masks.map(|(mask, with)| (pattern(&mask), with));
    compiled.into()
});
static OBJECT: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r#""(?:{MEASURED})": ?\{{[^}}]*\}}"#)));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(":( ?)({FRACTION}|{WHOLE})")));

pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Masks the values.
pub(super) fn values(text: &str) -> String {
    let text = OBJECT.replace_all(text, |object: &Captures<'_>| numbers(&object[0])).into_owned();
    MASKS.iter().fold(text, |text, (mask, with)| mask.replace_all(&text, *with).into_owned())
}

/// Masks every number after a colon.
fn numbers(text: &str) -> String {
    let masked = |number: &Captures<'_>| {
        let word = if number[2].contains(['.', 'e']) { "float" } else { "int" };
        format!(":{}<{word}>", &number[1])
    };
    NUMBER.replace_all(text, masked).into_owned()
}

/// Breaks long lines of answers after the commas of JSON, where it has no break itself: so that a difference is seen.
pub(super) fn lines(text: &str) -> String {
    let broken = |line: &str| {
        if line.len() <= WIDTH || !line.contains("\":") || line.starts_with('>') {
            return line.to_owned();
        }
        line.replace(",\"", ",\n\"").replace("},{", "},\n{")
    };
    text.split('\n').map(broken).collect::<Vec<_>>().join("\n")
}

#[test]
fn values_are_masked_and_their_form_is_kept() {
    for (text, masked) in [
        (r#"{"conid":3,"cookie":77,"age_seconds":0.5}"#, r#"{"conid":3,"cookie":<int>,"age_seconds":<float>}"#),
        // Another form is no match.
        (r#"{"cookie":"77","seconds":5}"#, r#"{"cookie":"77","seconds":5}"#),
        (r#""lifetime":{"idle_seconds":600.0}"#, r#""lifetime":{"idle_seconds":600.0}"#),
        (
            r#""summary":{"bytes_in":1,"states":{"syn-sent":5e-6}},"count":5"#,
            r#""summary":{"bytes_in":<int>,"states":{"syn-sent":<float>}},"count":5"#,
        ),
        (r#""local":"127.0.0.1:45000","remote":"[::1]:7001""#, r#""local":"127.0.0.1:<port>","remote":"[::1]:7001""#),
        (r#""at":"2026-01-31T10:00:00.5Z""#, r#""at":"<time>""#),
        (r#""cgroup":"/tcpops-test-1-2/gone""#, r#""cgroup":"<path>/gone""#),
    ] {
        assert_eq!(values(text), masked);
    }
}
