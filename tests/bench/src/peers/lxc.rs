//! lxc, unprivileged ids, an empty network namespace. Must be given no more to do than the others.

use std::path::PathBuf;
use std::process::Command;

use super::command::{Commands, Tool};
use super::on_path;
use super::wire::{BRIDGE, GATEWAY, PREFIX, address};
use crate::benches::update::{Limit, is_v1};
use crate::place::{FIRST_ID, IDS, PAYLOAD, Place};
use crate::result::{Context, Result};

pub(super) struct Lxc {
    /// Where its programs lie.
    programs: PathBuf,
    /// lxc's directory of containers.
    directory: PathBuf,
    root: PathBuf,
    cgroup: String,
    /// Whether containers are on the bridge.
    is_connected: bool,
}

impl Lxc {
    pub(super) fn new(place: &Place, purpose: &str) -> Result<Commands<Lxc>> {
        Self::with(place, purpose, false)
    }

    /// With a network.
    pub(super) fn connected(place: &Place, purpose: &str) -> Result<Commands<Lxc>> {
        Self::with(place, purpose, true)
    }

    fn with(place: &Place, purpose: &str, is_connected: bool) -> Result<Commands<Lxc>> {
        let program = on_path("lxc-start")?;
        let lxc = Lxc {
            programs: program.parent().ok_or("no directory").context("lxc-start")?.to_owned(),
            directory: place.subdirectory(&format!("lxc-{purpose}"))?,
            root: place.shifted.clone(),
            cgroup: place.cgroup.clone(),
            is_connected,
        };
        Commands::new(lxc, None)
    }

    fn command(&self, program: &str, id: usize) -> Command {
        let mut command = Command::new(self.programs.join(program));
        // As root lxc writes the mappings itself, unless it sees newuidmap, which wants root's ids in /etc/subuid first.
        command.env("PATH", "/nowhere");
        command.arg("--lxcpath").arg(&self.directory).args(["--name", &name(id)]);
        command
    }
}

fn name(id: usize) -> String {
    format!("bench-{id}")
}

impl Tool for Lxc {
    fn name(&self) -> &'static str {
        "lxc"
    }

    fn prepare(&self, id: usize) -> Result<()> {
        let name = name(id);
        let directory = self.directory.join(&name);
        std::fs::create_dir_all(&directory).context(directory.display())?;
        let (root, cgroup) = (self.root.display(), &self.cgroup);
        let network = match self.is_connected {
            false => "lxc.net.0.type = empty\n".to_owned(),
            true => format!(
                "lxc.net.0.type = veth\nlxc.net.0.link = {BRIDGE}\nlxc.net.0.flags = up\nlxc.net.0.name = eth0\n\
                 lxc.net.0.ipv4.address = {}/{PREFIX}\nlxc.net.0.ipv4.gateway = {GATEWAY}\n",
                address(id)
            ),
        };
        let config = format!(
            "lxc.rootfs.path = dir:{root}\nlxc.init.cmd = {PAYLOAD}\nlxc.uts.name = {name}\n{network}\
             lxc.idmap = u 0 {FIRST_ID} {IDS}\nlxc.idmap = g 0 {FIRST_ID} {IDS}\n\
             lxc.mount.auto = proc:mixed sys:mixed\nlxc.signal.halt = SIGTERM\nlxc.apparmor.profile = unconfined\n\
             lxc.cgroup.dir.container = {cgroup}/lxc/{name}\nlxc.cgroup.dir.monitor = {cgroup}/lxc-monitor/{name}\n\
             lxc.console.path = none\n"
        );
        std::fs::write(directory.join("config"), config).context(directory.display())
    }

    fn start(&self, id: usize) -> Command {
        let mut command = self.command("lxc-start", id);
        command.arg("--daemon");
        command
    }

    fn stop(&self, id: usize) -> Command {
        let mut command = self.command("lxc-stop", id);
        command.args(["--timeout", "10"]);
        command
    }

    fn update(&self, id: usize, limit: Limit) -> Command {
        let [controller, v1, v2] = limit.files();
        let is_v1 = is_v1(controller);
        let mut command = self.command("lxc-cgroup", id);
        command.arg(if is_v1 { v1 } else { v2 }).arg(limit.value(is_v1).to_string());
        command
    }

    fn tidy(&self, _id: usize) -> Option<Command> {
        None
    }
}
