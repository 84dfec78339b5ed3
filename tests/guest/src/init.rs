//! `guest init`: the least PID 1 that behaves. It reaps, says when it's up, and ends in each way that a VE can end.
//!
//! Must not read configuration or start services: a test that wants more uses a real init.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sys::{Arg, call, signal};

/// Reads like systemd's, sysvinit's and busybox's signals, so that it stops whatever a controller takes it for.
const SIGNALS: &[i32] = &[
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGPWR,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
    RTMIN_HALT,
    RTMIN_POWEROFF,
    RTMIN_REBOOT,
];
const RTMIN_HALT: i32 = 34 + 3;
const RTMIN_POWEROFF: i32 = 34 + 4;
const RTMIN_REBOOT: i32 = 34 + 5;

/// How this init misbehaves, for tests of time-outs and back-off.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Take no notice of any signal, so that only a kill ends it.
    stubborn: bool,
    /// End by itself after this time, with this status.
    exit_after: Option<(Duration, i32)>,
    /// Idle children to start, to show that a kill takes them too.
    children: u32,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().ok_or_else(|| format!("{word} wants a value"));
            match *word {
                "--stubborn" => options.stubborn = true,
                "--children" => options.children = number(value()?)?,
                "--exit-after" => {
                    let value = value()?;
                    let (time, code) = value.split_once(':').unwrap_or((value, "0"));
                    options.exit_after = Some((Duration::from_millis(number(time)?), number(code)?));
                }
                // An init is given words of the kernel's command line and run levels; they mean nothing here.
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Runs until told to end; the result is PID 1's exit status.
pub(crate) fn run(options: &Options) -> io::Result<i32> {
    signal::block(SIGNALS)?;
    let _children = start_children(options.children)?;
    announce();
    let started = std::time::Instant::now();
    loop {
        let got = match options.exit_after {
            Some((limit, code)) => {
                match signal::wait_at_most(SIGNALS, limit.saturating_sub(started.elapsed())) {
                    Some(got) => got,
                    None => return Ok(code),
                }
            }
            None => signal::wait(SIGNALS)?,
        };
        match got {
            libc::SIGCHLD => {
                signal::reap_all();
            }
            _ if options.stubborn => {}
            libc::SIGTERM => {
                end_all();
                return Ok(0);
            }
            libc::SIGUSR1 | RTMIN_HALT => reboot(libc::LINUX_REBOOT_CMD_HALT)?,
            libc::SIGUSR2 | libc::SIGPWR | RTMIN_POWEROFF => reboot(libc::LINUX_REBOOT_CMD_POWER_OFF)?,
            _ => reboot(libc::LINUX_REBOOT_CMD_RESTART)?,
        }
    }
}

fn announce() {
    // Standard output is the console where there is one; a VE without any is no reason to fail.
    let line = b"ready\n";
    let sent = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/console")
        .and_then(|mut console| io::Write::write_all(&mut console, line));
    if sent.is_err() {
        drop(io::Write::write_all(&mut io::stdout(), line));
    }
}

fn start_children(count: u32) -> io::Result<Vec<std::process::Child>> {
    let this = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    (0..count)
        .map(|_| {
            Command::new(&this)
                .arg("pause")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        })
        .collect()
}

/// Asks every other process to end, and makes it so after a while.
fn end_all() {
    let tries =
        [libc::SIGTERM, libc::SIGCONT].into_iter().chain(std::iter::repeat_n(0, 20)).chain([libc::SIGKILL]);
    for signal_number in tries {
        // As PID 1 this reaches the VE's processes only; ESRCH says that none is left. Anything else that calls itself
        // init but isn't PID 1 must not signal the world.
        if std::process::id() != 1 || signal::send(-1, signal_number).is_err() {
            return;
        }
        if signal_number == 0 && signal::wait_at_most(&[libc::SIGCHLD], Duration::from_millis(50)).is_some() {
            signal::reap_all();
        }
    }
}

fn reboot(command: i32) -> io::Result<()> {
    // Outside a pid namespace of its own this would end the machine.
    if crate::probe::on_the_host() {
        return Err(io::Error::other("not in a VE: reboot is for a pid namespace's own init"));
    }
    let [magic, magic2] = [libc::LINUX_REBOOT_MAGIC1, libc::LINUX_REBOOT_MAGIC2].map(i64::from);
    call(libc::SYS_reboot, [Arg::Int(magic), Arg::Int(magic2), Arg::Int(i64::from(command)), Arg::Null])?;
    Ok(())
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("not a number: {word}"))
}
