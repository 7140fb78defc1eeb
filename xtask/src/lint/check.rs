//! Checks the sources against the [rules](super::rules).

use crate::lint::mentions::MentionKind;
use crate::lint::rules::{Forbids, RULES, Rule};
use crate::lint::source::{Package, Source};
use crate::lint::violation::Violation;

/// A violation for each breach of a [rule](RULES), and for each rule that no file falls under.
pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in packages {
        violations.extend(RULES.iter().flat_map(|rule| violations_of(rule, package)));
    }
    let guards =
        |rule: &&Rule| packages.iter().flat_map(|package| &package.sources).any(|source| applies(rule, &source.path));
    violations.extend(RULES.iter().filter(|rule| !guards(rule)).map(idle));
    violations
}

fn violations_of(rule: &'static Rule, package: &Package) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in package.sources.iter().filter(|source| applies(rule, &source.path)) {
        for (line, found) in breaches(&rule.forbids, source, package) {
            let place = format!("{}:{line}", source.path);
            violations.push(Violation { place, rule: rule.name, found, why: rule.why, instead: rule.instead });
        }
    }
    violations
}

/// The lines of a file that do what is forbidden, each with what it does.
fn breaches(forbids: &Forbids, source: &Source, package: &Package) -> Vec<(usize, String)> {
    let naming = |forbidden: &dyn Fn(&[String]) -> bool| -> Vec<_> {
        source
            .paths()
            .filter(|(_, path)| forbidden(path))
            .map(|(line, path)| (line, format!("names `{}`", path.join("::"))))
            .collect()
    };
    let first = |path: &[String]| path.first().cloned().unwrap_or_default();
    match forbids {
        Forbids::Crates(names) => naming(&|path| names.contains(&first(path).as_str())),
        Forbids::CratesStartingWith(start) => naming(&|path| first(path).starts_with(start)),
        Forbids::CratesExcept(names) => {
            naming(&|path| package.dependencies.contains(&first(path)) && !names.contains(&first(path).as_str()))
        }
        Forbids::ModulesExcept(names) => naming(&|path| match path {
            [root, module, ..] => root == "crate" && !names.contains(&module.as_str()),
            _ => false,
        }),
        Forbids::Paths(forbidden) => naming(&|path| forbidden.iter().any(|forbidden| is_under(path, forbidden))),
        Forbids::Both(one, other) => {
            let line = |wanted| source.paths().find(|(_, path)| is_under(path, wanted)).map(|(line, _)| line);
            let lines = line(one).zip(line(other));
            lines.map(|(a, b)| (a.max(b), format!("names `{one}` and `{other}` in one file"))).into_iter().collect()
        }
        Forbids::Derives(names) => {
            let derived = source.mentions.iter().filter_map(|mention| match &mention.kind {
                MentionKind::Derive(name) if names.contains(&name.as_str()) => {
                    Some((mention.line, format!("derives `{name}`")))
                }
                _ => None,
            });
            derived.collect()
        }
        Forbids::Unsafe => {
            let all = source.mentions.iter().filter(|mention| mention.kind == MentionKind::Unsafe);
            all.map(|mention| (mention.line, "uses `unsafe`".to_owned())).collect()
        }
        Forbids::Lacking(attribute) => {
            let has = source.text.lines().any(|line| line.trim() == *attribute);
            if has { Vec::new() } else { vec![(1, format!("lacks `{attribute}`"))] }
        }
    }
}

/// Tells whether `path` names `forbidden` or something in it; a final `*` names everything in what precedes it.
fn is_under(path: &[String], forbidden: &str) -> bool {
    let forbidden: Vec<_> = forbidden.split("::").collect();
    match path.split_last() {
        Some((star, path)) if star == "*" && path.len() < forbidden.len() => {
            path.iter().zip(&forbidden).all(|(a, b)| a == b)
        }
        _ => path.len() >= forbidden.len() && path.iter().zip(&forbidden).all(|(a, b)| a == b),
    }
}

