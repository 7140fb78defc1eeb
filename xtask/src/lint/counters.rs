//! Every counter is bumped: those of the kernel programs by one of them, those of the agent by the agent.

use tcpops_common::counters::Counter;

use crate::lint::check::Violation;
use crate::lint::mentions::What;
use crate::lint::source::Package;

/// Some counters, and who has to bump them.
struct Kind {
    /// The file in which they are defined, a line each.
    definition: &'static str,
    /// The type that has them as variants.
    name: &'static str,
    /// Where they are bumped.
    inside: &'static [&'static str],
    /// What does it.
    by: &'static str,
}

const KERNEL: Kind = Kind {
    definition: "tcpops-common/src/counters.rs",
    name: "Counter",
    inside: &["tcpops-ebpf/src/", "tcpops-common/src/"],
    by: "no kernel program",
};
const AGENT: Kind = Kind {
    definition: "tcpops-agent/src/daemon/tally.rs",
    name: "Count",
    inside: &["tcpops-agent/src/daemon/"],
    by: "nothing in the daemon",
};

/// A violation for each counter that nothing bumps.
pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    let names: Vec<_> = Counter::ALL.iter().map(|counter| format!("{counter:?}")).collect();
    let mut violations = unbumped(&KERNEL, &names, packages);
    violations.extend(unbumped(&AGENT, &defined(&AGENT, packages), packages));
    violations
}

/// The counters of a kind that only its own crate can name, read from their definition.
fn defined(kind: &Kind, packages: &[Package]) -> Vec<String> {
    let sources = packages.iter().flat_map(|package| &package.sources);
    let definition = sources.filter(|source| source.path == kind.definition);
    let lines = definition.flat_map(|source| source.text.lines());
    let is_name = |name: &&str| name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
    lines
        .filter_map(|line| line.trim().split_once(" = \""))
        .map(|(name, _)| name)
        .filter(is_name)
        .map(str::to_owned)
        .collect()
}

fn unbumped(kind: &Kind, names: &[String], packages: &[Package]) -> Vec<Violation> {
    let sources = || packages.iter().flat_map(|package| &package.sources);
    let programs = sources().filter(|source| kind.inside.iter().any(|inside| source.path.starts_with(inside)));
    let mentions: Vec<_> = programs.flat_map(|source| &source.mentions).collect();
    let is_bumped = |name: &String| {
        mentions.iter().any(|mention| match &mention.what {
            What::Path(path) => path.windows(2).any(|pair| pair[0] == kind.name && pair[1] == *name),
            _ => false,
        })
    };
    let line = |name: &str| {
        let definition = sources().find(|source| source.path == kind.definition);
        let defines = |line: &str| line.trim().strip_prefix(name).is_some_and(|rest| rest.starts_with([',', ' ']));
        let line = definition.and_then(|source| source.text.lines().position(defines));
        line.map_or(1, |index| index + 1)
    };
    let violation = |name: &String| Violation {
        place: format!("{}:{}", kind.definition, line(name)),
        rule: "counters-are-bumped",
        found: format!("{} names `{}::{name}`", kind.by, kind.name),
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
            source("tcpops-common", KERNEL.definition, "enum Counter {\n Opened,\n ClosedAll,\n Closed,\n}"),
            source(
                "tcpops-ebpf",
                "tcpops-ebpf/src/track.rs",
                "fn f() { bump(Counter::Opened); /* Counter::Closed */ }",
            ),
            source("tcpops-agent", "tcpops-agent/src/metrics.rs", "fn f() { Counter::Closed }"),
        ];
        let found = unbumped(&KERNEL, &names, &[Package { dependencies: [].into(), sources }]);
        let shown: Vec<_> =
            found.iter().map(|violation| (violation.place.as_str(), violation.found.as_str())).collect();
        assert_eq!(shown, [("tcpops-common/src/counters.rs:4", "no kernel program names `Counter::Closed`")]);
    }

    #[test]
    fn counters_of_the_agent_are_read_from_their_definition() {
        let source = |path, text: &str| Source::new("tcpops-agent", path, text.to_owned()).unwrap();
        let text = "const X: u8 = 1;\ncounts! {\n    /// One.\n    Done = \"done\",\n    Held = \"held\",\n}";
        let bumping = "fn f(tally: &Tally) { tally.add(Count::Done); }";
        let sources = vec![source(AGENT.definition, text), source("tcpops-agent/src/daemon/hook.rs", bumping)];
        let packages = [Package { dependencies: [].into(), sources }];
        assert_eq!(defined(&AGENT, &packages), ["Done", "Held"]);
        let found: Vec<_> = check(&packages).into_iter().filter(|found| found.place.contains("tally")).collect();
        assert_eq!(found.len(), 1);
        let violation = &found[0];
        assert_eq!(violation.place, "tcpops-agent/src/daemon/tally.rs:5");
        assert_eq!(violation.found, "nothing in the daemon names `Count::Held`");
    }
}
