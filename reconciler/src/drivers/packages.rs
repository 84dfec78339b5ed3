//! Software inside a VE, IO half: its own package manager is asked and told, by a script that runs inside with the VE's
//! rights ([`SCRIPT`]). ADR 0020.
//!
//! Nothing of what a VE answers is believed beyond the names that it was asked for, and nobody waits long for it.

mod jobs;

use std::collections::BTreeSet;
use std::time::Duration;

use vzd_state::reading::Reading;
use vzd_state::subsystem::packages::{Live, Observed, Seen, Work};
use vzd_state::units::Timestamp;

pub use self::jobs::Jobs;
use self::jobs::Question;
use crate::drivers::{Effect, Running, Ve, lifecycle};
use crate::engine::clock;
use crate::error::SysResult;
use crate::keeper::Keeper;
use crate::kernel::process::WaitStatus;
use crate::runtime::enter::{Command, Door, default_env};
use crate::runtime::printed::failure;

/// What is run in the VE.
pub const SCRIPT: &str = include_str!("packages/manager.sh");

/// An answer takes milliseconds.
const ASKED: Duration = Duration::from_secs(20);
/// A large upgrade over a slow line.
const TOLD: Duration = Duration::from_secs(2 * 60 * 60);

/// Asks for the packages that the manifest names. A VE of which nothing is wanted costs nothing, and one that is held
/// still could not answer.
pub fn observe(ve: Ve<'_>, running: &Running, frozen: bool) -> Observed {
    let Some(want) = ve.want.map(|want| &want.packages).filter(|want| want.is_any() && !frozen) else {
        return Observed::default();
    };
    let names: BTreeSet<String> = want.present.union(&want.absent).cloned().collect();
    let question = Question { pid: running.pid, names };
    let seen = lifecycle::door(ve).map_err(|e| e.to_string()).and_then(|door| {
        let (keeper, names) = (ve.host.keeper.clone(), question.names.clone());
        ve.host.packages.seen(&ve.entry.uid, &question, move || ask(&keeper, door, &names))
    });
    Observed { seen: seen.map_or_else(Reading::Unreadable, Reading::Is) }
}

/// Has the package manager begin; how it ends is seen later.
pub fn apply_live(ve: Ve<'_>, step: &Live, _: &Running) -> SysResult<Effect> {
    let Live::Begin(work) = step;
    let (keeper, door, told) = (ve.host.keeper.clone(), lifecycle::door(ve)?, work.clone());
    let begun = ve.host.packages.begin(&ve.entry.uid, work, move || perform(&keeper, door, &told))?;
    Ok(if begun { Effect::Changed } else { Effect::AlreadySo })
}

fn command(words: impl IntoIterator<Item = String>) -> Command {
    let own = ["/bin/sh", "-c", SCRIPT, "vzd-packages"].into_iter().map(str::to_owned);
    Command { argv: own.chain(words).collect(), env: default_env("dumb"), cwd: "/".into() }
}

fn ask(keeper: &Keeper, door: Door, names: &BTreeSet<String>) -> Result<Seen, String> {
    let words = std::iter::once("query".to_owned()).chain(names.iter().cloned());
    let (status, printed) = keeper.capture(door, command(words), ASKED).map_err(|e| e.to_string())?;
    check(status, &printed)?;
    let mut seen = Seen::default();
    for line in printed.lines() {
        match line.split_once(' ') {
            Some(("installed", name)) if names.contains(name) => drop(seen.installed.insert(name.to_owned())),
            Some(("upgraded", seconds)) => {
                let millis = seconds.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000));
                // One of the future is none.
                seen.upgraded = millis.map(Timestamp).filter(|at| (0..=clock::now().0).contains(&at.0));
            }
            _ => {}
        }
    }
    Ok(seen)
}

fn perform(keeper: &Keeper, door: Door, work: &Work) -> Result<(), String> {
    let Work { install, remove, upgrade } = work;
    let mode = upgrade.map_or("none", |upgrade| upgrade.word());
    let words = ["apply", mode].into_iter().chain(install.iter().map(String::as_str));
    let words = words.chain(["--"]).chain(remove.iter().map(String::as_str)).map(str::to_owned);
    let (status, printed) = keeper.capture(door, command(words), TOLD).map_err(|e| e.to_string())?;
    check(status, &printed)
}

/// Why a run of the script did not end well, and the last of what it printed.
fn check(status: Option<WaitStatus>, printed: &str) -> Result<(), String> {
    failure("its package manager", status, printed).map_or(Ok(()), Err)
}
