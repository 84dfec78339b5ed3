//! `vzd import lxc|proxmox|incus`: single files of other systems to manifests, with the same report.

use std::fs;
use std::path::{Path, PathBuf};

use super::convert::Imported;
use super::{Origin, incus, lxc, origin, proxmox};
use crate::cli::failure::Failure;

/// Which system a file is of.
#[derive(Debug, Clone, Copy)]
pub enum System {
    /// LXC.
    Lxc,
    /// Proxmox VE.
    Proxmox,
    /// Incus or LXD.
    Incus,
}

/// Options of the imports of single files.
#[derive(Debug, clap::Args)]
pub struct Foreign {
    /// Configurations
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The VE's name, of a single file; else what the file says
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Write manifests there instead of to the manifest directory
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Print manifests instead of writing them
    #[arg(long)]
    pub dry_run: bool,
}

impl Foreign {
    /// What a file comes to.
    pub fn convert(&self, system: System, file: &Path) -> Result<Imported, Failure> {
        let bytes = fs::read(file).map_err(|error| super::cannot("read", file, error))?;
        let text = String::from_utf8_lossy(&bytes);
        let stem = match (file.file_stem(), file.parent().and_then(Path::file_name)) {
            // Of LXC each container has a directory with a file of this name.
            (Some(stem), Some(dir)) if stem == "config" => Some(dir),
            (stem, _) => stem,
        };
        let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = self.name.as_deref();
        let imported = match system {
            System::Lxc => Ok(lxc::container(name, &stem, &text)),
            System::Proxmox => {
                let ctid = origin(file).and_then(|origin| match origin {
                    Origin::Container(ctid) => Some(ctid),
                    Origin::Sample(_) | Origin::Host => None,
                });
                Ok(proxmox::container(name, ctid, &text))
            }
            System::Incus => incus::instance(name, &stem, &text),
        };
        imported.map_err(|why| Failure::new(format!("{} cannot be taken over: {why}", file.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::building::errors;
    use super::*;

    /// A generator that needs no crate: the same files each time.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % n as u64).unwrap()
        }
    }

    const VALUES: &[&str] = &[
        "1",
        "0",
        "true",
        "false",
        "max",
        "-1",
        "512M",
        "512MiB",
        "99999999999999999999",
        "0.5",
        "veth",
        "br0",
        "nic",
        "disk",
        "/",
        "/srv",
        "10.0.0.5/24",
        "dhcp",
        "name=eth0,bridge=br0,ip=dhcp",
        "name=,bridge=",
        "/srv,mp=/srv,ro=1",
        "vol:x,mp=/x,size=4G",
        "size=8G",
        ",,=,",
        "order=3,up=,down=x",
        "%zz%",
        "/a b none bind 0 0",
        "/a b none bind,ro,odd 0 0",
        "c 10:200 rwm",
        "a",
        "u 0 100000 65536",
        "\u{1b}[31m",
        "äöü",
        "50000 100000",
        "50000 0",
        "25ms/0ms",
        "nesting=1,x=y",
        "{a: b}",
        "[1",
        "*x",
        "&x",
        "- a",
        "'",
        "\"",
        "\\",
        "",
    ];

    fn lines(seed: u64, keys: &[&str], between: &str) -> String {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut text = String::new();
        for _ in 0..chance.next(30) {
            let (key, value) = (keys[chance.next(keys.len())], VALUES[chance.next(VALUES.len())]);
            text += &match chance.next(10) {
                0 => format!("# {key}\n"),
                1 => format!("{key} {value}\n"),
                2 => format!("x{key}{between}{value}\n"),
                _ => format!("{key}{between}{value}\n"),
            };
        }
        text
    }

    /// Each line that says something is in the manifest or told.
    fn whole(text: &str, is: &Imported, between: char) {
        assert!(errors(&is.text).is_empty(), "{text}\n{}\n{:?}", is.text, errors(&is.text));
        for (at, line) in
            text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        {
            let key = line.split(between).next().unwrap_or_default().trim();
            // Of some lines only parts may be kept; of version 2 interfaces are numbered by their order.
            let part = format!("{key}.");
            let is_net = key.starts_with("lxc.net");
            let mut kept = is.kept.iter();
            let kept = kept
                .any(|kept| kept == key || kept.starts_with(&part) || is_net && kept.starts_with("lxc.net."));
            assert!(
                kept || is.residue.iter().any(|(line, _)| *line == at + 1),
                "line {}: {text}\n{is:#?}",
                at + 1
            );
        }
    }

    #[test]
    fn generated_files_lose_nothing_silently() {
        const LXC: &[&str] = &[
            "lxc.uts.name",
            "lxc.rootfs.path",
            "lxc.idmap",
            "lxc.net.0.type",
            "lxc.net.0.link",
            "lxc.net.0.ipv4.address",
            "lxc.net.x.type",
            "lxc.network.type",
            "lxc.network.link",
            "lxc.mount.entry",
            "lxc.cgroup2.memory.max",
            "lxc.cgroup.memory.memsw.limit_in_bytes",
            "lxc.cgroup2.cpu.max",
            "lxc.cgroup.cpu.cfs_quota_us",
            "lxc.cgroup.cpu.cfs_period_us",
            "lxc.cgroup.cpu.shares",
            "lxc.cgroup2.devices.allow",
            "lxc.cap.drop",
            "lxc.start.order",
            "lxc.sysctl.net.ipv4.ip_forward",
            "lxc.apparmor.profile",
            "lxc.init.cmd",
        ];
        const PROXMOX: &[&str] = &[
            "hostname",
            "cores",
            "cpulimit",
            "cpuunits",
            "memory",
            "swap",
            "net0",
            "net1",
            "mp0",
            "dev0",
            "rootfs",
            "startup",
            "features",
            "onboot",
            "unprivileged",
            "description",
            "nameserver",
            "lxc.cap.drop",
            "unused0",
            "hookscript",
        ];
        for seed in 1..=150 {
            let text = lines(seed, LXC, " = ");
            whole(&text, &lxc::container(None, "c1", &text), '=');
            let text = lines(seed, PROXMOX, ": ");
            whole(&text, &proxmox::container(None, Some(105), &text), ':');
            // Of YAML what is broken is refused as a whole.
            let config = lines(
                seed,
                &[
                    "  limits.cpu",
                    "  limits.memory",
                    "  user.x",
                    "  volatile.eth0.hwaddr",
                    "  boot.autostart",
                ],
                ": ",
            );
            let text = format!("config:\n{config}devices:\n  eth0:\n{}", config.replace("  ", "    "));
            if let Ok(is) = incus::instance(None, "c1", &text) {
                assert!(errors(&is.text).is_empty(), "{text}\n{}", is.text);
            }
        }
    }
}
