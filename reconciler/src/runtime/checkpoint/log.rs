//! Why CRIU failed, in one sentence, from its log.

use std::path::Path;

/// Reported whatever else is wrong, and harmless.
const NOISE: &[&str] = &["rlimit:", "Can't create a temporary directory"];

/// Its last words, which only say that it failed.
const CLOSING: &[&str] = &["Dumping FAILED", "Restoring FAILED", "Killing processes", "killed by signal"];

/// What its words mean for whoever runs the VE: a part of them, and the sentence.
const MEANINGS: &[(&str, &str)] = &[
    (
        "ctty inheritance detected",
        "a process has /dev/tty open on the VE's console, as a shell with job control has",
    ),
    ("io_uring", "a process uses io_uring"),
    (
        "Can't dump nested user namespace",
        "a process has a user namespace of its own, as containers and sandboxes have",
    ),
    (
        "Can't dump nested pid namespace",
        "a process has a pid namespace of its own, as containers and sandboxes have",
    ),
    ("Can't dump nested cgroup namespace", "a process has a cgroup namespace of its own, as containers have"),
    ("time_for_children", "a process has a time namespace of its own"),
    ("mqueue isn't empty", "there is a POSIX message queue"),
    ("Unknown socket collected", "a process has a socket of a kind that cannot be kept"),
    ("Unsupported proto", "a process has a socket of a protocol that cannot be kept"),
    ("shorter than path prefix", "a process that was put into the VE by exec or enter is in it"),
    ("Can't dump file", "a process has a file open of a kind that cannot be kept"),
    ("Can't lookup mount", "a process has a file open on a mount that is not in the VE"),
    ("Unseizable non-zombie", "a process hangs in the kernel"),
    ("Can't bind inet socket", "a process has a socket at an address that the VE does not have"),
];

/// What every error begins with, after the time and the process that tells it, if they are told.
const ERROR: &str = "Error (";

/// The cause of a failure, as the log in `dir` tells it; the first error of it in CRIU's own words, if nothing better
/// is known.
pub fn cause(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    of_text(&String::from_utf8_lossy(&text))
}

fn of_text(text: &str) -> Option<String> {
    let error = |line: &&str| line.contains(ERROR);
    let mut told = text.lines().filter(error).map(words);
    let first = told.find(|told| !NOISE.iter().chain(CLOSING).any(|word| told.contains(word)))?;
    let meaning = MEANINGS.iter().find(|(part, _)| first.contains(part));
    Some(meaning.map_or_else(|| first.to_owned(), |(_, meaning)| format!("{meaning} ({first})")))
}

/// A line without its time and its place in CRIU's source.
fn words(line: &str) -> &str {
    let message = line.split_once(ERROR).map_or(line, |(_, rest)| rest);
    message.split_once("): ").map_or(message, |(_, message)| message).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_that_is_none_of_the_harmless_ones() {
        let log = "(00.05) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
                   (00.06) Warn  (x.c:1): whatever\n\
                   (00.19) Error (criu/tty.c:2281): tty: ctty inheritance detected sid/pgrp 12, no PTY peer\n\
                   (00.20) Error (criu/cr-dump.c:1975): Dumping FAILED.\n";
        let told = of_text(log).unwrap();
        assert!(told.starts_with("a process has /dev/tty open"), "{told}");
        assert!(told.ends_with("(tty: ctty inheritance detected sid/pgrp 12, no PTY peer)"), "{told}");
        assert_eq!(of_text("(00.20) Error (criu/cr-dump.c:1975): Dumping FAILED.\n"), None);
        assert_eq!(of_text("     1: Error (criu/x.c:1): odd\n").unwrap(), "odd");
    }
}
