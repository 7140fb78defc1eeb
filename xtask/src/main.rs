//! Development tasks: `cargo xtask <task>`.
//!
//! The tasks build what ships, check it and try it. Each is one module; [`process`] starts other programs, [`files`]
//! reads and writes files, and [`workspace`] knows the packages and directories.
#![forbid(unsafe_code)]

mod bench;
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

use anyhow::Result;
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
    /// Measure the program, beside others, as ratios in one run (as root).
    Bench(bench::Args),
    /// What `bench` starts its loads as.
    #[command(hide = true)]
    BenchLoad(bench::load::Args),
    /// What `bench` starts other programs through.
    #[command(hide = true)]
    BenchEnter(bench::enter::Args),
}

fn main() -> ExitCode {
    let task = Task::parse();
    match start(&task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(task: &Task) -> Result<ExitCode> {
    let workspace = Workspace::load;
    match task {
        Task::Run(args) => run::run(&workspace()?, args)?,
        Task::Test(args) => test::run(&workspace()?, args)?,
        Task::Vm(args) => return vm::run(&workspace()?, args),
        Task::Lint(args) => lint::run(&workspace()?, args)?,
        Task::BuildEbpf(args) => ebpf::run(&workspace()?, args)?,
        Task::Bench(args) => return bench::run(&workspace()?, args),
        Task::BenchLoad(args) => return bench::load::run(args),
        Task::BenchEnter(args) => return bench::enter::run(args),
    }
    Ok(ExitCode::SUCCESS)
}
