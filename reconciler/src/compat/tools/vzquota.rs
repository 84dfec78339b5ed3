//! `vzquota`: what a container uses of its disk. Quotas are set by manifests and are always on.

use vzd_state::units::Timestamp;

use super::super::args::{self, flag};
use super::super::exit::{Refusal, Tool};
use super::{control, finish, print};
use crate::control::Selector;
use crate::engine::clock;

pub(crate) const USAGE: &str = "Usage: vzquota stat|show <CTID|NAME> [-t]";
/// It is on already.
const RUNNING: u8 = 5;
/// It is looked at, and kept, while the container runs.
const NOT_RUNNING: u8 = 6;
/// There is none.
const NO_QUOTA: u8 = 11;

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let said = args::parse(&[flag("").short('t'), flag("").short('f'), flag("help").short('h')], words);
    let said = said.map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    let [command, id] = said.words.as_slice() else { return Err(Refusal::new(1, USAGE)) };
    let select = Selector { names: vec![id.clone()], ..Selector::default() };
    let documents = control()?.list(&select, false).map_err(|error| Refusal::of(1, &error))?;
    let document = documents.first().ok_or_else(|| Refusal::new(1, USAGE))?;
    let disk = document.status.resources.get("disk").filter(|disk| disk["diskspace"].is_object());
    let disk = disk.ok_or_else(|| match document.status.init_pid {
        Some(_) => Refusal::new(NO_QUOTA, format!("container {id} has no disk quota")),
        None => Refusal::new(NOT_RUNNING, format!("container {id} is down, and so is its quota")),
    })?;
    match command.as_str() {
        "stat" | "show" => {
            print(&text(disk, clock::now(), said.has("t")));
            Ok(0)
        }
        "on" | "init" => Err(Refusal::new(RUNNING, "the quota is on: it always is")),
        "off" | "drop" | "setlimit" | "setlimit2" | "reload2" => {
            let message = "limits are in the manifest: `vzctl set --diskspace ... --diskinodes ... --save`";
            Err(Refusal::new(1, message))
        }
        _ => Err(Refusal::new(1, USAGE)),
    }
}

/// The table; with `ugids` what is told of users' quotas, which the container's own tools list.
fn text(disk: &serde_json::Value, now: Timestamp, ugids: bool) -> String {
    let mut text =
        format!("{:>11}{:>15}{:>16}{:>15}{:>9}\n", "resource", "usage", "softlimit", "hardlimit", "grace");
    for (name, row, unit) in [("diskspace", "1k-blocks", 1024), ("diskinodes", "inodes", 1)] {
        let of = &disk[name];
        let number = |key: &str| of[key].as_u64().map(|number| number / unit);
        let bound = |key: &str| number(key).map_or_else(|| "unlimited".to_owned(), |is| is.to_string());
        let exceeded = number("used").zip(number("soft")).is_some_and(|(used, soft)| used > soft);
        let left = || {
            let ends: Timestamp = serde_json::from_value(of["graceEnds"].clone()).ok()?;
            (ends > now).then(|| ends.since(now).0 / 1000)
        };
        let grace = match left().filter(|_| exceeded) {
            Some(seconds) => format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
            None if exceeded => "none".to_owned(),
            None => String::new(),
        };
        // btrfs counts no inodes.
        let usage = number("used").map_or_else(|| "-".to_owned(), |used| used.to_string());
        let line = format!("{row:>11}{usage:>15}{:>16}{:>15}{grace:>9}", bound("soft"), bound("hard"));
        text += &format!("{}\n", line.trim_end());
    }
    if ugids {
        text += &match disk["quotaugidlimit"].as_u64() {
            Some(limit) => format!("User/group quota: on,active\nUgids: limit {limit}\n"),
            None => "User/group quota: off,inactive\n".to_owned(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_is_openvzs() {
        let space = json!({ "used": 39_199_744, "limit": 1_181_116_416u64, "soft": 1_073_741_824u64, "hard": 1_181_116_416u64, "graceEnds": null });
        let inodes = json!({ "used": 201, "limit": null, "soft": 200, "hard": null, "graceEnds": "1970-01-01T01:02:03.000Z" });
        let disk = json!({ "backend": "project", "diskspace": space, "diskinodes": inodes });
        assert_eq!(
            text(&disk, Timestamp(0), true),
            "   resource          usage       softlimit      hardlimit    grace\n  1k-blocks          38281         1048576        1153434\n     \
             inodes            201             200      unlimited 01:02:03\nUser/group quota: off,inactive\n"
        );
        assert!(text(&disk, Timestamp(10_000_000), false).ends_with("unlimited     none\n"));
        let uncounted = json!({ "backend": "btrfs", "diskspace": disk["diskspace"] });
        let last = "     inodes              -       unlimited      unlimited\n";
        assert!(text(&uncounted, Timestamp(0), false).ends_with(last));
    }
}
