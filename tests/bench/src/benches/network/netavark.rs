//! What podman's netavark takes for one container: its own command alone, without the rest of podman, which would only add to it.
//!
//! A veth on a bridge, an address, a default route, like the others; and rules of the packet filter, which it always sets.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::options::Options;
use crate::place::Place;
use crate::result::{Context, Result, fail};
use crate::stats::ms;

/// Where Debian's podman looks for it.
const PROGRAM: &str = "/usr/lib/podman/netavark";

/// One network namespace, as podman would make it.
struct Target {
    directory: PathBuf,
}

/// How long each set-up took, in ms; none where it is not installed.
pub(super) fn set_up(place: &Place, options: &Options) -> Result<Vec<f64>> {
    if !options.wants_peer("podman") || !Path::new(PROGRAM).exists() {
        return Ok(Vec::new());
    }
    let target = Target::make(place)?;
    let mut times = Vec::new();
    for round in 0..=options.rounds {
        let began = Instant::now();
        target.run("setup")?;
        let took = ms(began.elapsed());
        target.run("teardown")?;
        if round > 0 {
            times.push(took);
        }
    }
    Ok(times)
}

impl Target {
    fn make(place: &Place) -> Result<Self> {
        let target = Target { directory: place.subdirectory("netavark")? };
        let path = target.namespace();
        std::fs::write(&path, "").context(path.display())?;
        super::super::disk::run(
            &["unshare"],
            &[Path::new(&format!("--net={}", path.display())), Path::new("true")],
        )?;
        Ok(target)
    }

    fn namespace(&self) -> PathBuf {
        self.directory.join("namespace")
    }

    /// The network as podman describes it.
    fn network() -> Value {
        json!({
            "container_id": "bench", "container_name": "bench",
            "networks": { "bench": { "interface_name": "eth0", "static_ips": ["10.79.0.5"] } },
            "network_info": { "bench": {
                "name": "bench", "id": "be".repeat(32), "driver": "bridge", "network_interface": "bench1",
                "subnets": [{ "subnet": "10.79.0.0/24", "gateway": "10.79.0.1" }], "ipv6_enabled": false,
                "internal": false, "dns_enabled": false, "ipam_options": { "driver": "host-local" },
            } },
        })
    }

    fn run(&self, what: &str) -> Result<()> {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(&self.directory).arg(what).arg(self.namespace());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().context(PROGRAM)?;
        let stdin = child.stdin.take().ok_or("no standard input").context(PROGRAM)?;
        write!(&stdin, "{}", Self::network()).context(PROGRAM)?;
        drop(stdin);
        let output = child.wait_with_output().context(PROGRAM)?;
        match output.status.success() {
            true => Ok(()),
            false => fail(format!("netavark {what}: {}", String::from_utf8_lossy(&output.stdout).trim())),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let path = self.namespace();
        drop(Command::new("umount").arg(&path).status());
    }
}
