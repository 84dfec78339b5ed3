//! One generic system call whose arguments can't be dangling. Must not be used for calls that change the memory map.
#![expect(
    unsafe_code,
    reason = "a probe has to make the call itself: a wrapper that refuses it would prove nothing"
)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Errno;

/// An argument of a system call.
pub(crate) enum Arg<'a> {
    /// A number, flag or file descriptor.
    Int(i64),
    /// A path or another NUL-terminated string.
    Text(&'a CStr),
    /// A structure or buffer, read or written by the kernel; no length given beside it may exceed its size.
    Block(&'a mut Block),
    /// A null pointer.
    Null,
}

/// Memory for a structure that the kernel reads or writes, larger than any that the calls here use.
#[repr(C, align(16))]
pub(crate) struct Block([u8; Block::SIZE]);

impl Block {
    pub(crate) const SIZE: usize = 8192;

    /// All zeros.
    pub(crate) fn new() -> Box<Block> {
        Box::new(Block([0; Block::SIZE]))
    }

    /// Puts `bytes` at `offset`.
    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) -> &mut Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Puts a 32-bit number at `offset`.
    pub(crate) fn put_u32(&mut self, offset: usize, value: u32) -> &mut Self {
        self.put(offset, &value.to_ne_bytes())
    }

    /// Puts a 64-bit number at `offset`.
    pub(crate) fn put_u64(&mut self, offset: usize, value: u64) -> &mut Self {
        self.put(offset, &value.to_ne_bytes())
    }

    /// The 32-bit number at `offset`.
    pub(crate) fn get_u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes([self.0[offset], self.0[offset + 1], self.0[offset + 2], self.0[offset + 3]])
    }

    /// The address, for structures that hold pointers; valid while the block lives and isn't moved out of its box.
    pub(crate) fn address(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }
}

/// Calls that could invalidate Rust's own memory or return twice; nothing here needs them.
const BARRED: &[i64] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_brk,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_process_madvise,
    libc::SYS_madvise,
    libc::SYS_rt_sigreturn,
];

/// Makes system call `number`.
pub(crate) fn call<const N: usize>(number: i64, arguments: [Arg<'_>; N]) -> Result<i64, Errno> {
    assert!(!BARRED.contains(&number), "system call {number} isn't one for here");
    assert!(N <= 6, "no system call takes more than six arguments");
    let mut raw = [0i64; 6];
    for (place, argument) in raw.iter_mut().zip(arguments) {
        *place = match argument {
            Arg::Int(number) => number,
            Arg::Text(text) => text.as_ptr().addr().cast_signed() as i64,
            Arg::Block(block) => block.0.as_mut_ptr().addr().cast_signed() as i64,
            Arg::Null => 0,
        };
    }
    // SAFETY: each pointer comes from a borrow that lives until after the call, strings are NUL-terminated, blocks are
    // larger than any structure used in this crate, and calls that change the memory map are barred above.
    let result = unsafe { libc::syscall(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]) };
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// Makes system call `number` as a 32-bit program does. No pointers: those of a 64-bit program don't fit.
pub(crate) fn call_i386(number: u32, arguments: [u32; 3]) -> Result<i64, Errno> {
    let mut result = u64::from(number);
    // SAFETY: only numbers go in, none of them an address, so the kernel reads and writes no memory; rbx is put back,
    // and every other register that the kernel may change is declared.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) u64::from(arguments[0]) => _,
            inout("rax") result,
            in("rcx") u64::from(arguments[1]),
            in("rdx") u64::from(arguments[2]),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack),
        );
    }
    // The result of a 32-bit call is a signed 32-bit number.
    match u32::try_from(result & 0xffff_ffff).unwrap_or_default().cast_signed() {
        errno @ ..0 => Err(Errno(-errno)),
        value => Ok(i64::from(value)),
    }
}

/// A string for [`Arg::Text`]; everything from a NUL on is left out.
pub(crate) fn text(string: impl Into<Vec<u8>>) -> CString {
    let mut bytes = string.into();
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    CString::new(bytes).unwrap_or_default()
}

/// open(2) with any flags, for those that std's builder can't express.
pub(crate) fn open(path: &str, flags: i32) -> Result<OwnedFd, Errno> {
    let flags = i64::from(flags | libc::O_CLOEXEC);
    let fd = call(libc::SYS_open, [Arg::Text(&text(path)), Arg::Int(flags), Arg::Int(0o600)])?;
    let fd = i32::try_from(fd).map_err(|_| Errno(libc::EBADF))?;
    // SAFETY: the kernel has just handed out this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the calling process its own copy of the mount tree, so that a mount probe that succeeds harms nobody. The copy
/// keeps every lock: what can't be unmounted in the original can't be in the copy.
pub(crate) fn isolated_mounts() -> Result<(), Errno> {
    call(libc::SYS_unshare, [Arg::Int(i64::from(libc::CLONE_NEWNS))])?;
    let private = (libc::MS_REC | libc::MS_PRIVATE).cast_signed();
    call(libc::SYS_mount, [Arg::Null, Arg::Text(c"/"), Arg::Null, Arg::Int(private), Arg::Null])?;
    Ok(())
}

impl From<&OwnedFd> for Arg<'_> {
    /// The descriptor is open during the call only if the caller keeps it; a closed one gives EBADF.
    fn from(fd: &OwnedFd) -> Self {
        Arg::Int(i64::from(fd.as_raw_fd()))
    }
}
