//! What this host's kernel can do, found out by trying where trying is harmless.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vzd_schema::v1::CpuList;
use vzd_state::capability::{Capabilities, Cgroups, Controller, Feature, Version};

use crate::drivers::disk::{btrfs, ext4, project};
use crate::error::{SysError, SysResult};
use crate::kernel::bpf::{self, DeviceKind, DeviceRule};
use crate::kernel::cgroup::{Hierarchy, Layout};
use crate::kernel::{marks, net};
use crate::runtime::checkpoint::swrk;
use crate::settings::Settings;

/// Probes the kernel and host.
pub fn probe(layout: &Layout, settings: &Settings) -> Capabilities {
    let io_disk = disk_of(&settings.state_dir);
    let mut caps = settled(layout, io_disk, settings);
    caps = again(&caps, layout, &settings.state_dir).unwrap_or(caps);
    caps
}

/// What may come and go while the host is up, if it is not as it was: CPUs, the disk's scheduler, quotas of btrfs. (For
/// lxcfs see [`lxcfs`].)
pub fn again(caps: &Capabilities, layout: &Layout, state_dir: &Path) -> Option<Capabilities> {
    let (cpus, nodes) = cpus(layout);
    let io_weight_note = weight_note(layout, caps.io_disk.as_deref());
    let disk_btrfs = btrfs::probe(state_dir);
    let same = (&cpus, &nodes, &io_weight_note, &disk_btrfs)
        == (&caps.cpus, &caps.nodes, &caps.io_weight_note, &caps.disk_btrfs);
    (!same).then(|| Capabilities { cpus, nodes, io_weight_note, disk_btrfs, ..caps.clone() })
}

