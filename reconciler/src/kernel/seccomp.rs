//! The system call filter of a VE: a deny list, as a classic BPF program.
//!
//! Namespaces, capabilities and masks refuse most of what a VE must not do; this refuses the rest (the
//! list was measured, call by call). The filter knows both x86-64 and the 32-bit
//! calls, so that a VE may run i386 programs and cannot slip past it through them. It is written by hand
//! because the crates at hand end the process when it makes a 32-bit call.
//! Layouts follow include/uapi/linux/{seccomp,filter,audit}.h.

pub mod notify;

use std::os::fd::{FromRawFd, OwnedFd};

use crate::error::{SysError, SysResult};

/// One instruction of a filter: `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A refused call: name, number on x86-64, number on i386, errno.
type Denied = (&'static str, u32, u32, i32);

/// A number no call has.
const NONE: u32 = u32::MAX;

const DENIED: &[Denied] = &[
    // The kernel's own code and memory.
    ("kexec_load", 246, 283, libc::EPERM),
    ("kexec_file_load", 320, NONE, libc::EPERM),
    ("init_module", 175, 128, libc::EPERM),
    ("finit_module", 313, 350, libc::EPERM),
    ("delete_module", 176, 129, libc::EPERM),
    ("create_module", 174, 127, libc::EPERM),
    ("bpf", 321, 357, libc::EPERM),
    ("perf_event_open", 298, 336, libc::EPERM),
    ("userfaultfd", 323, 374, libc::EPERM),
    ("lookup_dcookie", 212, 253, libc::EPERM),
    ("iopl", 172, 110, libc::EPERM),
    ("ioperm", 173, 101, libc::EPERM),
    ("nfsservctl", 180, 169, libc::EPERM),
    // Keyrings are not in a namespace: a key of one VE can be named from another.
    ("add_key", 248, 286, libc::EPERM),
    ("request_key", 249, 287, libc::EPERM),
    ("keyctl", 250, 288, libc::EPERM),
    // Its workers act outside of what this filter sees. ENOSYS makes programs use plain calls.
    ("io_uring_setup", 425, 425, libc::ENOSYS),
    ("io_uring_enter", 426, 426, libc::ENOSYS),
    ("io_uring_register", 427, 427, libc::ENOSYS),
    // Host-wide state.
    ("swapon", 167, 87, libc::EPERM),
    ("swapoff", 168, 115, libc::EPERM),
    ("acct", 163, 51, libc::EPERM),
    ("settimeofday", 164, 79, libc::EPERM),
    ("clock_settime", 227, 264, libc::EPERM),
    ("clock_settime64", NONE, 404, libc::EPERM),
    ("stime", NONE, 25, libc::EPERM),
    // A handle names a file by inode, past every mount and chroot.
    ("open_by_handle_at", 304, 342, libc::EPERM),
    // Long gone, never needed.
    ("uselib", 134, 86, libc::ENOSYS),
    ("_sysctl", 156, 149, libc::ENOSYS),
    ("vm86", NONE, 166, libc::ENOSYS),
    ("vm86old", NONE, 113, libc::ENOSYS),
];

/// Refused beside [`ATTRIBUTES`], which it sets by path. ENOSYS makes programs use those.
const FILE_SETATTR: Denied = ("file_setattr", 469, 469, libc::ENOSYS);

/// Socket families that reach past the VE: the hypervisor's, and the kernel's crypto.
const DENIED_FAMILIES: [u32; 2] = [libc::AF_VSOCK as u32, libc::AF_ALG as u32];

/// Setting attributes of files. A file of the template has no project; overlayfs checks such a call against that file,
/// copies it up, and then gives the copy what was asked for with the host's rights: out of the VE's project, and so
/// out of its limits.
const ATTRIBUTES: [u32; 3] = [
    // FS_IOC_SETFLAGS, the same for 32-bit programs, FS_IOC_FSSETXATTR.
    0x4008_6602,
    0x4004_6602,
    0x401c_5820,
];

const ARCH_X86_64: u32 = 0xC000_003E;
const ARCH_I386: u32 = 0x4000_0003;
const SOCKET_X86_64: u32 = 41;
const SOCKET_I386: u32 = 359;
const IOCTL_X86_64: u32 = 16;
const IOCTL_I386: u32 = 54;
/// The old multiplexer: its arguments lie in memory, where a filter cannot look.
const SOCKETCALL_I386: u32 = 102;
/// What [`Rules::quotas`] is about. The 32-bit call has structures of its own.
const QUOTACTL_X86_64: u32 = 179;
const QUOTACTL_I386: u32 = 131;
/// x32 calls come with this bit under the x86-64 architecture.
const X32_BIT: u32 = 0x4000_0000;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
/// The lower half of the first argument, and of the second: the kernel looks at no more of families and ioctls.
const OFFSET_ARG0: u32 = 16;
const OFFSET_ARG1: u32 = 24;

fn load(offset: u32) -> Op {
    Op { code: 0x20, jt: 0, jf: 0, k: offset }
}
fn ret(value: u32) -> Op {
    Op { code: 0x06, jt: 0, jf: 0, k: value }
}
fn ret_errno(errno: i32) -> Op {
    ret(RET_ERRNO | (errno.unsigned_abs() & 0xffff))
}
/// Goes on with the next instruction when equal, else skips one.
fn if_equal(k: u32) -> Op {
    Op { code: 0x15, jt: 0, jf: 1, k }
}
/// Goes on with the next instruction when at least `k`, else skips one.
fn if_at_least(k: u32) -> Op {
    Op { code: 0x35, jt: 0, jf: 1, k }
}
/// Skips `by` instructions.
fn skip(by: usize) -> Op {
    Op { code: 0x05, jt: 0, jf: 0, k: u32::try_from(by).unwrap_or(u32::MAX) }
}

/// Refuses a call for some values of an argument, and allows it for all others; any other call passes over this.
fn by_argument(call: u32, argument: u32, values: &[u32], errno: i32) -> Vec<Op> {
    let mut tests = vec![load(argument)];
    for value in values {
        tests.extend([if_equal(*value), ret_errno(errno)]);
    }
    tests.push(ret(RET_ALLOW));
    let mut ops = vec![Op { code: 0x15, jt: 1, jf: 0, k: call }, skip(tests.len())];
    ops.extend(tests);
    ops
}

/// What a VE is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules<'a> {
    /// Names of more system calls: one a line, `#` starts a comment. A name that this version does not know is refused,
    /// never skipped. With such a profile no 32-bit call is allowed at all, so that what it refuses cannot be had
    /// through them.
    pub profile: Option<&'a str>,
    /// Attributes of files may be set: its root is a file system of its own, on which they mean nothing to others.
    pub own_attributes: bool,
    /// Somebody answers for quotactl(2): [`install`] gives a [`notify::Listener`].
    pub quotas: bool,
}

