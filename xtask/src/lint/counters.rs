//! Every counter is bumped by some kernel program.

use tcpops_common::counters::Counter;

use crate::lint::check::Violation;
use crate::lint::mentions::What;
use crate::lint::source::Package;

/// Where the counters are defined.
const COUNTERS: &str = "tcpops-common/src/counters.rs";

/// A violation for each counter that no kernel program names.
pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    unbumped(&Counter::ALL.map(|counter| format!("{counter:?}")), packages)
}

fn unbumped(names: &[String], packages: &[Package]) -> Vec<Violation> {
    let sources = || packages.iter().flat_map(|package| &package.sources);
    let programs = sources().filter(|source| source.path.starts_with("tcpops-ebpf/src/"));
    let mentions: Vec<_> = programs.flat_map(|source| &source.mentions).collect();
    let is_bumped = |name: &String| {
        mentions.iter().any(|mention| match &mention.what {
            What::Path(path) => path.windows(2).any(|pair| pair[0] == "Counter" && pair[1] == *name),
            _ => false,
        })
    };
    let line = |name: &str| {
        let definition = sources().find(|source| source.path == COUNTERS);
        let line = definition.and_then(|source| source.text.lines().position(|line| line.trim().starts_with(name)));
        line.map_or(1, |index| index + 1)
    };
    let violation = |name: &String| Violation {
        place: format!("{COUNTERS}:{}", line(&format!("{name} ="))),
        rule: "counters-are-bumped",
        found: format!("no kernel program names `Counter::{name}`"),
        why: "a counter that nothing bumps says that all is well when nobody has looked",
        instead: "bump it where it happens, or remove it",
    };
    names.iter().filter(|name| !is_bumped(name)).map(violation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::source::Source;

    #[test]
    fn a_counter_that_nothing_bumps_is_found() {
        let names = ["Opened".to_owned(), "Closed".to_owned()];
        let source = |package, path, text: &str| Source::new(package, path, text.to_owned()).unwrap();
        let sources = vec![
            source("tcpops-common", COUNTERS, "counters! {\n Opened = \"opened\",\n Closed = \"closed\",\n}"),
            source(
                "tcpops-ebpf",
                "tcpops-ebpf/src/track.rs",
                "fn f() { bump(Counter::Opened); /* Counter::Closed */ }",
            ),
            source("tcpops-agent", "tcpops-agent/src/metrics.rs", "fn f() { Counter::Closed }"),
        ];
        let found = unbumped(&names, &[Package { dependencies: [].into(), sources }]);
        let shown: Vec<_> =
            found.iter().map(|violation| (violation.place.as_str(), violation.found.as_str())).collect();
        assert_eq!(shown, [("tcpops-common/src/counters.rs:3", "no kernel program names `Counter::Closed`")]);
    }
}
