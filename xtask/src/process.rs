//! Starting other programs.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What `cargo run` tells the program it starts; passed on, it would mislead another cargo.
const OF_CARGO_RUN: [&str; 6] =
    ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_", "RUST_RECURSION_COUNT"];

/// A cargo command, by the same cargo that started this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    remove_env(&mut command, &OF_CARGO_RUN);
    command
}

/// Takes the variables whose names begin with one of `prefixes` away from a command.
pub(crate) fn remove_env(command: &mut Command, prefixes: &[&str]) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// Runs a command that prints for itself.
///
/// # Errors
/// It cannot be started, or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| not_started(command))?;
    if !status.success() {
        bail!("`{}` failed ({status}); what it printed is above", shown(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed on stdout.
///
/// # Errors
/// It cannot be started, does not succeed (the error then has its stderr), or prints what is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| not_started(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed what is not UTF-8", shown(command)))
}

/// Whether a command can be started and succeeds; nothing is printed.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    match command.output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| not_started(command)),
    }
}

/// Says on stderr what begins now.
pub(crate) fn heading(text: &str) {
    eprintln!("\n==> {text}");
}

fn not_started(command: &Command) -> String {
    format!("cannot start {} (`{}`)", command.get_program().display(), shown(command))
}

/// The command as one would type it, with the program's name alone.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
