//! What the controller and the keeper say to each other: JSON over a SOCK_SEQPACKET socket.
//!
//! One request, one reply on a connection, in turn; [`Request::Watch`] and [`Request::Console`] turn
//! the connection into a stream. The keeper of an older vzd may be running: messages only grow.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::SysError;
use crate::kernel::process::WaitStatus;
use crate::runtime::accounts;
use crate::runtime::checkpoint::ahead::AheadSpec;
use crate::runtime::checkpoint::dump::DumpSpec;
use crate::runtime::enter::{Command, Door};
use crate::runtime::spec::{MountSpec, StartSpec, Started};

/// What can be asked of the keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Start a VE. Answered by `Started` (with a pidfd) once its init runs, or `Failed`.
    Start(Box<StartSpec>),
    /// What is held? Answered by `Held`.
    List,
    /// What is held of this VE? Answered by `Held` with at most one, and a pidfd when it runs.
    Look(String),
    /// An exit has been recorded: forget the VE. Answered by `Done`.
    Forget(String),
    /// Hold a VE that another keeper started; its pidfd comes with the message. Answered by `Done`.
    Adopt {
        /// The VE's uid.
        uid: String,
        /// The host's pid of its init.
        pid: i32,
    },
    /// From now on, an [`Exited`] for every VE that ends.
    Watch,
    /// From now on, console bytes both ways (see [`ConsoleInput`]).
    Console(String),
    /// Put mounts into a running VE. Answered by `Done` or `Failed`.
    AddMounts {
        /// The host's pid of its init.
        pid: i32,
        /// What, in order.
        mounts: Vec<MountSpec>,
    },
    /// Take the topmost mount at a path out of a running VE. Answered by `Done` or `Failed`.
    RemoveMount {
        /// The host's pid of its init.
        pid: i32,
        /// Path inside the VE.
        target: PathBuf,
    },
    /// Execute a program in a VE, wait for it and keep what it prints, up to [`CAPTURED`](crate::runtime::printed::CAPTURED) bytes. Answered by `Captured` or
    /// `Failed`.
    Capture {
        /// The VE.
        door: Box<Door>,
        /// The program.
        command: Command,
        /// It is killed after this many milliseconds.
        timeout_ms: u64,
    },
    /// Write a running VE to disk. Answered by `Done` once it is gone and its checkpoint whole, or `Failed`: then it runs
    /// on. It is gone through with even if nobody waits for the answer. With a copy of one that is to run on comes a
    /// socket: everything stands still from a packet that is read there until one that is sent, and nothing is copied if
    /// it closes instead.
    Suspend(Box<DumpSpec>),
    /// Write memory of a running VE ahead, a round of it. Answered by `Done` or `Failed`.
    WriteAhead(AheadSpec),
    /// Look at users of a running VE, or change one. Answered by `Accounts` or `Failed`.
    Accounts {
        /// The host's pid of its init.
        pid: i32,
        /// What is asked.
        ask: accounts::Ask,
    },
    /// Execute a program in a VE and wait for it. Answered by `Ran` or `Failed`.
    Run {
        /// The VE.
        door: Box<Door>,
        /// The program.
        command: Command,
        /// It is killed after this many milliseconds.
        timeout_ms: u64,
    },
}

/// The keeper's answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The VE's init runs; a pidfd comes with it.
    Started(Started),
    /// What is held.
    Held(Vec<Held>),
    /// Done.
    Done,
    /// How the program ended; `None` when it was killed at its timeout.
    Ran(Option<WaitStatus>),
    /// How the program ended, `None` when it was killed at its timeout, and what it printed.
    Captured(Option<WaitStatus>, String),
    /// What was asked about users.
    Accounts(accounts::Answer),
    /// It could not be done.
    Failed(SysError),
}

/// One VE that the keeper holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The VE's uid.
    pub uid: String,
    /// The host's pid of its init while it runs (and a number to show afterwards).
    pub pid: i32,
    /// How it ended, when it has.
    pub exited: Option<WaitStatus>,
}

/// A VE's init has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exited {
    /// The VE's uid.
    pub uid: String,
    /// How.
    pub status: WaitStatus,
}

/// First byte of a packet from an attached console client; packets from the keeper are plain output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleInput {
    /// The rest is what was typed.
    Data = b'd' as isize,
    /// The rest is rows and columns, each a little-endian u16.
    Resize = b'r' as isize,
}
