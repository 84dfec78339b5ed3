//! Probes of what belongs to the whole machine: clocks, kernel code, the log, accounting, reboot.
//!
//! Each passes arguments that the kernel refuses right after the permission check, or the values it has already.

use super::Probe;
use super::outcome::{Outcome, judge, judge_with, worst};
use super::scratch;
use crate::sys::{Arg, Block, call, open, text};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused("clock-settime", "clock_settime to the time it is", clock_settime),
    Probe::refused("settimeofday", "settimeofday to the time it is", settimeofday),
    Probe::refused("adjtimex", "adjtimex with the tick it has", adjtimex),
    Probe::refused("module-load", "init_module, finit_module and delete_module with nothing valid", modules),
    Probe::refused("kexec-load", "kexec_load and kexec_file_load with bad flags", kexec),
    Probe::refused("io-ports", "iopl(3) and ioperm", ports),
    Probe::refused("syslog-read", "read the kernel's log with syslog(2)", syslog),
    Probe::refused("kmsg-open", "read the kernel's log from /proc/kmsg and /dev/kmsg", kmsg),
    Probe::refused("bpf-prog-load", "load a BPF program of two instructions", bpf_program),
    Probe::refused("bpf-map-create", "make a BPF map of one entry", bpf_map),
    Probe::refused("perf-cpu-wide", "perf_event_open on all of CPU 0", perf_cpu_wide),
    Probe::refused("swapon", "swapon and swapoff of a file that isn't there", swap),
    Probe::refused("acct", "process accounting into a file that isn't there", acct),
    Probe::refused("quotactl-root", "set no limit at all in the root's quota", quotactl),
    Probe::refused("reboot-kexec", "reboot(KEXEC) and reboot(CAD_OFF)", reboot),
    Probe::refused("audit-netlink", "ask the kernel's audit for its state", audit),
];

fn clock_settime() -> Outcome {
    let realtime = i64::from(libc::CLOCK_REALTIME);
    let mut now = Block::new();
    if let Err(errno) = call(libc::SYS_clock_gettime, [Arg::Int(realtime), Arg::Block(&mut now)]) {
        return Outcome::unclear(format!("clock_gettime: {errno}"));
    }
    judge(call(libc::SYS_clock_settime, [Arg::Int(realtime), Arg::Block(&mut now)]))
}

fn settimeofday() -> Outcome {
    let mut now = Block::new();
    if let Err(errno) = call(libc::SYS_gettimeofday, [Arg::Block(&mut now), Arg::Null]) {
        return Outcome::unclear(format!("gettimeofday: {errno}"));
    }
    judge(call(libc::SYS_settimeofday, [Arg::Block(&mut now), Arg::Null]))
}

fn adjtimex() -> Outcome {
    const ADJ_TICK: u32 = 0x4000;
    let mut state = Block::new();
    if let Err(errno) = call(libc::SYS_adjtimex, [Arg::Block(&mut state)]) {
        return judge(Err::<i64, _>(errno));
    }
    state.put_u32(0, ADJ_TICK);
    judge(call(libc::SYS_adjtimex, [Arg::Block(&mut state)]))
}

fn modules() -> Outcome {
    let mut nothing = Block::new();
    let null = open("/dev/null", libc::O_RDONLY);
    let null = null.as_ref().map_or(Arg::Int(-1), Arg::from);
    worst([
        (
            "init_module",
            judge(call(libc::SYS_init_module, [Arg::Block(&mut nothing), Arg::Int(0), Arg::Text(c"")])),
        ),
        ("finit_module", judge(call(libc::SYS_finit_module, [null, Arg::Text(c""), Arg::Int(0)]))),
        ("delete_module", {
            let missing = [Arg::Text(c"vzd_no_such_module"), Arg::Int(i64::from(libc::O_NONBLOCK))];
            match call(libc::SYS_delete_module, missing) {
                Err(errno) if errno.0 == libc::ENOENT => {
                    Outcome::allowed("past the permission check: ENOENT")
                }
                other => judge(other),
            }
        }),
    ])
}

