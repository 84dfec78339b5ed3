//! Stays with a program inside a VE until it ends: carries its streams, hands signals on, follows the
//! size of the window.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::cli::exec::pump::Pump;
use crate::cli::terminal::{self, Signals};
use crate::error::{At, SysError, SysResult};
use crate::kernel::process::{self, WaitStatus};
use crate::kernel::pty;
use crate::runtime::enter::Entered;

/// What others in the VE go on writing is not waited for beyond this many bytes.
const REST: usize = 1 << 20;

/// A program and what is carried to and from it.
#[derive(Debug)]
pub struct Relay {
    program: Entered,
    pumps: Vec<Pump>,
}

impl Relay {
    /// A program with these pumps, and those of its terminal if it has one.
    pub fn new(program: Entered, mut pumps: Vec<Pump>) -> SysResult<Self> {
        if let Some(master) = &program.terminal {
            let dup = |fd: &OwnedFd| fd.try_clone().at("duplicate", "terminal");
            let stdin = std::io::stdin().as_fd().try_clone_to_owned().at("duplicate", "stdin")?;
            let stdout = std::io::stdout().as_fd().try_clone_to_owned().at("duplicate", "stdout")?;
            pumps.push(Pump::into_terminal(stdin, dup(master)?));
            pumps.push(Pump::output(dup(master)?, stdout));
        }
        Ok(Relay { program, pumps })
    }

    fn on_signals(&self, signals: &Signals) -> SysResult<()> {
        while let Some(signal) = signals.next_one() {
            if signal != libc::SIGWINCH {
                self.program.pidfd.signal(signal)?;
            } else if let Some(master) = &self.program.terminal {
                let (rows, columns) = terminal::size();
                pty::resize(master, rows, columns)?;
            }
        }
        Ok(())
    }
}

/// Waits for the program's end.
pub fn run(mut relay: Relay, signals: &Signals) -> SysResult<WaitStatus> {
    while !turn(&mut relay, signals)? {}
    let status = process::reap(relay.program.pid)?;
    relay.pumps.retain(Pump::is_output);
    drain(&mut relay.pumps, signals)?;
    Ok(status)
}

/// Waits for something and handles it; tells whether the program has ended.
fn turn(relay: &mut Relay, signals: &Signals) -> SysResult<bool> {
    let (ended, signalled, ready) = {
        let mut fds =
            vec![PollFd::new(&relay.program.pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        let asked = interests(&relay.pumps, &mut fds);
        wait(&mut fds, None)?;
        (!fds[0].revents().is_empty(), !fds[1].revents().is_empty(), ready(&asked, &fds[2..]))
    };
    if signalled {
        relay.on_signals(signals)?;
    }
    for index in ready {
        relay.pumps[index].step();
    }
    Ok(ended)
}

/// Delivers what the program wrote before it ended.
fn drain(pumps: &mut [Pump], signals: &Signals) -> SysResult<()> {
    let before: usize = pumps.iter().map(Pump::carried).sum();
    while pumps.iter().map(Pump::carried).sum::<usize>() - before < REST {
        let (signalled, ready) = {
            let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
            let asked = interests(pumps, &mut fds);
            // What was taken is delivered however long that takes; nothing new is waited for.
            let loaded = pumps.iter().any(Pump::is_loaded);
            wait(&mut fds, (!loaded).then_some(Timespec { tv_sec: 0, tv_nsec: 0 }))?;
            (!fds[0].revents().is_empty(), ready(&asked, &fds[1..]))
        };
        let stopped = signalled && signals.next_one().is_some_and(|signal| signal != libc::SIGWINCH);
        if stopped || ready.is_empty() && !signalled {
            break;
        }
        for index in ready {
            pumps[index].step();
        }
    }
    Ok(())
}

/// Adds what the pumps wait for, and tells which pump each one is.
fn interests<'p>(pumps: &'p [Pump], fds: &mut Vec<PollFd<'p>>) -> Vec<usize> {
    let mut asked = Vec::new();
    for (index, pump) in pumps.iter().enumerate() {
        if let Some((fd, flags)) = pump.interest() {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            asked.push(index);
        }
    }
    asked
}

fn ready(asked: &[usize], fds: &[PollFd<'_>]) -> Vec<usize> {
    asked.iter().zip(fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(index, _)| *index).collect()
}

fn wait(fds: &mut [PollFd<'_>], timeout: Option<Timespec>) -> SysResult<()> {
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(SysError::new("poll", "descriptors", error)),
    }
}
