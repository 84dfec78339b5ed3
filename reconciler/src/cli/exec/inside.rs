//! `vzd enter-ve`, hidden: carries out one order inside one VE and ends with the program's status.
//!
//! The program gets this process's pipes and files as they are. Anything else, above all the host's
//! terminal, stays outside: what runs in a VE could type into a terminal or walk out through a directory
//! that it holds. Such streams are relayed through pipes, or through a terminal of the VE's own.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::pipe::PipeFlags;
use vzd_schema::Code;

use crate::cli::exec::order::Order;
use crate::cli::exec::pump::Pump;
use crate::cli::exec::relay::{self, Relay};
use crate::cli::failure::{Failure, NOT_ENTERED, NOT_EXECUTABLE, NOT_FOUND, Outcome};
use crate::cli::terminal::{self, Raw, Signals};
use crate::error::{At, SysError, SysResult};
use crate::keeper::Keeper;
use crate::kernel::process::SingleThreaded;
use crate::runtime::enter::{self, Door, Stdio};

/// Options of `vzd enter-ve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Descriptor that holds the order
    #[arg(long, value_name = "FD")]
    order: i32,
}

/// Carries the order out.
pub fn run(args: &Args) -> Outcome {
    let order = Order::read(args.order).map_err(not_entered)?;
    let name = order.entrance.name.clone();
    carry_out(&order)
        .map_err(|failure| Failure { message: format!("{name}: {}", failure.message), ..failure })
}

fn carry_out(order: &Order) -> Outcome {
    if order.supervised {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .at("ask for a signal at the end of", "parent")
            .map_err(not_entered)?;
    }
    let held = Keeper::new(&order.run_dir)
        .look(&order.entrance.uid)
        .map_err(|error| not_entered(error).coded(Code::KeeperUnreachable))?;
    let Some((_, Some(init))) = held else {
        return Err(Failure::new("it does not run").coded(Code::NoSuchVe).exiting(NOT_ENTERED));
    };
    if is_frozen(&order.entrance.door) {
        let failure = Failure::new("it is paused, so nothing can run in it").coded(Code::NoSuchVe);
        return Err(failure.help(format!("`vzd resume {}`", order.entrance.name)).exiting(NOT_ENTERED));
    }
    let (stdio, pumps) = streams(order).map_err(not_entered)?;
    let proof = SingleThreaded::check().map_err(not_entered)?;
    // From here on signals are the program's: the first ones may come before we know that it runs.
    let signals = Signals::take().map_err(not_entered)?;
    let entered = enter::spawn(proof, &order.entrance.door, &init, &order.command, stdio)
        .map_err(|error| not_run(error, order.missing))?;
    let raw = if order.terminal { Raw::stdin().map_err(not_entered)? } else { None };
    let relay = Relay::new(entered, pumps).map_err(not_entered)?;
    let status = relay::run(relay, &signals);
    drop(raw);
    let code = status.map_err(not_entered)?.code();
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Whether the VE is frozen, with whatever is put into it.
fn is_frozen(door: &Door) -> bool {
    let file = door.cgroup_exec.parent().map(|group| group.join("cgroup.freeze"));
    file.and_then(|file| std::fs::read_to_string(file).ok()).is_some_and(|text| text.trim() == "1")
}

/// An error of vzd's own, before the program ran.
pub fn not_entered(error: SysError) -> Failure {
    Failure::from(error).exiting(NOT_ENTERED)
}

/// Tells a program that cannot be executed from a VE that cannot be entered.
fn not_run(error: SysError, missing: Option<u8>) -> Failure {
    let exit = match (error.op.as_str(), error.errno) {
        ("execute", libc::ENOENT | libc::ENOTDIR) => missing.unwrap_or(NOT_FOUND),
        ("execute", _) => NOT_EXECUTABLE,
        _ => return not_entered(error),
    };
    Failure { help: Vec::new(), ..Failure::from(error) }.exiting(exit)
}

/// The program's standard streams, and what carries those that are not handed over.
fn streams(order: &Order) -> SysResult<(Stdio, Vec<Pump>)> {
    if order.terminal {
        let (rows, columns) = terminal::size();
        return Ok((Stdio::Terminal(rows, columns), Vec::new()));
    }
    let mut pumps = Vec::new();
    let input = input(std::io::stdin().as_fd(), &mut pumps)?;
    let output = output(std::io::stdout().as_fd(), &mut pumps)?;
    let error = self::output(std::io::stderr().as_fd(), &mut pumps)?;
    Ok((Stdio::Given([input, output, error]), pumps))
}

fn input(ours: BorrowedFd<'_>, pumps: &mut Vec<Pump>) -> SysResult<OwnedFd> {
    let own = ours.try_clone_to_owned().at("duplicate", "stdin")?;
    if may_be_handed_over(ours) {
        return Ok(own);
    }
    let (theirs, into) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at("make", "pipe")?;
    pumps.push(Pump::input(own, into));
    Ok(theirs)
}

fn output(ours: BorrowedFd<'_>, pumps: &mut Vec<Pump>) -> SysResult<OwnedFd> {
    let own = ours.try_clone_to_owned().at("duplicate", "stdout or stderr")?;
    if may_be_handed_over(ours) {
        return Ok(own);
    }
    let (from, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at("make", "pipe")?;
    pumps.push(Pump::output(from, own));
    Ok(theirs)
}

/// Pipes, sockets, files and /dev/null; no terminal, no other device, no directory.
fn may_be_handed_over(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::Socket | FileType::RegularFile => true,
        FileType::CharacterDevice => stat.st_rdev == rustix::fs::makedev(1, 3),
        _ => false,
    }
}

/// Whether both ends of a conversation are a terminal.
pub fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}
