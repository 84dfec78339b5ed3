//! `vzd keeper`, hidden: becomes the keeper of a run directory. The caller gives it the listening socket
//! as standard input and waits only until it is in the background. `--run-dir` tells the process list
//! whose keeper it is; nothing reads it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::cli::failure::{OK, Outcome};
use crate::error::{At, SysResult};
use crate::keeper;
use crate::kernel::process::{self, SingleThreaded};

/// Puts the keeper into the background and returns.
pub fn run() -> Outcome {
    let proof = SingleThreaded::check()?;
    let listener = std::io::stdin().as_fd().try_clone_to_owned().at("duplicate", "stdin")?;
    process::fork(proof, move || i32::from(serve(listener).is_err()))?;
    Ok(OK)
}

/// The keeper itself: a session of its own, and nothing open but its socket.
fn serve(listener: OwnedFd) -> SysResult<()> {
    nix::unistd::setsid().at("setsid", "keeper")?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").at("open", "/dev/null")?;
    process::set_stdio(&null.into())?;
    process::close_all_but(&[listener.as_raw_fd()])?;
    std::env::set_current_dir("/").at("enter directory", "/")?;
    keeper::serve(listener)
}