/// The part for one architecture; the call number is in the accumulator when it starts.
fn section(rules: Rules<'_>, socket: u32, ioctl: u32, number: impl Fn(&Denied) -> u32) -> Vec<Op> {
    let mut ops = Vec::new();
    for denied in DENIED.iter().chain((!rules.own_attributes).then_some(&FILE_SETATTR)) {
        if number(denied) != NONE {
            ops.extend([if_equal(number(denied)), ret_errno(denied.3)]);
        }
    }
    ops.extend(by_argument(socket, OFFSET_ARG0, &DENIED_FAMILIES, libc::EAFNOSUPPORT));
    if !rules.own_attributes {
        ops.extend(by_argument(ioctl, OFFSET_ARG1, &ATTRIBUTES, libc::EOPNOTSUPP));
    }
    ops.push(ret(RET_ALLOW));
    ops
}

/// The filter without a profile.
fn default_filter(rules: Rules<'_>) -> Vec<Op> {
    let mut native = vec![load(OFFSET_NR), if_at_least(X32_BIT), ret_errno(libc::ENOSYS)];
    if rules.quotas {
        native.extend([if_equal(QUOTACTL_X86_64), ret(RET_NOTIFY)]);
    }
    native.extend(section(rules, SOCKET_X86_64, IOCTL_X86_64, |denied| denied.1));
    let mut compat = vec![load(OFFSET_NR), if_equal(SOCKETCALL_I386), ret_errno(libc::ENOSYS)];
    if rules.quotas {
        compat.extend([if_equal(QUOTACTL_I386), ret_errno(libc::ENOSYS)]);
    }
    compat.extend(section(rules, SOCKET_I386, IOCTL_I386, |denied| denied.2));

    let mut filter = vec![load(OFFSET_ARCH)];
    filter.push(Op { code: 0x15, jt: 1, jf: 0, k: ARCH_X86_64 });
    filter.push(skip(native.len()));
    filter.extend(native);
    filter.push(Op { code: 0x15, jt: 1, jf: 0, k: ARCH_I386 });
    filter.push(skip(compat.len()));
    filter.extend(compat);
    filter.push(ret_errno(libc::ENOSYS));
    filter
}

