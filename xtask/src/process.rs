//! Starting other programs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The prefixes of the variables that `cargo run` sets; they would mislead another cargo.
const CARGO_RUN_VARIABLES: [&str; 6] =
    ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_", "RUST_RECURSION_COUNT"];

/// A command of the same cargo that started this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    remove_env(&mut command, &CARGO_RUN_VARIABLES);
    command
}

/// Hides the variables whose names begin with one of `prefixes` from a command.
pub(crate) fn remove_env(command: &mut Command, prefixes: &[&str]) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// Runs a command, whose output goes where this program's does.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| not_started(command))?;
    if !status.success() {
        bail!("`{}` failed ({status}); what it printed is above", command_line(command));
    }
    Ok(())
}

/// Runs a command and returns its stdout.
///
/// # Errors
/// It cannot be started, fails (the error then has its stderr), or prints what is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| not_started(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", command_line(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed what is not UTF-8", command_line(command)))
}

/// Tells whether a command can be started and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    match command.output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| not_started(command)),
    }
}

/// The search path, with the directories of `cargo install` and of the administrator's programs added.
pub(crate) fn search_path() -> OsString {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = env::split_paths(&path).chain(home.map(|home| home.join("bin"))).chain(more);
    env::join_paths(all).unwrap_or(path)
}

/// Announces a step on stderr.
pub(crate) fn heading(text: &str) {
    eprintln!("\n==> {text}");
}

fn not_started(command: &Command) -> String {
    format!("cannot start {} (`{}`)", command.get_program().display(), command_line(command))
}

/// The command as one would type it, with the name of the program instead of its path.
fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
