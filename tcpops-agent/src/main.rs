//! The one binary: the agent, and the commands that talk to it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tcpops_agent::cli::main()
}
