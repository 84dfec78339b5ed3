//! `cargo xtask setup`: installs the Debian packages that are missing. Says nothing when there is nothing to do.
//!
//! Must not upgrade or remove anything, and must not touch apt's sources.

use std::process::Command;

use crate::run::{Failure, Result, fail, is_root, on_path, shown};

/// What the packages are wanted for; each includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum For {
    /// Building and running VEs.
    Quickstart,
    /// Every test.
    Tests,
    /// The peers that benchmarks compare with.
    Bench,
}

struct Package {
    name: &'static str,
    /// A program of it, by which machines that aren't Debian are checked.
    program: &'static str,
    wanted_for: For,
}

const PACKAGES: &[Package] = &[
    // Links Rust programs; static ones need libc's archive too.
    Package { name: "gcc", program: "gcc", wanted_for: For::Quickstart },
    Package { name: "libc6-dev", program: "gcc", wanted_for: For::Quickstart },
    Package { name: "pkg-config", program: "pkg-config", wanted_for: For::Quickstart },
    // The `tiny` template is made of it.
    Package { name: "busybox-static", program: "busybox", wanted_for: For::Quickstart },
    // Tests look at interfaces and routes with `ip`.
    Package { name: "iproute2", program: "ip", wanted_for: For::Tests },
    // Packet filters of VEs, and what tests look at them with.
    Package { name: "nftables", program: "nft", wanted_for: For::Tests },
    // Views of /proc for VEs, when it is there.
    Package { name: "lxcfs", program: "lxcfs", wanted_for: For::Tests },
    // The lab: a root file system for its guests, disks made of it, and modules unpacked for the first one.
    Package { name: "mmdebstrap", program: "mmdebstrap", wanted_for: For::Tests },
    Package { name: "e2fsprogs", program: "mke2fs", wanted_for: For::Tests },
    // Disks on btrfs.
    Package { name: "btrfs-progs", program: "mkfs.btrfs", wanted_for: For::Tests },
    // Images of containers, from a registry. Where systemd is the init, Debian starts one; tests start their own.
    Package { name: "skopeo", program: "skopeo", wanted_for: For::Tests },
    Package { name: "docker-registry", program: "docker-registry", wanted_for: For::Tests },
    Package { name: "xz-utils", program: "xz", wanted_for: For::Tests },
    // Time zones that a VE has not are the host's. The program is libc's, which comes with them elsewhere.
    Package { name: "tzdata", program: "zdump", wanted_for: For::Tests },
    Package { name: "crun", program: "crun", wanted_for: For::Bench },
    Package { name: "runc", program: "runc", wanted_for: For::Bench },
    Package { name: "lxc", program: "lxc-start", wanted_for: For::Bench },
    Package { name: "podman", program: "podman", wanted_for: For::Bench },
    Package { name: "netavark", program: "/usr/lib/podman/netavark", wanted_for: For::Bench },
    Package { name: "fio", program: "fio", wanted_for: For::Bench },
];

/// Installs what is missing for `purpose`.
pub(crate) fn run(purpose: For) -> Result<()> {
    if std::env::var_os("VZD_NO_SETUP").is_some() {
        return Ok(());
    }
    packages(purpose)?;
    if purpose >= For::Tests { crate::criu::provide() } else { Ok(()) }
}

fn packages(purpose: For) -> Result<()> {
    let wanted: Vec<&Package> = PACKAGES.iter().filter(|package| package.wanted_for <= purpose).collect();
    if on_path("dpkg-query").is_none() || on_path("apt-get").is_none() {
        return without_apt(&wanted);
    }
    let missing: Vec<&str> =
        wanted.iter().map(|package| package.name).filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        return fail(format!("as root, first: apt-get install {}", missing.join(" ")));
    }
    println!("installing {}", missing.join(" "));
    let install = || {
        let mut command = apt();
        command.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
        command
    };
    // Package lists may be there already and new enough; fetching them is half of the time.
    if quietly(&mut install()).is_ok() {
        return Ok(());
    }
    quietly(apt().arg("update"))?;
    quietly(&mut install())
}

fn without_apt(wanted: &[&Package]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|package| on_path(package.program).is_none())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    fail(format!("no apt-get here, so please install what Debian calls {}", missing.join(", ")))
}

fn installed(package: &str) -> bool {
    let query =
        Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}\n", package]).output();
    // One line an architecture.
    query.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "installed"))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2");
    // Another apt may be at work, such as a machine's first boot.
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// apt's chatter is worth reading only when it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| Failure(format!("{}: {error}", shown(command))))?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    fail(format!("{}: {}\n{}", shown(command), output.status, said.trim_end()))
}
