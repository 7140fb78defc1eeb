//! The rule set: taken in whole, compiled, written to the maps, and read back by the next agent.
//!
//! Rules that came over the socket must outlive the agent, and the compiled form cannot be read back as rules. So
//! `RULE_SOURCE` has the document beside it, switched by the same generation; a hash of the rules file that was taken in
//! last tells whether the file has changed since.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::api::problem::{Code, Fault, Problem};
use crate::api::rules::{RuleDocument, RuleFault};
use crate::api::rules_result::RulesResult;
use crate::clocks::Clocks;
use crate::convert::rules::to_model;
use crate::daemon::refusal::chain;
use crate::daemon::shared::Shared;
use crate::daemon::telling::audit;
use crate::kernel::Result;
use crate::kernel::cgroup;
use crate::kernel::rules::{MAX_SOURCE, RuleTables, Rules};
use crate::model::rules::classifier::compile;
use crate::model::rules::in_force::InForce;
use crate::model::rules::rule_set::{Cgroup, RuleSet};

/// The rules in force, and the way to replace them.
pub(crate) struct RuleStore {
    maps: Rules,
    document: RuleDocument,
    generation: u64,
    file: Option<PathBuf>,
    /// True if the rules before these left connections untracked.
    left_untracked: bool,
    /// The cgroups that rules name, as they were found when the rules were put in force.
    cgroups: Lineages,
}

/// The origin of a rule set.
enum Given {
    /// The rules file, whose hash this is.
    File([u8; 32]),
    /// A request of this uid.
    Request(u32),
    /// They are in force already; a cgroup that they name was made anew.
    Cgroups,
}

/// The ids of cgroup directories by path: each one's own, then those of the directories above it.
type Lineages = BTreeMap<String, Vec<u64>>;

impl RuleStore {
    /// Takes up the rules in the maps; then the file, if it is not the one that was taken in last: rules that were
    /// put in force over the socket since then outlive a restart of the agent, and a changed file wins.
    pub(crate) fn open(shared: &Shared, maps: Rules, file: Option<PathBuf>) -> Result<Self, Problem> {
        let source = maps.source()?;
        let document = if source.is_empty() {
            RuleDocument::default()
        } else {
            RuleDocument::from_json(&source)
                .map_err(|error| Problem::new(Code::Internal, format!("the rules in the maps: {error}")))?
        };
        let generation = maps.index()?.generation;
        let taken_in = maps.set()?.file_hash;
        let mut store = Self { maps, document, generation, file, left_untracked: false, cgroups: Lineages::new() };
        let rules = unresolved(&store.document).map_err(|fault| invalid(&fault.in_json(source.as_slice())))?;
        shared.set_in_force(InForce::of(&rules));
        if rules.wants_options() {
            shared.attached.setsockopt.need()?;
        }
        if let Some(path) = store.file.clone() {
            let text = read(&path)?;
            if hash(&text) != taken_in {
                store.load(shared, &path, &text)?;
                return Ok(store);
            }
        }
        store.follow_cgroups(shared)?;
        Ok(store)
    }

