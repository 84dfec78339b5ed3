//! Pseudo terminals of the host: a VE's console, and window sizes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{At, SysResult};

/// A new pair: the master, and the path of its slave in the host's devpts.
pub fn open() -> SysResult<(OwnedFd, PathBuf)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).at("open", "/dev/ptmx")?;
    rustix::pty::grantpt(&master).at("grant", "pty")?;
    rustix::pty::unlockpt(&master).at("unlock", "pty")?;
    let name = rustix::pty::ptsname(&master, Vec::new()).at("name", "pty")?;
    Ok((master, PathBuf::from(name.to_string_lossy().into_owned())))
}

/// Sets the window size that programs on the slave see.
pub fn resize(pty: impl AsFd, rows: u16, cols: u16) -> SysResult<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(pty, size).at("set window size of", "pty")
}
