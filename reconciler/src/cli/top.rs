//! `vzd top`: what VEs use right now, again and again: on a terminal as a screen that can be sorted, else
//! as tables or JSON for a pipe.
//!
//! What is shown is computed in `rates`; the screen is drawn in `screen`.

mod rates;
mod screen;

use std::io::IsTerminal;
use std::time::Duration;

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::output::Paint;
use crate::cli::select::Chosen;
use crate::cli::table::{Cell, Table};
use crate::control::{Selector, VeUsage};
use crate::engine::Access;
use crate::settings::Settings;

use rates::{Row, Sort, rows, size};

/// Options of `vzd top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
    /// Print a table again and again instead of using the screen; also when stdout is no terminal
    #[arg(short, long)]
    batch: bool,
    /// Print one table and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(short, long, default_value = "2", value_name = "SECONDS", value_parser = delay)]
    delay: Duration,
    /// Order: cpu, memory, io, processes, failures or name
    #[arg(short, long, value_enum, default_value = "cpu", value_name = "KEY", hide_possible_values = true)]
    sort: Sort,
}

fn delay(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a number of seconds from 0.1 to 3600".to_owned())
}

/// Shows what VEs use.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let (once, every, sort) = (args.once, args.delay, args.sort);
    let on_screen = !(once || args.batch || cx.out.is_data()) && std::io::stdout().is_terminal();
    let look = Look { select: args.ves.or_all(), settings: cx.settings.clone() };
    if on_screen && screen::run(&look, every, sort)? {
        return Ok(OK);
    }
    let mut before = look.take()?;
    loop {
        std::thread::sleep(every);
        let now = look.take()?;
        let rows = rows(&before, &now, sort, false);
        match cx.out.is_data() {
            true if once => cx.out.data(&rows)?,
            true => cx.out.item(&rows)?,
            false => cx.out.text(&format!("{}\n", table(&rows).render("", cx.out.colour)))?,
        }
        if once || cx.out.is_closed() {
            return Ok(OK);
        }
        before = now;
    }
}

/// Whom to ask about which VEs.
struct Look {
    select: Selector,
    settings: Settings,
}

impl Look {
    fn take(&self) -> Result<Vec<VeUsage>, Failure> {
        Ok(connect(&self.settings, Access::Read)?.usage(&self.select)?)
    }
}

/// VEs in their order.
fn table(rows: &[Row]) -> Table {
    let mut table =
        Table::new(&["NAME", "CTID", "STATE", "CPU%", "MEMORY", "READ/s", "WRITE/s", "PROCS", "FAILING"]);
    for row in rows {
        let per_second = |rate: Option<f64>| rate.map(rates::whole).map(size).unwrap_or_default();
        let failing = row.failing.iter().map(|(name, times)| format!("{name}+{times}")).collect::<Vec<_>>();
        table.row([
            Cell::from(&row.name),
            row.ctid.map(|ctid| ctid.to_string()).unwrap_or_default().into(),
            row.state.word().into(),
            row.cpu_percent.map(|percent| format!("{percent:.1}")).unwrap_or_default().into(),
            row.memory_bytes.map(size).unwrap_or_default().into(),
            per_second(row.read_bytes_per_second).into(),
            per_second(row.written_bytes_per_second).into(),
            row.processes.map(|number| number.to_string()).unwrap_or_default().into(),
            Cell::painted(failing.join(" "), Some(Paint::Bad)),
        ]);
    }
    table
}
