//! crun, with a bundle as like a VE as OCI allows: the same namespaces and ids, its own cgroups, no network device.
//!
//! Must not be given anything to do that a VE isn't given: no limits, no copy of the root, no hooks but the one that
//! connects it to a bridge where VEs are connected. Where it matters it
//! comes a second time with what a VE always has and a container need not have: a console and a /run of its own.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::command::{Commands, Tool};
use super::{on_path, wire};
use crate::benches::update::Limit;
use crate::place::{FIRST_ID, IDS, PAYLOAD, Place};
use crate::result::{Context, Result};
use crate::sys;

pub(super) struct Crun {
    /// crun's own state.
    state: PathBuf,
    bundles: PathBuf,
    root: PathBuf,
    cgroup: String,
    consoles: Option<Consoles>,
    /// Connects a container.
    hook: Option<PathBuf>,
}

impl Crun {
    pub(super) fn new(place: &Place, purpose: &str) -> Result<Commands<Crun>> {
        Self::with(place, purpose, None, None)
    }

    /// With a network, by a hook.
    pub(super) fn connected(place: &Place, purpose: &str) -> Result<Commands<Crun>> {
        let hook = wire::write_hook(&place.subdirectory(&format!("hook-{purpose}"))?)?;
        Self::with(place, purpose, None, Some(hook))
    }

    /// With a console and a /run for each container.
    pub(super) fn with_consoles(place: &Place, purpose: &str) -> Result<Commands<Crun>> {
        let socket = place.subdirectory(&format!("consoles-{purpose}"))?.join("socket");
        Self::with(place, &format!("console-{purpose}"), Some(Consoles::listen(socket)?), None)
    }

    fn with(
        place: &Place,
        purpose: &str,
        consoles: Option<Consoles>,
        hook: Option<PathBuf>,
    ) -> Result<Commands<Crun>> {
        on_path("crun")?;
        let crun = Crun {
            state: place.subdirectory(&format!("crun-{purpose}"))?,
            bundles: place.subdirectory(&format!("bundles-{purpose}"))?,
            root: place.shifted.clone(),
            cgroup: format!("{}/crun{}", place.cgroup, if consoles.is_some() { "-console" } else { "" }),
            consoles,
            hook,
        };
        Commands::new(crun, unbearable())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("crun");
        command.arg("--root").arg(&self.state).args(arguments);
        command
    }
}

/// crun refuses to work where version 1 and version 2 both have controllers; without the latter in sight it does.
fn unbearable() -> Option<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of = |kind: &str| {
        let line = table
            .lines()
            .find(|line| line.split_once(" - ").is_some_and(|(_, end)| end.starts_with(kind)))?;
        line.split(' ').nth(4).map(PathBuf::from)
    };
    let version_2 = of("cgroup2 ")?;
    of("cgroup ")?;
    let controllers = std::fs::read_to_string(version_2.join("cgroup.controllers")).unwrap_or_default();
    (!controllers.trim().is_empty()).then_some(version_2)
}

fn name(id: usize) -> String {
    format!("bench-{id}")
}

impl Tool for Crun {
    fn name(&self) -> &'static str {
        self.consoles.as_ref().map_or("crun", |_| "crun, console")
    }

    fn prepare(&self, id: usize) -> Result<()> {
        let bundle = self.bundles.join(name(id));
        std::fs::create_dir_all(&bundle).context(bundle.display())?;
        let cgroup = format!("/{}/{}", self.cgroup, name(id));
        let mut config = config(&self.root.display().to_string(), &name(id), &cgroup);
        if self.consoles.is_some() {
            config["process"]["terminal"] = json!(true);
            if let Some(mounts) = config["mounts"].as_array_mut() {
                mounts.push(mount("/run", "tmpfs", &["nosuid", "nodev", "mode=755"]));
            }
        }
        if let Some(hook) = &self.hook {
            config["hooks"] =
                json!({"createRuntime": [{"path": hook, "args": ["connect", wire::address(id)]}]});
        }
        std::fs::write(bundle.join("config.json"), config.to_string()).context(bundle.display())
    }

    fn start(&self, id: usize) -> Command {
        let mut command = self.command(&["run", "--detach", "--bundle"]);
        command.arg(self.bundles.join(name(id)));
        if let Some(consoles) = &self.consoles {
            command.arg("--console-socket").arg(&consoles.socket);
        }
        command.arg(name(id));
        command
    }

    fn stop(&self, id: usize) -> Command {
        self.command(&["kill", &name(id), "TERM"])
    }

    fn update(&self, id: usize, limit: Limit) -> Command {
        let (option, value) = match limit {
            Limit::Memory(bytes) => ("--memory", bytes),
            // crun makes a weight of shares by itself.
            Limit::CpuUnits(_) => ("--cpu-share", limit.value(true)),
            Limit::Tasks(tasks) => ("--pids-limit", tasks),
        };
        self.command(&["update", option, &value.to_string(), &name(id)])
    }

    fn tidy(&self, id: usize) -> Option<Command> {
        Some(self.command(&["delete", &name(id)]))
    }
}

fn mount(target: &str, kind: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": kind, "options": options})
}

/// Who gets the consoles from crun, and holds them as vzd's keeper does.
struct Consoles {
    socket: PathBuf,
    /// Held, not looked at: the payload says nothing.
    _held: Receiver<OwnedFd>,
}

impl Consoles {
    fn listen(socket: PathBuf) -> Result<Consoles> {
        let listener = UnixListener::bind(&socket).context(socket.display())?;
        let (hold, held) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sys::receive_fd(&stream).is_ok_and(|console| hold.send(console).is_err()) {
                    return;
                }
            }
        });
        Ok(Consoles { socket, _held: held })
    }
}

fn config(root: &str, host_name: &str, cgroup: &str) -> Value {
    // What a VE's init may do; the kernel asks for most of them in its own user namespace only.
    let capabilities: Vec<String> = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE \
        NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE MKNOD LEASE \
        AUDIT_WRITE SETFCAP"
        .split_whitespace()
        .map(|name| format!("CAP_{name}"))
        .collect();
    let ids = json!([{"containerID": 0, "hostID": FIRST_ID, "size": IDS}]);
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": [PAYLOAD],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=bench"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": root, "readonly": false},
        "hostname": host_name,
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "uidMappings": ids,
            "gidMappings": ids,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
