//! Probes of what namespaces, capabilities and masks do not refuse: it takes seccomp, a sysctl or a decision.
//!
//! Whatever they make (rings, keys, sockets, namespaces) belongs to the probe's process and goes with it.

use super::Probe;
use super::outcome::{Outcome, judge, worst};
use crate::sys::{Arg, Block, Errno, call};

pub(super) const PROBES: &[Probe] = &[
    Probe::policy("vsock", "a socket to the hypervisor (AF_VSOCK)", || {
        judge(socket(libc::AF_VSOCK, libc::SOCK_STREAM))
    }),
    Probe::policy("af-alg", "a socket to the kernel's ciphers (AF_ALG)", || {
        judge(socket(libc::AF_ALG, libc::SOCK_SEQPACKET))
    }),
    Probe::policy("io-uring", "io_uring_setup", || {
        judge(call(libc::SYS_io_uring_setup, [Arg::Int(1), Arg::Block(&mut Block::new())]))
    }),
    Probe::policy("keyring", "add_key, and keyctl for the persistent keyring", keyring),
    Probe::policy("request-key", "request_key for a key that doesn't exist", request_key),
    Probe::policy("nested-userns", "unshare(CLONE_NEWUSER)", || unshare(libc::CLONE_NEWUSER)),
    Probe::allowed("nested-mountns", "unshare(CLONE_NEWNS)", || unshare(libc::CLONE_NEWNS)),
    Probe::policy("userfaultfd", "userfaultfd for kernel faults too", || {
        judge(call(libc::SYS_userfaultfd, [Arg::Int(0)]))
    }),
    Probe::policy("userfaultfd-user", "userfaultfd for faults of the process itself", || {
        judge(call(libc::SYS_userfaultfd, [Arg::Int(1)]))
    }),
    Probe::policy("perf-self", "perf_event_open on itself", || judge(super::kernel::perf_event(0, -1))),
    Probe::policy("memfd-secret", "memfd_secret", || judge(call(libc::SYS_memfd_secret, [Arg::Int(0)]))),
    Probe::policy("personality", "personality without address randomisation", personality),
    Probe::policy("vhangup", "vhangup in a session without a terminal", vhangup),
    Probe::policy("fanotify", "fanotify_init with permission events", || {
        const CLASS_CONTENT: i64 = 4;
        judge(call(libc::SYS_fanotify_init, [Arg::Int(CLASS_CONTENT), Arg::Int(0)]))
    }),
    Probe::policy("kcmp", "kcmp of itself with PID 1", kcmp),
    Probe::policy(
        "abstract-sockets",
        "find abstract Unix sockets of other network namespaces",
        abstract_sockets,
    ),
];

fn socket(family: i32, kind: i32) -> Result<i64, Errno> {
    call(libc::SYS_socket, [Arg::Int(i64::from(family)), Arg::Int(i64::from(kind)), Arg::Int(0)])
}

fn unshare(flag: i32) -> Outcome {
    match call(libc::SYS_unshare, [Arg::Int(i64::from(flag))]) {
        // The limit of user.max_*_namespaces; 0 forbids them.
        Err(errno) => super::outcome::judge_with(Err::<(), _>(errno), &[libc::ENOSPC]),
        Ok(_) => Outcome::allowed("it worked"),
    }
}

fn keyring() -> Outcome {
    const PROCESS_KEYRING: i64 = -2;
    const GET_PERSISTENT: i64 = 22;
    let mut payload = Block::new();
    let add = [
        Arg::Text(c"user"),
        Arg::Text(c"vzd-probe"),
        Arg::Block(&mut payload),
        Arg::Int(1),
        Arg::Int(PROCESS_KEYRING),
    ];
    let persistent = [Arg::Int(GET_PERSISTENT), Arg::Int(-1), Arg::Int(PROCESS_KEYRING)];
    worst([
        ("add_key", judge(call(libc::SYS_add_key, add))),
        ("keyctl", judge(call(libc::SYS_keyctl, persistent))),
    ])
}

fn request_key() -> Outcome {
    // Without callout information it only searches, and runs no helper.
    match call(
        libc::SYS_request_key,
        [Arg::Text(c"user"), Arg::Text(c"vzd-no-such-key"), Arg::Null, Arg::Int(0)],
    ) {
        Err(errno) if errno.0 == libc::ENOKEY => Outcome::allowed("past the permission check: ENOKEY"),
        other => judge(other),
    }
}

fn personality() -> Outcome {
    const QUERY: i64 = 0xffff_ffff;
    const NO_RANDOMIZE: i64 = 0x0004_0000;
    match call(libc::SYS_personality, [Arg::Int(QUERY)]) {
        Ok(current) => judge(call(libc::SYS_personality, [Arg::Int(current | NO_RANDOMIZE)])),
        Err(errno) => judge(Err::<(), _>(errno)),
    }
}

fn vhangup() -> Outcome {
    // In a session of its own there is no terminal to hang up.
    match call(libc::SYS_setsid, []) {
        Ok(_) => judge(call(libc::SYS_vhangup, [])),
        Err(errno) => Outcome::unclear(format!("setsid: {errno}")),
    }
}

fn kcmp() -> Outcome {
    let this = i64::from(std::process::id());
    const KCMP_VM: i64 = 1;
    judge(call(libc::SYS_kcmp, [Arg::Int(this), Arg::Int(1), Arg::Int(KCMP_VM), Arg::Int(0), Arg::Int(0)]))
}

fn abstract_sockets() -> Outcome {
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names: Vec<&str> = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|name| name.starts_with('@'))
        .collect();
    if names.is_empty() { Outcome::absent("none") } else { Outcome::allowed(names.join(" ")) }
}