fn applies(rule: &Rule, path: &str) -> bool {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let within = |places: &[&str]| {
        let mut rests = places.iter().filter_map(|place| stem.strip_prefix(place));
        rests.any(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(rule.inside) && !within(rule.outside)
}

/// A rule that no file falls under guards nothing: its files have moved.
fn idle(rule: &'static Rule) -> Violation {
    Violation {
        place: "xtask/src/lint/rules.rs:1".to_owned(),
        rule: rule.name,
        found: format!("found no file under {}", rule.inside.join(", ")),
        why: "a rule without files guards nothing",
        instead: "correct the paths of the rule, or remove it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the rules that a file of this path and text breaks.
    fn broken(path: &str, text: &str) -> Vec<&'static str> {
        let dependencies = ["aya", "ipnet", "libc", "netlink_sys", "serde", "tcpops_common", "tokio"];
        let package = Package::of_files(&dependencies, &[(path, text)]);
        RULES.iter().flat_map(|rule| violations_of(rule, &package)).map(|violation| violation.rule).collect()
    }

    #[test]
    fn the_model_is_pure() {
        const FILE: &str = "tcpops-agent/src/model/deadlines.rs";
        assert_eq!(broken(FILE, "fn f() { tokio::spawn(async {}); }"), ["model-crates"]);
        assert_eq!(broken(FILE, "use super::super::kernel::maps;"), ["model-modules"]);
        assert_eq!(broken(FILE, "use std::time::*;"), ["model-std"]);
        assert_eq!(broken(FILE, "use std::time;\nfn f() -> time::Instant { todo!() }"), ["model-std"]);
        assert_eq!(broken(FILE, "use std::net::{IpAddr, TcpStream};"), ["model-std"]);
        let clean = "use std::{collections::BTreeMap, net::IpAddr, time::Duration};\nuse tcpops_common::conn::ConnKey;\n\
            use super::guard;\nuse crate::model::rules::Rules;\n#[cfg(test)] mod tests { use tokio::test; }";
        assert_eq!(broken(FILE, clean), [""; 0]);
    }

    #[test]
    fn the_protocol_is_a_leaf() {
        assert_eq!(broken("tcpops-agent/src/api/rules.rs", "use crate::model::rules;"), ["api-is-a-leaf"]);
        assert_eq!(
            broken("tcpops-agent/src/api/rules.rs", "use crate::api::id; #[derive(Serialize)] struct A;"),
            [""; 0]
        );
        assert_eq!(
            broken("tcpops-agent/src/client.rs", "#[derive(Serialize)] struct A;"),
            ["serialization-is-a-border"]
        );
        assert_eq!(broken("tcpops-agent/src/config.rs", "#[derive(Deserialize)] struct A;"), [""; 0]);
    }

    #[test]
    fn the_system_is_behind_kernel() {
        assert_eq!(broken("tcpops-agent/src/server.rs", "use netlink_sys::Socket;"), ["agent-netlink-in-kernel"]);
        assert_eq!(broken("tcpops-agent/src/server.rs", "use libc::c_int;"), ["agent-system-in-kernel"]);
        assert_eq!(broken("tcpops-agent/src/server.rs", "fn f() { unsafe { g() } }"), ["agent-unsafe-in-kernel"]);
        assert_eq!(broken("tcpops-agent/src/kernel/diag.rs", "use aya::Ebpf; fn f() { unsafe { g() } }"), [""; 0]);
        assert_eq!(broken("tcpops-agent/src/kernel/diag.rs", "use crate::model::rules;"), ["kernel-without-model"]);
    }

    #[test]
    fn only_the_daemon_knows_both() {
        const BOTH: &str = "use crate::model::rules;\nuse crate::kernel::maps;";
        assert_eq!(broken("tcpops-agent/src/server.rs", BOTH), ["only-the-daemon-knows-both"]);
        assert_eq!(broken("tcpops-agent/src/server.rs", "use crate::{kernel, model};"), ["only-the-daemon-knows-both"]);
        assert_eq!(broken("tcpops-agent/src/daemon.rs", BOTH), [""; 0]);
        assert_eq!(broken("tcpops-agent/src/main.rs", "use tcpops_agent::{kernel, model};"), [""; 0]);
    }

    #[test]
    fn unsafe_code_of_the_programs_has_its_place() {
        assert_eq!(broken("tcpops-ebpf/src/track.rs", "fn f() { unsafe { g() } }"), ["ebpf-unsafe-in-kernel"]);
        assert_eq!(broken("tcpops-ebpf/src/kernel/ring.rs", "fn f() { unsafe { g() } }"), [""; 0]);
        assert_eq!(broken("tcpops-ebpf/src/iter_tcp.rs", "#[unsafe(no_mangle)] fn f() {}"), [""; 0]);
    }

    #[test]
    fn common_is_a_leaf() {
        assert_eq!(broken("tcpops-common/src/lib.rs", "pub mod conn;"), ["common-forbids-unsafe"]);
        assert_eq!(broken("tcpops-common/src/lib.rs", "#![forbid(unsafe_code)]"), [""; 0]);
        assert_eq!(broken("tcpops-common/src/conn.rs", "use std::net::IpAddr;"), ["common-is-a-leaf"]);
    }

    #[test]
    fn a_violation_says_where_why_and_what_to_do() {
        let package = Package::of_files(&[], &[("tcpops-ebpf/src/track.rs", "\nunsafe fn f() {}")]);
        let shown: String =
            RULES.iter().flat_map(|rule| violations_of(rule, &package)).map(|v| v.to_string()).collect();
        assert!(shown.starts_with("tcpops-ebpf/src/track.rs:2: ebpf-unsafe-in-kernel: uses `unsafe`"), "{shown}");
        assert!(shown.contains("why: ") && shown.contains("do:  "), "{shown}");
    }
}
