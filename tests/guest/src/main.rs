//! A static program that runs inside a VE: a small init, and the witness that tells tests what a VE sees and may do.
//!
//! It is linked without shared libraries so that it runs in any root file system. Everything it finds out goes to stdout
//! as JSON. It must never do harm where a probe that should be refused is allowed, and it must not know vzd: whatever
//! container it runs in, it gives the same kind of answer.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool whose output is its purpose"
)]

mod ask;
mod drive;
mod init;
mod ipc;
mod keep;
mod mapped;
mod pause;
mod probe;
mod quota;
mod remember;
mod report;
mod sys;

use std::process::ExitCode;

const USAGE: &str = "\
usage: guest init [--stubborn] [--exit-after MS[:CODE]] [--children N]
       guest pause [MARKER-FILE]
       guest mapped FILE                                (counts in mapped memory until that is torn)
       guest remember MEGABYTES FILE [A_SECOND]         (checks and changes all of that memory until it is torn)
       guest remember-text MEGABYTES FILE [A_SECOND]    (the same, half of it text)
       guest keep KIND FILE                             (makes something; once FILE.go is there, tells whether it is as it was)
       guest report
       guest send INTERFACE HEX...                      (frames, as they are)
       guest ask udp|tcp ADDRESS:PORT HEX [TIMES]       (a message, as it is; what comes back)
       guest quota user|group ID [HARD]                 (a hard limit of space, in KiB, set and told)
       guest grace user|group [SECONDS]                 (a grace time, set and told)
       guest probe [--list] [--all | NAME...] [--outside PID[:NAME],...]
       guest drive KIND COUNT                           (holds what it got until it is killed; kinds: guest drive kinds)
       guest ipc KIND create|lookup|hold|remove KEY     (also: guest ipc-KIND ...; kinds: guest ipc kinds)";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let called_as = arguments.next().unwrap_or_default();
    let mut words: Vec<String> = arguments.collect();
    // Installed as /sbin/init or /init it is called without a verb.
    if called_as.rsplit('/').next() == Some("init") {
        words.insert(0, "init".to_owned());
    }
    match run(&words) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(Failure::Usage(why)) => {
            eprintln!("guest: {why}\n{USAGE}");
            ExitCode::from(64)
        }
        Err(Failure::Io(error)) => {
            eprintln!("guest: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Usage(String),
    Io(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Io(error)
    }
}

fn run(words: &[String]) -> Result<i32, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let usage = |why: &str| Err(Failure::Usage(why.to_owned()));
    match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(0)
        }
        ["init", options @ ..] => match init::Options::parse(options) {
            Ok(options) => Ok(init::run(&options)?),
            Err(why) => usage(&why),
        },
        ["pause"] => Ok(pause::run(None)?),
        ["pause", marker] => Ok(pause::run(Some(marker))?),
        ["ask", protocol, server, message, times @ ..] => {
            let times = times.first().map_or(Ok(1), |times| times.parse());
            match (server.parse(), bytes(message), times) {
                (Ok(server), Some(message), Ok(times)) => {
                    print(&ask::ask(protocol, server, &message, times)?)
                }
                _ => usage("ADDRESS:PORT, an even number of hexadecimal digits, a number"),
            }
        }
        ["send", interface, frames @ ..] => {
            let bytes = |hex: &&str| bytes(hex);
            match frames.iter().map(bytes).collect::<Option<Vec<_>>>() {
                Some(frames) => sys::packet::send(interface, &frames).map(|()| 0).map_err(Failure::Io),
                None => usage("a frame is an even number of hexadecimal digits"),
            }
        }
        ["mapped", file] => Ok(mapped::run(file)?),
        [verb @ ("remember" | "remember-text"), megabytes, file, a_second @ ..] => {
            let text = *verb == "remember-text";
            match (megabytes.parse(), a_second.iter().map(|number| number.parse()).collect()) {
                (Ok(megabytes), Ok::<Vec<_>, _>(a_second)) => {
                    Ok(remember::run(megabytes, text, file, a_second.first().copied())?)
                }
                _ => usage("MEGABYTES and A_SECOND are numbers"),
            }
        }
        ["keep", kind, file] => match keep::run(kind, file)? {
            Some(code) => Ok(code),
            None => usage("unknown kind of what is to be kept"),
        },
        ["quota", kind, id, hard @ ..] => {
            let hard = hard.first().map(|hard| hard.parse()).transpose();
            match (quota::kind(kind), id.parse(), hard) {
                (Some(kind), Ok(id), Ok(hard)) => print(&quota::limit(kind, id, hard).map_err(by_number)?),
                _ => usage("`user` or `group`, and numbers"),
            }
        }
        ["grace", kind, seconds @ ..] => {
            match (quota::kind(kind), seconds.first().map(|seconds| seconds.parse()).transpose()) {
                (Some(kind), Ok(seconds)) => print(&quota::grace(kind, seconds).map_err(by_number)?),
                _ => usage("`user` or `group`, and a number"),
            }
        }
        ["report"] => print(&report::report()),
        ["probe", "--list"] => print(&probe::list()),
        ["probe", words @ ..] => match probe::run(words) {
            Ok(findings) => print(&findings),
            Err(why) => usage(&why),
        },
        ["drive", "kinds"] => print(&drive::KINDS.iter().map(|(name, _)| name).collect::<Vec<_>>()),
        ["drive", kind, count] => match count.parse() {
            Ok(count) => drive::run(kind, count).map(|()| 0).map_err(Failure::Usage),
            Err(_) => usage("COUNT is a number"),
        },
        ["ipc", "kinds"] => print(&ipc::KINDS),
        ["ipc", kind, verb, key] => ipc_call(kind, verb, key),
        [word, verb, key] if word.starts_with("ipc-") => ipc_call(&word["ipc-".len()..], verb, key),
        [word, ..] => usage(&format!("unknown or incomplete command: {word}")),
    }
}

fn by_number(errno: sys::Errno) -> Failure {
    Failure::Io(std::io::Error::from_raw_os_error(errno.0))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

fn ipc_call(kind: &str, verb: &str, key: &str) -> Result<i32, Failure> {
    match ipc::run(kind, verb, key) {
        Ok(finding) => {
            print(&finding)?;
            if finding.held {
                ipc::wait_for_end()?;
            }
            Ok(0)
        }
        Err(why) => Err(Failure::Usage(why)),
    }
}

fn print(value: &impl serde::Serialize) -> Result<i32, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
    // A closed pipe isn't worth a panic.
    std::io::Write::write_all(&mut std::io::stdout(), format!("{text}\n").as_bytes())?;
    Ok(0)
}
