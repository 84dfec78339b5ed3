//! `vzpid`: which container a process is in, by its control group.

use std::io::Read;

use super::super::args::{self, flag};
use super::super::exit::{Refusal, Tool};
use super::{finish, print, settings};

pub(crate) const USAGE: &str =
    "Usage: vzpid [-p] <pid> [<pid> ...]\n       vzpid [-p] -    take pids from standard input";

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let said = args::parse(&[flag("").short('p'), flag("help").short('h')], words);
    let said = said.map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    if said.words.is_empty() {
        return Err(Refusal::new(1, USAGE));
    }
    let mut pids = said.words.clone();
    if pids == ["-"] {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Refusal::new(1, error.to_string()))?;
        pids = text.split_whitespace().map(str::to_owned).collect();
    }
    let inner = said.has("p");
    let root = settings().cgroup_root;
    let mut text = if inner { "Pid\tVPid\tCTID\tName\n" } else { "Pid\tCTID\tName\n" }.to_owned();
    let mut missing = Vec::new();
    for pid in pids {
        match pid.parse::<u32>().ok().and_then(|pid| look(pid, &root)) {
            Some((ctid, vpid, name)) if inner => text += &format!("{pid}\t{vpid}\t{ctid}\t{name}\n"),
            Some((ctid, _, name)) => text += &format!("{pid}\t{ctid}\t{name}\n"),
            None => missing.push(pid),
        }
    }
    print(&text);
    if missing.is_empty() {
        Ok(0)
    } else {
        Err(Refusal::new(1, format!("no such process: {}", missing.join(" "))))
    }
}

/// The ctid of a process (0 is the host), its pid inside, and its name.
fn look(pid: u32, root: &str) -> Option<(u32, String, String)> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let ctid = read("cgroup")?.lines().find_map(|line| ctid_of(line, root)).unwrap_or(0);
    let status = read("status")?;
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let vpid = field("NSpid:")?.split_whitespace().next_back()?.to_owned();
    Some((ctid, vpid, crate::cli::output::harmless(field("Name:")?).to_string()))
}

/// `0::/vzd/101/init`: the number below the root's group.
fn ctid_of(line: &str, root: &str) -> Option<u32> {
    let path = line.splitn(3, ':').nth(2)?;
    path.strip_prefix('/')?.strip_prefix(root)?.strip_prefix('/')?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::ctid_of;

    #[test]
    fn the_group_tells() {
        for (line, ctid) in [
            ("0::/vzd/101", Some(101)),
            ("3:cpu:/vzd/101/init/x", Some(101)),
            ("0::/vzd2/101", None),
            ("0::/vzd", None),
            ("0::/user.slice/vzd/101", None),
        ] {
            assert_eq!(ctid_of(line, "vzd"), ctid, "{line}");
        }
    }
}