fn kexec() -> Outcome {
    // Flags are looked at after the permission, and before anything that exists is touched.
    const NO_SUCH_FLAGS: i64 = 0xff00;
    worst([
        (
            "kexec_load",
            judge(call(libc::SYS_kexec_load, [Arg::Int(0), Arg::Int(0), Arg::Null, Arg::Int(NO_SUCH_FLAGS)])),
        ),
        ("kexec_file_load", {
            let arguments = [Arg::Int(-1), Arg::Int(-1), Arg::Int(0), Arg::Null, Arg::Int(NO_SUCH_FLAGS)];
            judge(call(libc::SYS_kexec_file_load, arguments))
        }),
    ])
}

fn ports() -> Outcome {
    worst([
        ("iopl", judge(call(libc::SYS_iopl, [Arg::Int(3)]))),
        ("ioperm", judge(call(libc::SYS_ioperm, [Arg::Int(0x80), Arg::Int(1), Arg::Int(1)]))),
    ])
}

fn syslog() -> Outcome {
    const READ_ALL: i64 = 3;
    let mut log = Block::new();
    match call(libc::SYS_syslog, [Arg::Int(READ_ALL), Arg::Block(&mut log), Arg::Int(4096)]) {
        Ok(0) => Outcome::harmless("the log read is empty"),
        Ok(length) => Outcome::allowed(format!("{length} bytes of the kernel's log")),
        Err(errno) => judge(Err::<i64, _>(errno)),
    }
}

fn kmsg() -> Outcome {
    worst(["/proc/kmsg", "/dev/kmsg"].map(|path| {
        let Ok(fd) = open(path, libc::O_RDONLY | libc::O_NONBLOCK) else {
            return (path, judge(open(path, libc::O_RDONLY | libc::O_NONBLOCK)));
        };
        let mut line = Block::new();
        let outcome = match call(libc::SYS_read, [Arg::from(&fd), Arg::Block(&mut line), Arg::Int(4096)]) {
            Ok(0) => Outcome::harmless("empty"),
            Err(errno) if errno.0 == libc::EAGAIN => Outcome::allowed("opened; nothing new to read"),
            other => judge(other),
        };
        (path, outcome)
    }))
}

fn bpf_program() -> Outcome {
    const PROG_LOAD: i64 = 5;
    const SOCKET_FILTER: u32 = 1;
    let mut code = Block::new();
    // r0 = 0; exit
    code.put(0, &[0xb7, 0, 0, 0, 0, 0, 0, 0]).put(8, &[0x95, 0, 0, 0, 0, 0, 0, 0]).put(16, b"GPL");
    let mut attributes = Block::new();
    attributes
        .put_u32(0, SOCKET_FILTER)
        .put_u32(4, 2)
        .put_u64(8, code.address())
        .put_u64(16, code.address() + 16);
    judge(call(libc::SYS_bpf, [Arg::Int(PROG_LOAD), Arg::Block(&mut attributes), Arg::Int(48)]))
}

fn bpf_map() -> Outcome {
    const MAP_CREATE: i64 = 0;
    const ARRAY: u32 = 2;
    let mut attributes = Block::new();
    attributes.put_u32(0, ARRAY).put_u32(4, 4).put_u32(8, 4).put_u32(12, 1);
    judge(call(libc::SYS_bpf, [Arg::Int(MAP_CREATE), Arg::Block(&mut attributes), Arg::Int(48)]))
}

fn perf_cpu_wide() -> Outcome {
    judge(perf_event(-1, 0))
}

/// perf_event_open of the software CPU clock.
pub(super) fn perf_event(pid: i64, cpu: i64) -> Result<i64, crate::sys::Errno> {
    const SOFTWARE: u32 = 1;
    const SIZE_OF_FIRST_VERSION: u32 = 64;
    let mut attributes = Block::new();
    attributes.put_u32(0, SOFTWARE).put_u32(4, SIZE_OF_FIRST_VERSION);
    let place = [Arg::Block(&mut attributes), Arg::Int(pid), Arg::Int(cpu), Arg::Int(-1), Arg::Int(0)];
    call(libc::SYS_perf_event_open, place)
}

