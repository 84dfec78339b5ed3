//! Steps of the lifecycle, how runs end, and why VEs are started and stopped.

use serde::{Deserialize, Serialize};

use crate::units::{Millis, Timestamp};

/// How an init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// By halt or power off from inside (the kernel ends init with SIGINT).
    Halted,
    /// By reboot from inside (SIGHUP).
    Rebooted,
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Nobody could tell.
    Unknown,
}

impl Exit {
    /// What a wait status of init means.
    pub fn from_wait_status(status: i32) -> Self {
        match (status & 0x7f, status >> 8 & 0xff) {
            (0, code) => Self::Exited(code),
            (1, _) => Self::Rebooted,
            (2, _) => Self::Halted,
            (signal, _) => Self::Killed(signal),
        }
    }
}

/// Steps of the lifecycle. What a start or a stop does to the kernel is the driver's business; what
/// each step does to the ledger is in `ledger::record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// Make the VE known: uid, ctid and range of ids are handed out.
    Create,
    /// Take a VE back that is in quarantine or was left unmanaged.
    Restore,
    /// Note that the manifest was accepted as the next generation.
    Accept,
    /// Note a run that is not in the ledger as it is (a controller was killed in the middle of a start).
    Adopt {
        /// The host's pid of init.
        init_pid: u32,
        /// When init was started.
        started_at: Timestamp,
    },
    /// Clear up after a run that is over and note how it ended.
    Reap {
        /// How it ended.
        end: End,
    },
    /// Stop the VE; after the timeout every process is killed.
    Stop {
        /// How long init has.
        timeout: Millis,
        /// Why.
        reason: StopReason,
    },
    /// Start the VE as its manifest says, everything applied.
    Start {
        /// Why.
        reason: StartReason,
    },
    /// Write the VE's processes to disk, and end them.
    Suspend,
    /// Have the VE go on from its checkpoint; one whose suspension did not come to its end simply runs on.
    Resume {
        /// Why.
        reason: StartReason,
    },
    /// Throw the checkpoint away.
    Discard,
    /// Keep the stopped VE, its disk and records, until then.
    Quarantine {
        /// When it is thrown away.
        until: Timestamp,
    },
    /// Leave the VE as it is and manage it no more.
    Forget,
    /// Throw the stopped VE away: disk, records, ids.
    Destroy,
}

/// How a run came to its end, as far as it matters for what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// The owner halted it.
    HaltedByOwner,
    /// The owner rebooted it.
    RebootedByOwner,
    /// Init ended in any other way.
    Crashed(Exit),
    /// The host went down under it.
    HostRebooted,
    /// vzd was stopping it.
    Ordered(StopReason),
    /// It was to be started, but never came up.
    NeverStarted,
}

/// Why a VE is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// `spec.state: stopped`.
    Spec,
    /// An operator said so.
    Operator,
    /// A change needs it and `updatePolicy: Restart` allows it.
    Restart,
    /// The VE is made anew.
    Recreate,
    /// The manifest is gone.
    Removed,
    /// `spec.state: absent`.
    Absent,
    /// The host goes down.
    Host,
    /// It is suspended.
    Suspend,
}

/// Why a VE is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StartReason {
    /// The manifest says so.
    Spec,
    /// An operator said so.
    Operator,
    /// A change needed a restart.
    Restart,
    /// The owner rebooted it.
    Reboot,
    /// The owner halted it, but the policy is `Always`.
    Halted,
    /// It crashed.
    Crash,
    /// The host has booted.
    Boot,
}
