//! `vzd events`: what happened, and with `-f` what happens.

use std::time::Duration;

use vzd_schema::Code;

use crate::cli::Context;
use crate::cli::connect::{connect, is_served};
use crate::cli::failure::{OK, Outcome};
use crate::cli::shown;
use crate::control::{ControlResult, EventQuery, LoggedEvent};
use crate::engine::Access;

/// How long one question waits for an answer while following.
const WAIT_MS: u64 = 20_000;
/// Between two questions where no controller answers: what commands by themselves do is seen too.
const RETRY: Duration = Duration::from_secs(2);

/// Options of `vzd events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of this VE only
    #[arg(value_name = "VE")]
    ve: Option<String>,
    /// Go on with those that come
    #[arg(short, long)]
    follow: bool,
    /// At most so many of those that were
    #[arg(short, long, default_value_t = 1000, value_name = "N")]
    tail: usize,
}

/// Shows events.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let mut query = EventQuery { ve: args.ve.clone(), ..EventQuery::default() };
    let past = ask(&query, cx)?;
    show(&past[past.len().saturating_sub(args.tail)..], args.follow, cx)?;
    query.after = Some(past.last().map_or(0, |event| event.seq));
    let mut lost = false;
    while args.follow && !cx.out.is_closed() {
        let served = is_served(&cx.settings);
        query.wait_ms = if served { WAIT_MS } else { 0 };
        match ask(&query, cx) {
            Ok(new) => {
                lost = false;
                query.after = new.last().map(|event| event.seq).or(query.after);
                show(&new, true, cx)?;
                if !served {
                    std::thread::sleep(RETRY);
                }
            }
            // The controller restarts: the numbers go on.
            Err(error) if error.code == Code::DaemonUnreachable.as_str() => {
                if !std::mem::replace(&mut lost, true) {
                    cx.out.note("the controller went away; waiting for it");
                }
                std::thread::sleep(RETRY);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(OK)
}

fn ask(query: &EventQuery, cx: &Context) -> ControlResult<Vec<LoggedEvent>> {
    connect(&cx.settings, Access::Read)?.events(query)
}

fn show(events: &[LoggedEvent], stream: bool, cx: &mut Context) -> Result<(), crate::cli::failure::Failure> {
    if cx.out.is_data() && !stream {
        return cx
            .out
            .data(&serde_json::json!({ "apiVersion": "vzd/v1", "kind": "EventList", "items": events }));
    }
    for event in events {
        if cx.out.is_data() {
            cx.out.item(event)?;
        } else {
            let line = shown::event(event, cx.out.colour);
            cx.out.line(&line)?;
        }
    }
    Ok(())
}
