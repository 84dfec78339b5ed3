//! What this host's kernel can do, found out by trying where trying is harmless.

use std::path::Path;

use vzd_state::capability::{Capabilities, Cgroups, Feature};

use crate::kernel::bpf::{self, DeviceKind, DeviceRule};
use crate::kernel::cgroup::Layout;

/// Probes the kernel and host.
pub fn probe(layout: &Layout) -> Capabilities {
    let kernel = read("/proc/sys/kernel/osrelease");
    let version = version(&kernel);
    Capabilities {
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        cgroups: if layout.is_hybrid() { Cgroups::Hybrid } else { Cgroups::V2 },
        user_namespaces: exists("/proc/self/ns/user", "the kernel has no user namespaces"),
        freezer: since(version, (5, 2), "cgroup.freeze"),
        bpf_device: bpf_device(),
        idmapped_mounts: since(version, (5, 12), "idmapped mounts"),
        overlay_idmap: since(version, (5, 19), "overlays over idmapped layers"),
        overlay_fd_layers: since(version, (6, 13), "overlay layers by descriptor"),
        lxcfs: lxcfs(LXCFS),
        seccomp: exists("/proc/sys/kernel/seccomp/actions_avail", "the kernel has no seccomp filters"),
        pidfd_exit_info: since(version, (6, 15), "PIDFD_INFO_EXIT"),
        tun: exists("/dev/net/tun", "there is no /dev/net/tun on the host (modprobe tun)"),
        fuse: exists("/dev/fuse", "there is no /dev/fuse on the host (modprobe fuse)"),
        kernel,
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn since(have: (u32, u32), need: (u32, u32), what: &str) -> Feature {
    if have >= need {
        return Feature::Yes;
    }
    Feature::No(format!("{what} came with Linux {}.{}; this is {}.{}", need.0, need.1, have.0, have.1))
}

fn exists(path: &str, why_not: &str) -> Feature {
    if Path::new(path).exists() { Feature::Yes } else { Feature::No(why_not.to_owned()) }
}

fn bpf_device() -> Feature {
    let harmless =
        DeviceRule { kind: DeviceKind::Any, major: None, minor: None, read: true, write: true, mknod: true };
    match bpf::try_load(&[harmless]) {
        Ok(()) => Feature::Yes,
        Err(e) => Feature::No(e.to_string()),
    }
}

/// Where Debian's unit mounts lxcfs.
pub const LXCFS: &str = "/var/lib/lxcfs";

/// That directory, if lxcfs answers there.
pub fn lxcfs(dir: &str) -> Option<String> {
    std::fs::metadata(format!("{dir}/proc/meminfo")).ok().map(|_| dir.to_owned())
}
