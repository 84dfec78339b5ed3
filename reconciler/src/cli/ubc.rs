//! `vzd ubc`: the user beancounters of running VEs, as a table, as JSON, or as /proc/user_beancounters.

use std::collections::BTreeMap;
use std::time::Duration;

use vzd_schema::v1::Size;
use vzd_state::subsystem::beancounters::{Counter, Enforcement, UNLIMITED, Unit};

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{OK, Outcome};
use crate::cli::output::Paint;
use crate::cli::select::Chosen;
use crate::cli::table::{Cell, Table};
use crate::control::{CounterView, VeCounters};
use crate::engine::Access;
use crate::user_beancounters::user_beancounters;

/// Options of `vzd ubc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
    /// Print the exact text of /proc/user_beancounters
    #[arg(long, conflicts_with = "watch")]
    text: bool,
    /// Only counters that are bounded or were refused
    #[arg(short, long)]
    quiet: bool,
    /// Show again every so many seconds, with what was refused meanwhile
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<u64>,
}

/// Shows counters.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let select = args.ves.or_all();
    let mut before = BTreeMap::new();
    loop {
        let ves = connect(&cx.settings, Access::Read)?.counters(&select)?;
        if cx.out.is_data() {
            cx.out.data(&ves)?;
        } else if args.text {
            cx.out.text(&user_beancounters(&ves))?;
        } else {
            let clear = if args.watch.is_some() { "\x1b[H\x1b[2J" } else { "" };
            let tables: Vec<_> = ves.iter().map(|ve| table(ve, &before, args.quiet, cx.out.colour)).collect();
            cx.out.text(&format!("{clear}{}", tables.join("\n")))?;
        }
        let Some(seconds) = args.watch.filter(|_| !cx.out.is_closed()) else { return Ok(OK) };
        before = failcnts(&ves);
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

type Failcnts = BTreeMap<(String, Counter), u64>;

fn failcnts(ves: &[VeCounters]) -> Failcnts {
    let of = |ve: &VeCounters| {
        let name = ve.name.clone();
        ve.counters.iter().map(move |is| ((name.clone(), is.name), is.failcnt)).collect::<Vec<_>>()
    };
    ves.iter().flat_map(of).collect()
}

fn table(ve: &VeCounters, before: &Failcnts, quiet: bool, colour: bool) -> String {
    let mut table =
        Table::new(&["COUNTER", "HELD", "MAXHELD", "BARRIER", "LIMIT", "USE", "FAILCNT", "ENFORCED"]);
    for is in &ve.counters {
        if quiet && is.limit == UNLIMITED && is.failcnt == 0 {
            continue;
        }
        let number = |number: Option<u64>| number.map(|number| amount(number, is.unit)).unwrap_or_default();
        let new =
            before.get(&(ve.name.clone(), is.name)).map_or(0, |before| is.failcnt.saturating_sub(*before));
        let failcnt = if new > 0 { format!("{} (+{new})", is.failcnt) } else { is.failcnt.to_string() };
        let (bar, paint) = bar(is);
        let enforced = match &is.enforcement {
            Enforcement::Enforced(by) => format!("yes ({by})"),
            Enforcement::Accounted(why) => format!("no ({why})"),
        };
        table.row([
            Cell::from(is.name.to_string()),
            number(is.held).into(),
            number(is.maxheld).into(),
            number(Some(is.barrier)).into(),
            number(Some(is.limit)).into(),
            Cell::painted(bar, paint),
            Cell::painted(failcnt, (is.failcnt > 0).then_some(Paint::Bad)),
            enforced.into(),
        ]);
    }
    format!("{} ({})\n{}", Paint::Strong.text(colour, &ve.name), ve.ctid, table.render("  ", colour))
}

/// Pages are shown as sizes, as vzubc does.
fn amount(number: u64, unit: Unit) -> String {
    match (number, unit) {
        (UNLIMITED, _) => "unlimited".to_owned(),
        (number, Unit::Items) => number.to_string(),
        (bytes, Unit::Bytes) => size(bytes),
        (pages, Unit::Pages) => size(pages.saturating_mul(4096)),
    }
}

/// At most four digits before the unit.
pub(super) fn size(bytes: u64) -> String {
    let shift = [40, 30, 20, 10].into_iter().find(|shift| bytes >> shift >= 10).unwrap_or(0);
    Size::from_bytes(bytes >> shift << shift).to_string()
}

const BAR: u64 = 10;

/// How much of the limit is held.
fn bar(is: &CounterView) -> (String, Option<Paint>) {
    let (Some(held), true) = (is.held, is.limit != UNLIMITED && is.limit > 0) else {
        return (String::new(), None);
    };
    let full = held.saturating_mul(BAR).div_ceil(is.limit).min(BAR);
    let filled = usize::try_from(full).unwrap_or(0);
    let percent = held.saturating_mul(100) / is.limit;
    let paint = match percent {
        0..80 => Paint::Good,
        80..100 => Paint::Warn,
        _ => Paint::Bad,
    };
    (format!("{}{} {percent}%", "#".repeat(filled), ".".repeat(10 - filled)), Some(paint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user_beancounters::tests::counters;

    #[test]
    fn a_table_shows_only_what_matters_when_told_to() {
        let text = table(&counters(), &Failcnts::new(), true, false);
        assert!(text.contains("kmemsize") && text.contains("numproc") && !text.contains("numfile"), "{text}");
        let before = Failcnts::from([(("web".to_owned(), Counter::Numproc), 0)]);
        assert!(table(&counters(), &before, true, false).contains("1 (+1)"));
    }

    #[test]
    fn pages_are_sizes() {
        assert_eq!(amount(65536, Unit::Pages), "256M");
        assert_eq!(amount(14_790_164, Unit::Bytes), "14M");
        assert_eq!(amount(UNLIMITED, Unit::Items), "unlimited");
        assert_eq!(amount(3, Unit::Pages), "12K");
    }
}
