//! The command line. `tcpops agent` is the daemon; every other verb is a client of it.

mod agent;
mod alive;
mod change;
mod close;
mod conn;
mod context;
mod detach;
mod events;
mod exit;
mod filter;
mod human;
mod id;
mod keepalive;
mod lifetime;
mod output;
mod rule;
mod state;
mod status;
mod table;
mod target;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use agent::AgentArgs;
use alive::AliveArgs;
use close::CloseArgs;
use conn::ConnCommand;
use context::{Context, GlobalArgs};
use detach::DetachArgs;
use events::EventsArgs;
use exit::{Exit, Failure};
use id::Id;
use keepalive::KeepaliveCommand;
use lifetime::LifetimeCommand;
use output::Output;
use rule::RuleCommand;

const EXAMPLES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 agent unreachable, 4 no such connection, 5 done in part.

Examples:
  tcpops conn list --state established
  tcpops keepalive enable 17 --idle 60s --count 5 --interval 5s
  tcpops lifetime set remote:192.0.2.7:5060 --idle 10m
  tcpops rule apply rules.toml";

/// State, keepalive and lifetime of every TCP connection on this host, for any program, unmodified
#[derive(Clone, Debug, Parser)]
#[command(name = "tcpops", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Run the agent, which all other verbs talk to
    #[command(after_help = agent::EXAMPLES)]
    Agent(AgentArgs),
    /// Ask the agent.
    #[command(flatten)]
    Ask(Question),
}

/// A request to the agent.
#[derive(Clone, Debug, Subcommand)]
enum Question {
    /// List connections, or show one
    #[command(subcommand)]
    Conn(ConnCommand),
    /// Print the state of a connection as a code
    #[command(after_help = state::EXAMPLES)]
    State(Id),
    /// Tell whether a connection is alive, by the exit code too
    #[command(after_help = alive::EXAMPLES)]
    Alive(AliveArgs),
    /// Turn keepalive of a connection on or off
    #[command(subcommand)]
    Keepalive(KeepaliveCommand),
    /// Set when a connection is to be closed
    #[command(subcommand)]
    Lifetime(LifetimeCommand),
    /// Close a connection now
    #[command(after_help = close::EXAMPLES)]
    Close(CloseArgs),
    /// List, export, apply or test rules
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Print what happens to connections, and why they end
    #[command(after_help = events::EXAMPLES)]
    Events(EventsArgs),
    /// Show the state of the agent
    #[command(after_help = status::EXAMPLES)]
    Status,
    /// Undo everything and end the agent
    #[command(after_help = detach::EXAMPLES)]
    Detach(DetachArgs),
}

/// Runs the command line, reports a failure on standard error, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that closes its end early is no failure.
            let _closed = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            exit::report(&failure.message());
            failure.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.verb {
        Verb::Agent(mut args) => {
            args.options.socket = cli.global.given_socket();
            agent::run(args)
        }
        Verb::Ask(question) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let mut context = Context { socket: cli.global.socket(), out: Output::stdout(cli.global.output) };
            runtime.map_err(Failure::Runtime)?.block_on(ask(question, &mut context))
        }
    }
}

async fn ask(question: Question, context: &mut Context) -> Result<Exit, Failure> {
    let answered = match question {
        Question::Conn(command) => command.run(context).await,
        Question::State(id) => state::state(id, context).await,
        Question::Alive(args) => alive::run(args, context).await,
        Question::Keepalive(command) => command.run(context).await,
        Question::Lifetime(command) => command.run(context).await,
        Question::Close(args) => args.run(context).await,
        Question::Rule(command) => command.run(context).await,
        Question::Events(args) => args.run(context).await,
        Question::Status => status::status(context).await,
        Question::Detach(args) => args.run(context).await,
    };
    // The part of the answer that came before a failure is written too.
    let flushed = context.out.flush();
    let exit = answered?;
    flushed?;
    Ok(exit)
}

#[cfg(test)]
mod tests;
