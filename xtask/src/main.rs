//! Development tasks: `cargo xtask <task>`.
//!
//! The tasks build what ships, check it and try it. Each is one module; [`process`] starts other programs, [`files`]
//! reads and writes files, and [`workspace`] knows the packages and directories.
#![forbid(unsafe_code)]

mod ebpf;
mod lint;
mod run;
mod test;
mod vm;

mod files;
mod needs;
mod process;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::workspace::Workspace;

/// Development tasks of tcpops.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
enum Task {
    /// Build the agent and start it in the foreground (as root).
    Run(run::Args),
    /// Run every check and test, as continuous integration does (as root).
    Test(test::Args),
    /// Run the end-to-end tests, or a command, on each supported kernel, in a virtual machine (as root).
    Vm(vm::Args),
    /// Check formatting, clippy, and the project's own rules about who may import what.
    Lint(lint::Args),
    /// Build the kernel programs and write the object that ships, with its manifest.
    BuildEbpf(ebpf::Args),
}

fn main() -> ExitCode {
    let task = Task::parse();
    let succeeded = |()| ExitCode::SUCCESS;
    let done = Workspace::load().and_then(|workspace| match task {
        Task::Run(args) => run::run(&workspace, &args).map(succeeded),
        Task::Test(args) => test::run(&workspace, &args).map(succeeded),
        Task::Vm(args) => vm::run(&workspace, &args),
        Task::Lint(args) => lint::run(&workspace, &args).map(succeeded),
        Task::BuildEbpf(args) => ebpf::run(&workspace, &args).map(succeeded),
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