    pub(crate) fn document(&self) -> &RuleDocument {
        &self.document
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// True if the rules before these left connections untracked.
    pub(crate) fn left_untracked(&self) -> bool {
        self.left_untracked
    }

    /// Checks that the file could be put in force, before anything is touched. Its deadlines may have passed: whether they
    /// are in force already is not known yet.
    pub(crate) fn check(file: &Path, cgroup_mount: &Path) -> Result<(), Problem> {
        let text = read(file)?;
        let rules = from_file(file, &text, cgroup_mount)?.1;
        compile(&rules.set, 0).map(drop).map_err(|error| invalid(&error))
    }

    /// Reads the file again.
    pub(crate) fn reload(&mut self, shared: &Shared) -> Result<RulesResult, Problem> {
        let Some(path) = self.file.clone() else {
            let detail = "the agent was started without --rules; expected a file to read again";
            return Err(Problem::new(Code::InvalidRules, detail));
        };
        let text = read(&path)?;
        self.load(shared, &path, &text)
    }

    fn load(&mut self, shared: &Shared, path: &Path, text: &str) -> Result<RulesResult, Problem> {
        let (document, rules) = from_file(path, text, &shared.facts.cgroup_mount)?;
        document
            .check_deadlines(&self.document, Timestamp::now())
            .map_err(|fault| invalid(&fault.in_toml(text, &path.display().to_string())))?;
        self.put_in_force(shared, document, rules, &Given::File(hash(text)))
    }

    /// Puts the rules of a request's body in force.
    pub(crate) fn replace(&mut self, shared: &Shared, body: &[u8], by_uid: u32) -> Result<RulesResult, Problem> {
        let (document, rules) = from_request(body, &self.document, &shared.facts.cgroup_mount)?;
        self.put_in_force(shared, document, rules, &Given::Request(by_uid))
    }

    fn put_in_force(
        &mut self,
        shared: &Shared,
        document: RuleDocument,
        mut rules: Found,
        given: &Given,
    ) -> Result<RulesResult, Problem> {
        rules.set.assign_ids();
        let compiled = compile(&rules.set, self.maps.free_slot()?).map_err(|error| invalid(&error))?;
        let source = source(&document)?;
        let file_hash = match given {
            Given::File(hash) => *hash,
            Given::Request(_) | Given::Cgroups => self.maps.set()?.file_hash,
        };
        let tables = RuleTables {
            set: tcpops_common::rule::RuleSet { file_hash, ..compiled.set },
            rules: compiled.rules,
            masks: compiled.masks,
            ports: compiled.ports,
            addrs: compiled.addrs,
            keys: compiled.keys,
            source,
        };
        if rules.set.wants_options() {
            // First, so that no program's own options slip through.
            shared.attached.setsockopt.need()?;
        }
        let index = self.maps.replace(&tables)?;
        self.document = document;
        self.cgroups = rules.cgroups;
        self.generation = index.generation;
        self.left_untracked = shared.in_force().leaves_untracked();
        // Only now: what has limits of a rule that is not known here is left alone until it is judged anew.
        shared.set_in_force(InForce::of(&rules.set));
        let (uid, why) = match given {
            Given::File(_) => (None, "file"),
            Given::Request(uid) => (Some(*uid), "request"),
            Given::Cgroups => (None, "cgroups"),
        };
        audit::rules(uid, why, self.document.rules.len(), self.generation);
        Ok(result(&self.document, self.generation, true))
    }

    /// The cgroups that rules name.
    pub(crate) fn cgroups(&self) -> impl Iterator<Item = &str> {
        self.cgroups.keys().map(String::as_str)
    }

    /// Puts the same rules in force anew where a cgroup that they name is another directory now. One that is gone keeps
    /// its old id: no socket is in it.
    pub(crate) fn follow_cgroups(&mut self, shared: &Shared) -> Result<Option<RulesResult>, Problem> {
        let document = self.document.clone();
        let rules = found(&document, &shared.facts.cgroup_mount, &self.cgroups);
        match rules {
            Ok(rules) if rules.cgroups != self.cgroups => {
                self.put_in_force(shared, document, rules, &Given::Cgroups).map(Some)
            }
            Ok(_) => Ok(None),
            Err(fault) => {
                // Only at the start, and only where the directory went while no agent ran.
                tracing::warn!(rule = fault.rule, error = fault.message, "a rule waits for its cgroup");
                self.cgroups = waiting(&document);
                Ok(None)
            }
        }
    }
}

/// The rules of a request's body with their ids, if they could be put in force instead of the `current` ones.
pub(crate) fn examine(
    body: &[u8],
    current: &RuleDocument,
    cgroup_mount: &Path,
) -> Result<(RuleDocument, RuleSet), Problem> {
    let (document, Found { mut set, .. }) = from_request(body, current, cgroup_mount)?;
    set.assign_ids();
    // The slot is a matter of where it is written.
    compile(&set, 0).map_err(|error| invalid(&error))?;
    source(&document)?;
    Ok((document, set))
}

/// Checks that the rules in force are of the generation that the caller wants to replace.
pub(crate) fn check_generation(expected: Option<u64>, current: u64) -> Result<(), Problem> {
    match expected {
        Some(expected) if expected != current => Err(Problem::new(
            Code::PreconditionFailed,
            format!("the rules are of generation {current}; If-Match expected {expected}"),
        )),
        _ => Ok(()),
    }
}

/// The answer about a change before any connection has been looked at.
pub(crate) fn result(document: &RuleDocument, generation: u64, applied: bool) -> RulesResult {
    let count = document.rules.len();
    RulesResult { count, generation, applied, changed: 0, changes: Vec::new(), unreachable: 0, unsure: 0 }
}

/// The text that is kept for the next agent.
fn source(document: &RuleDocument) -> Result<Vec<u8>, Problem> {
    let source = document.to_json().into_bytes();
    if source.len() > MAX_SOURCE {
        let found = source.len();
        let detail = format!("expected rules of at most {MAX_SOURCE} bytes as JSON, found {found}");
        return Err(Problem::new(Code::InvalidRules, detail));
    }
    Ok(source)
}

/// Rules with what their cgroups were found to be.
struct Found {
    set: RuleSet,
    cgroups: Lineages,
}

/// The model of a document's rules; a cgroup that does not exist is taken as it was `known` before, if it was.
fn found(document: &RuleDocument, cgroup_mount: &Path, known: &Lineages) -> Result<Found, RuleFault> {
    let mut cgroups = Lineages::new();
    let set = to_model(document, Clocks::read(), |path| {
        let ids = cgroup::lineage(cgroup_mount, path)
            .or_else(|error| known.get(path).cloned().ok_or_else(|| chain(&error)))?;
        let (id, ancestors) = ids.split_first().ok_or_else(|| format!("no cgroup \"{path}\""))?;
        let cgroup = Cgroup { id: *id, ancestors: ancestors.to_vec() };
        cgroups.insert(path.to_owned(), ids);
        Ok::<_, String>(cgroup)
    })?;
    Ok(Found { set, cgroups })
}

/// The model of a document's rules, with no cgroup found: good for everything but matching.
fn unresolved(document: &RuleDocument) -> Result<RuleSet, RuleFault> {
    let nowhere = |_: &str| Ok::<_, String>(Cgroup { id: u64::MAX, ancestors: Vec::new() });
    let mut set = to_model(document, Clocks::read(), nowhere)?;
    set.assign_ids();
    Ok(set)
}

/// The cgroups of a document, none of them found.
fn waiting(document: &RuleDocument) -> Lineages {
    let paths = document.rules.iter().flat_map(|rule| rule.matching.cgroup.iter());
    paths.flat_map(|paths| paths.as_slice()).map(|path| (path.as_str().to_owned(), Vec::new())).collect()
}

fn from_request(body: &[u8], current: &RuleDocument, cgroup_mount: &Path) -> Result<(RuleDocument, Found), Problem> {
    let document = RuleDocument::from_json(body).map_err(|error| invalid(&error))?;
    let rules = document
        .check_deadlines(current, Timestamp::now())
        .and_then(|()| found(&document, cgroup_mount, &Lineages::new()))
        .map_err(|fault| at_fault(invalid(&fault.in_json(body)), &fault))?;
    Ok((document, rules))
}

fn from_file(path: &Path, text: &str, cgroup_mount: &Path) -> Result<(RuleDocument, Found), Problem> {
    let file = path.display().to_string();
    let document = RuleDocument::from_toml(text, &file).map_err(|error| invalid(&error))?;
    let rules =
        found(&document, cgroup_mount, &Lineages::new()).map_err(|fault| invalid(&fault.in_toml(text, &file)))?;
    Ok((document, rules))
}

/// The problem, with the place of the fault for clients that know the rules as other text than JSON.
fn at_fault(problem: Problem, fault: &RuleFault) -> Problem {
    let RuleFault { index, field, message, .. } = fault;
    let fault = Fault { rule: *index, field: (*field).to_owned(), message: message.clone() };
    Problem { fault: Some(Box::new(fault)), ..problem }
}

fn invalid(error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::InvalidRules, error.to_string())
}

fn read(path: &Path) -> Result<String, Problem> {
    fs::read_to_string(path)
        .map_err(|error| Problem::new(Code::InvalidRules, format!("cannot read {}: {error}", path.display())))
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
