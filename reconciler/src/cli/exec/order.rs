//! What one `vzd` process tells another to do inside a VE.
//!
//! Entering needs a process with one thread that nothing else goes on in, so whoever asks the controller
//! hands over to a fresh `vzd enter-ve`. The order travels in a memory file, never in the process list.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::control::Entrance;
use crate::error::{At, SysError, SysResult};
use crate::runtime::enter;

/// Something to do inside one VE.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The VE.
    pub entrance: Entrance,
    /// Where its keeper is.
    pub run_dir: PathBuf,
    /// What to execute.
    pub command: enter::Command,
    /// On a terminal of the VE.
    pub terminal: bool,
    /// Ends when the process that gave the order ends.
    pub supervised: bool,
    /// How it ends if there is no such program, where that is not 127.
    pub missing: Option<u8>,
}

/// An order in a memory file that a child inherits.
#[derive(Debug)]
pub struct Sealed {
    file: OwnedFd,
}

impl Order {
    /// Writes it down for a child.
    pub fn seal(&self) -> SysResult<Sealed> {
        let text = serde_json::to_vec(self).map_err(|e| SysError::refused("encode", "order", e))?;
        // Not closed by exec: that is how it gets there. What runs in the VE has it closed.
        let file = rustix::fs::memfd_create("vzd-order", MemfdFlags::empty()).at("make", "memory file")?;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let n = rustix::io::write(&file, rest).at("write", "memory file")?;
            rest = &rest[n..];
        }
        Ok(Sealed { file })
    }

    /// Reads the order in this inherited descriptor.
    pub fn read(descriptor: i32) -> SysResult<Self> {
        let path = format!("/proc/self/fd/{descriptor}");
        let text = std::fs::read(&path).at("read", &path)?;
        serde_json::from_slice(&text).map_err(|e| SysError::refused("decode", "order", e))
    }
}

impl Sealed {
    /// The process that carries it out.
    pub fn command(&self) -> process::Command {
        let mut command = process::Command::new("/proc/self/exe");
        command.arg0("vzd").args(["enter-ve", "--order"]).arg(self.file.as_raw_fd().to_string());
        command
    }
}
