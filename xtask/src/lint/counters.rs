//! Refuses counters that nothing bumps.

use tcpops_common::counters::Counter;

use crate::lint::source::{Package, Source};
use crate::lint::violation::Violation;

/// A set of counters, and the part that has to bump them.
struct Kind {
    /// The file that defines them, each on a line of its own.
    definition: &'static str,
    /// The enum that has them as variants.
    name: &'static str,
    /// The directories of the parts that bump them.
    inside: &'static [&'static str],
    /// The subject of a violation: the part in which none was found.
    by: &'static str,
}

const KERNEL: Kind = Kind {
    definition: "tcpops-common/src/counters.rs",
    name: "Counter",
    // What ended unseen is counted by the agent, which removes it.
    inside: &["tcpops-ebpf/src/", "tcpops-common/src/", "tcpops-agent/src/daemon/walks/sweep.rs"],
    by: "no kernel program, nor the sweep,",
};
const AGENT: Kind = Kind {
    definition: "tcpops-agent/src/daemon/counters.rs",
    name: "AgentCounter",
    inside: &["tcpops-agent/src/daemon/"],
    by: "nothing in the daemon",
};

/// A violation for each counter that nothing bumps, and for a definition in which no counter is found.
pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    let names: Vec<_> = Counter::ALL.iter().map(|counter| format!("{counter:?}")).collect();
    let mut violations = unbumped(&KERNEL, &names, packages);
    violations.extend(unbumped(&AGENT, &defined(&AGENT, packages), packages));
    violations
}

/// Reads the variants of the enum from its definition, where the type itself is private to its crate.
fn defined(kind: &Kind, packages: &[Package]) -> Vec<String> {
    let head = format!("pub(crate) enum {} {{", kind.name);
    let sources = packages.iter().flat_map(|package| &package.sources);
    let definition = sources.filter(|source| source.path == kind.definition);
    let lines = definition.flat_map(|source| source.text.lines());
    let body = lines.skip_while(|line| *line != head).skip(1).take_while(|line| *line != "}");
    let is_name = |name: &&str| name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
    body.filter_map(|line| line.trim().strip_suffix(',')).filter(is_name).map(str::to_owned).collect()
}

fn unbumped(kind: &Kind, names: &[String], packages: &[Package]) -> Vec<Violation> {
    let sources = || packages.iter().flat_map(|package| &package.sources);
    let bumping = sources().filter(|source| kind.inside.iter().any(|inside| source.path.starts_with(inside)));
    let paths: Vec<_> = bumping.flat_map(Source::paths).map(|(_, path)| path).collect();
    let is_bumped =
        |name: &String| paths.iter().any(|path| path.windows(2).any(|pair| pair[0] == kind.name && pair[1] == *name));
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
    if names.is_empty() {
        return vec![Violation {
            place: "xtask/src/lint/counters.rs:1".to_owned(),
            rule: "counters-are-bumped",
            found: format!("found no counter of `{}` in {}", kind.name, kind.definition),
            why: "a check without counters guards nothing",
            instead: "correct the place of the definition",
        }];
    }
    names.iter().filter(|name| !is_bumped(name)).map(violation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_nothing_bumps_is_found() {
        let names = ["Opened".to_owned(), "Closed".to_owned()];
        let definition = "enum Counter {\n Opened,\n ClosedAll,\n Closed,\n}";
        let package = Package::of_files(
            &[],
            &[
                (KERNEL.definition, definition),
                ("tcpops-ebpf/src/track.rs", "fn f() { bump(Counter::Opened); /* Counter::Closed */ }"),
                ("tcpops-agent/src/metrics.rs", "fn f() { Counter::Closed }"),
            ],
        );
        let found = unbumped(&KERNEL, &names, &[package]);
        let shown: Vec<_> =
            found.iter().map(|violation| (violation.place.as_str(), violation.found.as_str())).collect();
        assert_eq!(
            shown,
            [("tcpops-common/src/counters.rs:4", "no kernel program, nor the sweep, names `Counter::Closed`")]
        );
    }

    #[test]
    fn a_definition_without_counters_is_found() {
        let found = unbumped(&AGENT, &[], &[Package::agent(&[("daemon/counters", "enum X {}")])]);
        assert_eq!(found[0].found, "found no counter of `AgentCounter` in tcpops-agent/src/daemon/counters.rs");
    }

    #[test]
    fn counters_of_the_agent_are_read_from_their_definition() {
        let text = "use x::{\n    Y,\n};\npub(crate) enum AgentCounter {\n    /// One.\n    Done,\n    Held,\n}";
        let bumping = "fn f(counters: &AgentCounters) { counters.add(AgentCounter::Done); }";
        let packages = [Package::agent(&[("daemon/counters", text), ("daemon/hook", bumping)])];
        assert_eq!(defined(&AGENT, &packages), ["Done", "Held"]);
        let found: Vec<_> = check(&packages).into_iter().filter(|found| found.place.contains("daemon")).collect();
        assert_eq!(found.len(), 1);
        let violation = &found[0];
        assert_eq!(violation.place, "tcpops-agent/src/daemon/counters.rs:7");
        assert_eq!(violation.found, "nothing in the daemon names `AgentCounter::Held`");
    }
}
