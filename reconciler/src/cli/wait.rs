//! `vzd wait`: until VEs have a condition. Ends with 0, or with 124 when it did not come in time.

use std::time::Instant;

use vzd_schema::v1::Duration;
use vzd_state::status::ConditionType;

use crate::cli::Context;
use crate::cli::connect::{connect, look};
use crate::cli::failure::{OK, Outcome, TIMEOUT};
use crate::cli::progress::Progress;
use crate::cli::select::ChosenOrAll;
use crate::engine::Access;

/// How long one question to a controller lasts.
const TURN: std::time::Duration = std::time::Duration::from_millis(500);

/// Options of `vzd wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: ChosenOrAll,
    /// What to wait for; STATUS is True, False or Unknown
    #[arg(long = "for", default_value = "condition=Ready", value_name = "condition=NAME[=STATUS]", value_parser = wish)]
    wish: Wish,
    /// At most so long
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    timeout: Duration,
}

/// A condition and its status.
#[derive(Debug, Clone)]
struct Wish {
    condition: String,
    status: String,
}

fn wish(text: &str) -> Result<Wish, String> {
    let wrong = || "write it as condition=NAME or condition=NAME=STATUS".to_owned();
    let condition = text.strip_prefix("condition=").ok_or_else(wrong)?;
    let (condition, status) = condition.split_once('=').unwrap_or((condition, "True"));
    let known = ["true", "false", "unknown"].contains(&status.to_ascii_lowercase().as_str());
    if condition.is_empty() || !known {
        return Err(wrong());
    }
    ConditionType::named(condition)?;
    Ok(Wish { condition: condition.to_owned(), status: status.to_owned() })
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map_err(|wrong: vzd_schema::v1::ScalarError| wrong.to_string())
}

/// Waits.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let select = args.ves.required()?;
    let deadline = Instant::now() + std::time::Duration::from_millis(args.timeout.millis());
    look(cx)?;
    let came = {
        let _progress = Progress::start("waiting");
        loop {
            // Asked for afresh each time: a controller may come up meanwhile, and one that looks for
            // itself sees only what was so when it looked.
            let control = connect(&cx.settings, Access::Read)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let turn = u64::try_from(left.min(TURN).as_millis()).unwrap_or(0);
            let came = control.wait(&select, &args.wish.condition, &args.wish.status, turn)?;
            if came || left <= TURN {
                break came;
            }
        }
    };
    if !came {
        cx.out.note(&format!("condition {} is not {} in time", args.wish.condition, args.wish.status));
    }
    Ok(if came { OK } else { TIMEOUT })
}
