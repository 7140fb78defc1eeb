//! `bench`: measures the program, beside others, as ratios in one run.
//!
//! Every row of the table belongs to a scene, which makes what it needs (network namespaces, cgroups, agents, loads),
//! measures, and removes it. Nothing is asserted: a figure that falls short is printed as such.

pub(crate) mod enter;
pub(crate) mod load;

mod rows;
mod scenes;

mod agent;
mod bpftool;
mod contender;
mod context;
mod crowd;
mod curve;
mod figure;
mod http;
mod interrupt;
mod object;
mod peers;
mod place;
mod processors;
mod report;
mod rounds;
mod rules;
mod statistics;
mod timing;
mod worker;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::bench::context::Context;
use crate::bench::curve::Curve;
use crate::bench::figure::Figure;
use crate::bench::interrupt::Interrupt;
use crate::bench::place::Ground;
use crate::bench::processors::Processors;
use crate::bench::report::document;
use crate::bench::report::machine::Machine;
use crate::bench::report::run::Run;
use crate::bench::report::table;
use crate::bench::rows::SCENES;
use crate::files;
use crate::needs;
use crate::process::{heading, output};
use crate::run::build_agent;
use crate::workspace::Workspace;

/// The arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Take a look of about a minute.
    #[arg(long)]
    quick: bool,
    /// Measure each figure in so many rounds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Leave out the programs of others.
    #[arg(long)]
    no_peers: bool,
    /// Write what was measured as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure what cost depends on too, and write docs/performance.md with all of it.
    #[arg(long)]
    docs: bool,
    /// The rows to measure; `list` lists them.
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
}

/// Measures, and prints the table.
///
/// # Errors
/// This is not root, a row is unknown, or the bench cannot be set up.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if args.rows.iter().any(|row| row == "list") {
        print!("{}", rows::list());
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = rows::wanted(&args.rows)?;
    if !needs::is_root() {
        bail!("the bench makes network namespaces and cgroups and starts agents: expected root, found another user");
    }
    needs::ensure(false, true)?;
    heading("build the agent");
    let binary = build_agent(workspace)?;
    let start = Instant::now();
    let context = Context {
        binary,
        interrupt: Interrupt::catch()?,
        ground: Ground::new()?,
        processors: Processors::find()?,
        is_quick: args.quick,
        rounds: args.rounds.map(usize::from),
        peers: !args.no_peers,
    };
    let machine = Machine::this()?;
    let (figures, mut failed) = measure(&context, &wanted);
    let curves = if args.docs && !context.interrupt.is_set() { curves(&context) } else { Ok(Vec::new()) };
    let curves = curves.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        failed = true;
        Vec::new()
    });
    // What was measured before an interruption is printed; nothing is written.
    let interrupt = context.interrupt.clone();
    let run = Run {
        machine,
        commit: output(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(&workspace.root))
            .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
        is_quick: args.quick,
        seconds: start.elapsed().as_secs(),
        figures,
        curves,
    };
    drop(context);
    let machine = &run.machine;
    println!("{}\n", table::plain(&run.figures));
    println!(
        "{} x {}, Linux {}; load average at the start {:.1}: the more, the less do times mean; ratios stand it",
        machine.cores, machine.processor, machine.kernel, machine.load_average
    );
    interrupt.check()?;
    if let Some(path) = &args.json {
        files::write(path, serde_json::to_string_pretty(&run).context("a run becomes JSON")? + "\n")?;
    }
    if args.docs {
        document::write(&workspace.root, &run)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn curves(context: &Context) -> Result<Vec<Curve>> {
    heading("measure what cost depends on");
    scenes::curves::run(context)
}

/// Measures the rows, and tells whether one could not be measured.
fn measure(context: &Context, wanted: &[&'static str]) -> (Vec<Figure>, bool) {
    let (mut figures, mut failed) = (Vec::new(), false);
    for (rows, measure) in SCENES {
        let rows: Vec<_> = rows.iter().copied().filter(|row| wanted.contains(row)).collect();
        if rows.is_empty() || context.interrupt.is_set() {
            continue;
        }
        heading(&format!("measure {}", rows.join(", ")));
        match measure(context, &rows) {
            Ok(more) => figures.extend(more),
            Err(_) if context.interrupt.is_set() => {}
            Err(error) => {
                eprintln!("error: {error:#}");
                failed = true;
                figures.extend(rows.iter().map(|row| Figure::missing(row, "", format!("{error:#}"))));
            }
        }
    }
    figures.sort_by_key(|figure| wanted.iter().position(|row| *row == figure.row));
    (figures, failed)
}
