//! What people see of the maps: `bpftool map dump pinned`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::command::stdout_of;
use super::require;

/// Runs `bpftool -j`.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let text = stdout_of(Command::new(require::tool("bpftool")).arg("-j").args(arguments));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("bpftool {arguments:?}: {error}: {text}"))
}

/// The entries of a pinned map, key and value, with the names that its BTF gives.
pub(crate) fn dump(map: &Path) -> Vec<(Value, Value)> {
    let all = json(&["map", "dump", "pinned", map.to_str().expect("the path is text")]);
    let entries = all.as_array().unwrap_or_else(|| panic!("expected a list of entries, found {all}"));
    let formatted = |entry: &Value| {
        let names = entry.get("formatted").unwrap_or_else(|| panic!("no BTF names in {entry}"));
        (names["key"].clone(), names["value"].clone())
    };
    entries.iter().map(formatted).collect()
}

/// `CONNECTIONS` below the directory of the pins, by conid: the cookie and the entry.
pub(crate) fn connections(pins: &Path) -> BTreeMap<u64, (u64, Value)> {
    let entries = dump(&pins.join("v2/CONNECTIONS")).into_iter().map(|(key, value)| {
        let number = |field: &str| key[field].as_u64().unwrap_or_else(|| panic!("no {field} in {key}"));
        (number("conid"), (number("cookie"), value))
    });
    entries.collect()
}

/// The cookies that take a place in `CONIDS`.
pub(crate) fn cookies_of_conids(pins: &Path) -> BTreeSet<u64> {
    let places = dump(&pins.join("v2/CONIDS")).into_iter();
    places.filter_map(|(_, place)| place["cookie"].as_u64()).filter(|cookie| *cookie != 0).collect()
}

/// `COOKIES`: from conid to cookie.
pub(crate) fn conids(pins: &Path) -> BTreeMap<u64, u64> {
    let places = dump(&pins.join("v2/COOKIES")).into_iter();
    let keys =
        places.map(|(_, key)| (key["conid"].as_u64().expect("a conid"), key["cookie"].as_u64().expect("a cookie")));
    keys.filter(|key| *key != (0, 0)).collect()
}

/// `OVERRIDES`, by conid.
pub(crate) fn overrides(pins: &Path) -> BTreeMap<u64, Value> {
    let entries = dump(&pins.join("v2/OVERRIDES")).into_iter();
    entries.map(|(key, value)| (key["conid"].as_u64().expect("keys have a conid"), value)).collect()
}

/// The sockops programs attached to a cgroup.
pub(crate) fn attached(cgroup: &Path) -> Vec<Value> {
    let text = stdout_of(Command::new(require::tool("bpftool")).args(["-j", "cgroup", "show"]).arg(cgroup));
    // bpftool prints nothing at all where there is no program.
    if text.trim().is_empty() {
        return Vec::new();
    }
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("bpftool cgroup show: {error}: {text}"));
    all.as_array().expect("programs are a list").clone()
}

/// The name of the program with this number.
pub(crate) fn program_name(id: u64) -> String {
    let program = json(&["prog", "show", "id", &id.to_string()]);
    program["name"].as_str().unwrap_or_else(|| panic!("no name in {program}")).to_owned()
}

/// How often each function of the kernel is called in the code of a program, as the kernel runs it.
pub(crate) fn calls(id: u64) -> BTreeMap<String, usize> {
    let code = json(&["prog", "dump", "xlated", "id", &id.to_string()]);
    let text = code.to_string();
    let mut calls = BTreeMap::new();
    // `"disasm":"(85) call htab_map_update_elem#276512"`; a call of the program's own functions has no name there.
    for call in text.split("(85) call ").skip(1) {
        if let Some((name, _)) = call.split_once('#').filter(|(name, _)| !name.contains(['"', '+'])) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

/// The number of the link that is pinned at `path`.
pub(crate) fn pinned_link(path: &Path) -> u64 {
    let link = json(&["link", "show", "pinned", path.to_str().expect("the path is text")]);
    link["id"].as_u64().unwrap_or_else(|| panic!("no id in {link}"))
}

/// Whether there is a link with this number.
pub(crate) fn has_link(id: u64) -> bool {
    json(&["link", "list"]).as_array().is_some_and(|links| links.iter().any(|link| link["id"] == id))
}

/// The links attached to the cgroup with the number `id`.
pub(crate) fn links(id: u64) -> usize {
    let all = json(&["link", "list"]);
    all.as_array().map_or(0, |links| links.iter().filter(|link| link["cgroup_id"] == id).count())
}

/// Takes the program behind a pinned link off its cgroup; the pin stays.
pub(crate) fn detach_link(pin: &Path) {
    stdout_of(Command::new(require::tool("bpftool")).args(["link", "detach", "pinned"]).arg(pin));
}

/// Makes a small map of somebody else's, and pins it at `path`.
pub(crate) fn pin_other_map(path: &Path) {
    let mut command = Command::new(require::tool("bpftool"));
    command.args(["map", "create"]).arg(path);
    stdout_of(command.args(["type", "array", "key", "4", "value", "4", "entries", "1", "name", "other"]));
}