fn swap() -> Outcome {
    let missing = text(scratch::file("no-such-file"));
    let got_past = |result| match result {
        Err(crate::sys::Errno(libc::ENOENT)) => Outcome::allowed("past the permission check: ENOENT"),
        other => judge::<i64>(other),
    };
    worst([
        ("swapon", got_past(call(libc::SYS_swapon, [Arg::Text(&missing), Arg::Int(0)]))),
        ("swapoff", got_past(call(libc::SYS_swapoff, [Arg::Text(&missing)]))),
    ])
}

fn acct() -> Outcome {
    // Without a file it would turn accounting off.
    match call(libc::SYS_acct, [Arg::Text(&text(scratch::file("no-such-file")))]) {
        Err(errno) if errno.0 == libc::ENOENT => Outcome::allowed("past the permission check: ENOENT"),
        other => judge(other),
    }
}

fn quotactl() -> Outcome {
    const SET_USER_QUOTA: i64 = 0x80_0008 << 8;
    let Ok(root) = open("/", libc::O_RDONLY | libc::O_DIRECTORY) else {
        return Outcome::unclear("/ doesn't open");
    };
    // Without a valid bit in the structure, no value of it is taken over.
    let mut nothing = Block::new();
    let arguments = [Arg::from(&root), Arg::Int(SET_USER_QUOTA), Arg::Int(0), Arg::Block(&mut nothing)];
    judge(call(libc::SYS_quotactl_fd, arguments))
}

fn reboot() -> Outcome {
    // In a pid namespace of its own, which `run` has checked, neither of them does anything.
    let [magic, magic2] = [libc::LINUX_REBOOT_MAGIC1, libc::LINUX_REBOOT_MAGIC2].map(i64::from);
    worst([("KEXEC", libc::LINUX_REBOOT_CMD_KEXEC), ("CAD_OFF", libc::LINUX_REBOOT_CMD_CAD_OFF)].map(
        |(name, command)| {
            let arguments = [Arg::Int(magic), Arg::Int(magic2), Arg::Int(i64::from(command)), Arg::Null];
            (name, judge_with(call(libc::SYS_reboot, arguments), &[libc::EINVAL]))
        },
    ))
}

fn audit() -> Outcome {
    const NETLINK_AUDIT: i64 = 9;
    const AUDIT_GET: u32 = 1000;
    const REQUEST_AND_ACK: u32 = 5;
    let family = i64::from(libc::AF_NETLINK);
    let socket = match call(libc::SYS_socket, [Arg::Int(family), Arg::Int(3), Arg::Int(NETLINK_AUDIT)]) {
        Ok(socket) => socket,
        Err(errno) => return judge(Err::<i64, _>(errno)),
    };
    let mut message = Block::new();
    message.put_u32(0, 16).put_u32(4, AUDIT_GET | REQUEST_AND_ACK << 16);
    if let Err(errno) = call(libc::SYS_write, [Arg::Int(socket), Arg::Block(&mut message), Arg::Int(16)]) {
        return judge_with(Err::<i64, _>(errno), &[libc::ECONNREFUSED]);
    }
    let mut answer = Block::new();
    let dontwait = i64::from(libc::MSG_DONTWAIT);
    let read =
        [Arg::Int(socket), Arg::Block(&mut answer), Arg::Int(4096), Arg::Int(dontwait), Arg::Null, Arg::Null];
    match call(libc::SYS_recvfrom, read) {
        Ok(_) if answer.get_u32(4) & 0xffff == 2 && answer.get_u32(16) != 0 => {
            Outcome::refused(crate::sys::Errno(answer.get_u32(16).cast_signed().wrapping_neg()))
        }
        other => judge(other),
    }
}
