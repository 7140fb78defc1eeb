//! `docs/performance.md` and its drawings.

use std::path::Path;

use anyhow::Result;

use crate::bench::report::plot;
use crate::bench::report::run::Run;
use crate::bench::report::table;
use crate::files;

const DOCUMENT: &str = "docs/performance.md";
const DRAWINGS: &str = "docs/performance";

/// Writes both below the root of the checkout.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write(root: &Path, run: &Run) -> Result<()> {
    let mut drawings = String::new();
    files::make_directory(&root.join(DRAWINGS))?;
    for curve in &run.curves {
        let name = format!("{}.svg", curve.id);
        plot::draw(curve, &root.join(DRAWINGS).join(&name))?;
        drawings.push_str(&format!("\n![{}](performance/{name})\n", curve.title));
    }
    files::write(&root.join(DOCUMENT), text(run, &drawings))
}

fn text(run: &Run, drawings: &str) -> String {
    let machine = &run.machine;
    let kind = if run.is_quick { "a **quick look** (`--quick`), not a full run" } else { "a full run" };
    format!(
        "\
# Performance

What tcpops costs, measured beside other programs in one run. This page is written by

```
cargo xtask bench --docs     # as root; --quick takes a look of a few minutes
```

These numbers are from {kind}, of commit `{commit}`, in {minutes} minutes, on {cores} x {processor}, {memory} MiB, Linux
{kernel}. The load average was {load:.1} when it began: ratios stand a busy machine, times do not.

## How it is measured

A load connects, accepts and closes over the loopback, in a network namespace and a cgroup of its own, on one processor;
the agent runs on another, or on all where the connections are only open. Contenders take turns in rounds of less than a second, in another order each time; a ratio is
that of one contender to another in the same round. Time in which the load waited for its processor does not count; of
the longest handshakes and responses, as many are left out as were probably interrupted so. A figure is the median of all rounds, with the quartiles beside it.
Both ends of a connection are tracked, unless a row says otherwise. *At least* is what the project demands of itself,
*goal* what it aims at.

## Figures

{table}

## What cost depends on
{drawings}",
        commit = run.commit,
        minutes = run.seconds.div_ceil(60),
        cores = machine.cores,
        processor = machine.processor,
        memory = machine.memory_mib,
        kernel = machine.kernel,
        load = machine.load_average,
        table = table::markdown(&run.figures),
    )
}