/// What stays as it is.
fn settled(layout: &Layout, io_disk: Option<String>, settings: &Settings) -> Capabilities {
    let kernel = read("/proc/sys/kernel/osrelease");
    let version = version(&kernel);
    let harmless =
        DeviceRule { kind: DeviceKind::Any, major: None, minor: None, read: true, write: true, mknod: true };
    Capabilities {
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        cgroups: if layout.is_hybrid() { Cgroups::Hybrid } else { Cgroups::V2 },
        controllers: Controller::ALL
            .into_iter()
            .filter_map(|controller| {
                let version = match layout.controller(controller.name())? {
                    Hierarchy::V1(_) => Version::V1,
                    Hierarchy::V2(_) => Version::V2,
                };
                Some((controller, version))
            })
            .collect(),
        cpus: CpuList::up_to(1),
        nodes: CpuList::up_to(1),
        page_size: rustix::param::page_size() as u64,
        swap_limit: swap_limit(layout),
        memory_low: memory_low(layout),
        io_weight: io_weight(layout, io_disk.as_deref()),
        io_weight_note: None,
        io_disk,
        user_namespaces: exists("/proc/self/ns/user", "the kernel has no user namespaces"),
        freezer: since(version, (5, 2), "cgroup.freeze"),
        bpf_device: tried(bpf::try_load(&[harmless])),
        socket_counters: tried(bpf::try_load_sockets()),
        file_counters: tried(bpf::try_load_files(&layout.v2)),
        idmapped_mounts: since(version, (5, 12), "idmapped mounts"),
        overlay_idmap: since(version, (5, 19), "overlays over idmapped layers"),
        overlay_fd_layers: since(version, (6, 13), "overlay layers by descriptor"),
        disk_image: ext4::probe(),
        disk_project: project::probe(&settings.state_dir),
        disk_btrfs: btrfs::probe(&settings.state_dir),
        disk_users: project::probe_users(&settings.state_dir),
        lxcfs: lxcfs(LXCFS),
        seccomp: exists("/proc/sys/kernel/seccomp/actions_avail", "the kernel has no seccomp filters"),
        pidfd_exit_info: since(version, (6, 15), "PIDFD_INFO_EXIT"),
        tun: exists("/dev/net/tun", "there is no /dev/net/tun on the host (modprobe tun)"),
        venet: tried(bpf::try_load_sources()),
        macvlan: tried(net::try_macvlan()),
        bridge_vlans: tried(net::try_vlans()),
        shaping: tried(net::try_shaping()),
        routing_rules: tried(net::try_rules()),
        firewall: tried(net::find_nft()),
        checkpoint: tried(swrk::try_version(&settings.criu).and_then(|()| lets_pass(&settings.run_dir))),
        memory_marks: tried(marks::try_marks()),
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

/// Whether everyone may go through a directory and those above it: CRIU looks up what a VE gets in the run directory, as the VE's
/// root.
fn lets_pass(dir: &Path) -> SysResult<()> {
    let mode = |dir: &Path| std::fs::metadata(dir).map_or(0o777, |is| is.mode() & 0o7777);
    match dir.ancestors().find(|dir| mode(dir) & 0o001 == 0) {
        None => Ok(()),
        Some(closed) => {
            let why = format!(
                "it has mode {:04o}: VEs cannot be resumed where not everyone may pass (mode 0711)",
                mode(closed)
            );
            Err(SysError::refused("keep the run directory below", closed.display(), why))
        }
    }
}

fn tried(loaded: SysResult<()>) -> Feature {
    match loaded {
        Ok(()) => Feature::Yes,
        Err(e) => Feature::No(e.to_string()),
    }
}

/// The CPUs and NUMA nodes of the top of the control groups; those that are online without a controller.
fn cpus(layout: &Layout) -> (CpuList, CpuList) {
    let (dir, cpus, nodes) = match layout.controller(Controller::Cpuset.name()) {
        Some(Hierarchy::V1(top)) => (top, "cpuset.effective_cpus", "cpuset.effective_mems"),
        Some(Hierarchy::V2(top)) => (top, "cpuset.cpus.effective", "cpuset.mems.effective"),
        None => (Path::new("/sys/devices/system"), "cpu/online", "node/online"),
    };
    let list = |file: &str| read(&dir.join(file).to_string_lossy()).parse().ok();
    let or_first = |list: Option<CpuList>| list.unwrap_or_else(|| CpuList::up_to(1));
    (or_first(list(cpus)), or_first(list(nodes)))
}

fn swap_limit(layout: &Layout) -> Feature {
    match layout.controller(Controller::Memory.name()) {
        Some(Hierarchy::V1(top)) => exists(
            &top.join("memory.memsw.limit_in_bytes").to_string_lossy(),
            "the kernel does not count swap",
        ),
        Some(Hierarchy::V2(_)) | None => exists("/proc/swaps", "the kernel has no swap"),
    }
}

fn memory_low(layout: &Layout) -> Feature {
    let no = |why: &str| Feature::No(why.to_owned());
    match layout.controller(Controller::Memory.name()) {
        Some(Hierarchy::V2(_)) if layout.protects_below => Feature::Yes,
        Some(Hierarchy::V2(_)) => no("cgroup2 is mounted without memory_recursiveprot"),
        Some(Hierarchy::V1(_)) => no("the memory controller is version 1, which has no memory.low"),
        None => no("the kernel has no memory controller"),
    }
}

/// The whole disk that the file system of `path`, or of what is there of it, lies on.
fn disk_of(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = path.ancestors().find_map(|path| std::fs::metadata(path).ok())?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let sys = std::fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
    if sys.join("partition").exists() {
        return Some(read(&sys.parent()?.join("dev").to_string_lossy()));
    }
    Some(number)
}

fn scheduler(disk: &str) -> String {
    read(&format!("/sys/dev/block/{disk}/queue/scheduler"))
}

fn io_weight(layout: &Layout, disk: Option<&str>) -> Feature {
    let there = match layout.controller(Controller::Io.name()) {
        // Only groups below the top have weights; statistics come with them.
        Some(Hierarchy::V1(top)) => top.join("blkio.bfq.io_serviced").exists(),
        Some(Hierarchy::V2(top)) => {
            top.join("io.cost.qos").exists() || disk.is_some_and(|disk| scheduler(disk).contains("bfq"))
        }
        None => false,
    };
    match there {
        true => Feature::Yes,
        false => Feature::No("the kernel has no weights of disks (BFQ or iocost)".to_owned()),
    }
}

/// Why weights have no effect as the disk is set up.
fn weight_note(layout: &Layout, disk: Option<&str>) -> Option<String> {
    let Some(disk) = disk else { return Some("no effect: the VEs are on no disk of their own".to_owned()) };
    let scheduler = scheduler(disk);
    let costs = match layout.controller(Controller::Io.name()) {
        Some(Hierarchy::V2(top)) => read(&top.join("io.cost.qos").to_string_lossy()),
        Some(Hierarchy::V1(_)) | None => String::new(),
    };
    let by_cost = costs.lines().any(|line| line.starts_with(disk) && line.contains("enable=1"));
    if by_cost || scheduler.contains("[bfq]") {
        return None;
    }
    let used = scheduler.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("none", |is| is.0);
    Some(format!("no effect while disk {disk} is scheduled by {used}, not by bfq"))
}

/// Where Debian's unit mounts lxcfs.
pub const LXCFS: &str = "/var/lib/lxcfs";

/// That directory, if lxcfs answers there.
pub fn lxcfs(dir: &str) -> Option<String> {
    std::fs::metadata(format!("{dir}/proc/meminfo")).ok().map(|_| dir.to_owned())
}