/// Leaves quotactl(2) to be answered, and allows everything else: for processes that get the rest of their filter from a
/// checkpoint ([`without_listener`]).
pub fn quotas_only() -> Vec<Op> {
    vec![
        load(OFFSET_ARCH),
        Op { code: 0x15, jt: 0, jf: 3, k: ARCH_X86_64 },
        load(OFFSET_NR),
        if_equal(QUOTACTL_X86_64),
        ret(RET_NOTIFY),
        ret(RET_ALLOW),
    ]
}

/// Whether a filter is that one; `bytes` are its instructions as the kernel has them.
pub fn is_quotas_only(bytes: &[u8]) -> bool {
    bytes == encode(&quotas_only())
}

/// A filter that allows quotactl(2) where it left that to be answered. Put back from a checkpoint nobody hears it; this one
/// leaves that to an older filter that somebody does.
pub fn without_listener(bytes: &[u8]) -> Vec<u8> {
    let asks = encode(&[if_equal(QUOTACTL_X86_64), ret(RET_NOTIFY)]);
    let allows = encode(&[if_equal(QUOTACTL_X86_64), ret(RET_ALLOW)]);
    let mut bytes = bytes.to_vec();
    for at in (0..bytes.len()).step_by(size_of::<Op>()) {
        if let Some(pair) = bytes.get_mut(at..at + asks.len()).filter(|pair| **pair == *asks) {
            pair.copy_from_slice(&allows);
        }
    }
    bytes
}

fn encode(ops: &[Op]) -> Vec<u8> {
    let bytes = |op: &Op| {
        let [low, high] = op.code.to_ne_bytes();
        [low, high, op.jt, op.jf].into_iter().chain(op.k.to_ne_bytes())
    };
    ops.iter().flat_map(bytes).collect()
}

/// The filter that carries out some rules.
pub fn filter(rules: Rules<'_>) -> SysResult<Vec<Op>> {
    match rules.profile {
        None => Ok(default_filter(rules)),
        Some(profile) => {
            filter_with(profile, rules).map_err(|why| SysError::refused("use", "seccomp profile", why))
        }
    }
}

fn filter_with(profile: &str, rules: Rules<'_>) -> Result<Vec<Op>, String> {
    let mut native = vec![load(OFFSET_NR)];
    for (at, line) in profile.lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        let known = NAMED.iter().find(|(known, _)| known.strip_prefix("SYS_") == Some(name));
        let Some((_, number)) = known else {
            return Err(format!("line {}: system call {name:?} is not known", at + 1));
        };
        native.extend([if_equal(*number), ret_errno(libc::EPERM)]);
    }
    let mut filter = vec![load(OFFSET_ARCH), if_equal(ARCH_I386), ret_errno(libc::ENOSYS)];
    filter.extend(native);
    filter.extend(default_filter(rules));
    Ok(filter)
}

macro_rules! named {
    ($($name:ident),* $(,)?) => {
        /// Calls that a profile may refuse on top of the default list, with libc's names.
        #[expect(clippy::cast_possible_truncation, reason = "call numbers are small and positive")]
        const NAMED: &[(&str, u32)] = &[$((stringify!($name), libc::$name as u32)),*];
    };
}
named!(
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_ptrace,
    SYS_unshare,
    SYS_setns,
    SYS_mknod,
    SYS_mknodat,
    SYS_personality,
    SYS_syslog,
    SYS_vhangup,
    SYS_reboot,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_memfd_secret,
    SYS_memfd_create,
    SYS_name_to_handle_at,
    SYS_fanotify_init,
    SYS_quotactl,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_mbind,
    SYS_set_mempolicy,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_open_tree,
    SYS_move_mount,
    SYS_mount_setattr,
    SYS_kcmp,
    SYS_sched_setscheduler,
    SYS_sched_setattr,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_splice,
    SYS_vmsplice,
    SYS_tee,
);

/// Puts a filter in force on this process and all it will execute. Needs CAP_SYS_ADMIN in the
/// process's user namespace, so that `no_new_privs` need not be set (setuid programs go on working). With `listening`,
/// gives the listener of what the filter leaves to others; it is closed on exec.
pub fn install(filter: &[Op], listening: bool) -> SysResult<Option<OwnedFd>> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Op,
    }
    let len = u16::try_from(filter.len())
        .map_err(|_| SysError::refused("install", "system call filter", "more than 65535 instructions"))?;
    let program = Program { len, filter: filter.as_ptr() };
    // SAFETY: `program` and the instructions it points to outlive the call, which copies them.
    let rc = unsafe {
        let flags = if listening { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    match i32::try_from(rc) {
        Ok(0) if !listening => Ok(None),
        // SAFETY: with that flag the call gives a new descriptor, which nobody else has.
        Ok(fd) if listening && fd >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        _ => Err(SysError::new("install", "system call filter", std::io::Error::last_os_error())),
    }
}
