//! `cargo xtask bench`: builds everything in release and runs vzd-bench. Must not measure anything itself.

use crate::clean::World;
use crate::run::{Result, cargo, run as succeed, target};
use crate::{guest, setup};

/// Passes `options` on.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let asks = options.iter().any(|option| matches!(*option, "--help" | "-h" | "--list"));
    if !asks {
        setup::run(setup::For::Bench)?;
    }
    let guest = guest::build()?;
    succeed(&mut cargo(&["build", "--quiet", "--release", "--package", "vzd", "--package", "vzd-bench"]))?;
    let release = target().join("release");
    let mut command = std::process::Command::new(release.join("vzd-bench"));
    command.args(options).env("VZD_BIN", release.join("vzd")).env("VZD_GUEST_PAUSE", guest.pause);
    command.env("VZD_GUEST", guest.witness);
    if asks {
        return succeed(&mut command);
    }
    // Whatever becomes of it, its containers and cgroups go with the world.
    let world = World::new("bench")?;
    succeed(command.env("VZD_BENCH_DIR", &world.directory).env("VZD_BENCH_CGROUP", &world.cgroup))
}
