//! `guest-pause`: the payload of the benchmarks. Its first instructions note the time, then it waits to be stopped.
//!
//! It has neither Rust's nor C's start-up code, so that a benchmark times the container and not the payload, and an
//! idle one costs three pages. The time is put where the host can read it without any help from inside and without a
//! writable file system: in its own name. `/proc/PID/comm` reads `p:` and 13 hexadecimal digits, microseconds of
//! CLOCK_REALTIME (CLOCK_MONOTONIC may be shifted by a time namespace).
//!
//! It must not allocate, panic or call libc: nothing has been set up for that.
#![no_main]
// `cargo xtask guest` builds with panic=abort, which is what leaving out std takes; clippy and rust-analyzer don't.
#![cfg_attr(panic = "abort", no_std)]
#![expect(unsafe_code, reason = "there is no safe way to be the first instruction of a process")]

use core::arch::{asm, global_asm};

// The kernel enters here with the stack pointer at argc; Rust wants it aligned and the frame chain ended.
global_asm!(".globl _start", "_start:", "xor %ebp, %ebp", "and $-16, %rsp", "call {entry}", "hlt",
    entry = sym entry, options(att_syntax));

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        syscall(libc::SYS_exit_group, 255, 0);
    }
}

const PREFIX: [u8; 2] = *b"p:";
const DIGITS: usize = 13;

/// What `rt_sigaction` takes on x86-64; libc hides the restorer that the kernel insists on.
#[repr(C)]
struct SigAction {
    handler: extern "C" fn(i32),
    flags: usize,
    restorer: usize,
    mask: u64,
}

extern "C" fn entry() -> ! {
    let mut now = [0i64; 2];
    syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME as usize, now.as_mut_ptr() as usize);
    let micros = now[0].unsigned_abs().wrapping_mul(1_000_000).wrapping_add(now[1].unsigned_abs() / 1000);
    let name = name_of(micros);
    syscall(libc::SYS_prctl, libc::PR_SET_NAME as usize, name.as_ptr() as usize);

    // PID 1 gets no signal that it does not handle; each container manager has its own idea of which one means stop.
    const SA_RESTORER: usize = 0x0400_0000;
    let action = SigAction { handler: on_end, flags: SA_RESTORER, restorer: 0, mask: 0 };
    const RTMIN_POWEROFF: i32 = 34 + 4;
    for signal in [libc::SIGTERM, libc::SIGPWR, libc::SIGUSR2, RTMIN_POWEROFF] {
        syscall(libc::SYS_rt_sigaction, signal.unsigned_abs() as usize, &raw const action as usize);
    }
    loop {
        syscall(libc::SYS_pause, 0, 0);
    }
}

extern "C" fn on_end(_signal: i32) {
    loop {
        syscall(libc::SYS_exit_group, 0, 0);
    }
}

fn name_of(micros: u64) -> [u8; 16] {
    let mut name = [0u8; 16];
    name[0] = PREFIX[0];
    name[1] = PREFIX[1];
    let mut rest = micros;
    for place in (PREFIX.len()..PREFIX.len() + DIGITS).rev() {
        // The index is below 16 and the digit below 16, whatever the input.
        name[place & 15] = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    name
}

/// A system call of up to two arguments; the third and fourth are 0, but for rt_sigaction's set size in the fourth.
fn syscall(number: i64, first: usize, second: usize) -> i64 {
    let result: i64;
    // SAFETY: every caller above passes pointers to live locals of the size that the call wants, and none of the
    // calls changes this process's memory map.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") first, in("rsi") second,
            in("rdx") 0usize, in("r10") size_of::<u64>(), lateout("rcx") _, lateout("r11") _);
    }
    result
}
