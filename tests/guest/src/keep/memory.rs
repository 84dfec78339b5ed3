//! Memory that has a life of its own, and System V's other objects.
#![expect(unsafe_code, reason = "they are made by the calls that a program would make them by")]

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use super::{Look, check, ensure};

const KEY: libc::key_t = 0x6b65_6570;
const WORD: u64 = 0x0123_4567_89ab_cdef;
const PAGES: usize = 16;
const SIZE: usize = PAGES * 4096;

pub(super) fn memfd() -> io::Result<Look> {
    // SAFETY: the name is a static string.
    let fd = unsafe { libc::memfd_create(c"keep".as_ptr(), 0) };
    check(fd)?;
    // SAFETY: it was just made, and nobody else knows it.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(&[7; 50_000])?;
    Ok(Box::new(move || {
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        ensure(bytes == [7; 50_000], format_args!("{} bytes", bytes.len()))
    }))
}

/// Writes a word to each page, and tells whether they are there.
fn fill(memory: *mut u64) {
    for page in 0..PAGES {
        // SAFETY: the memory is `SIZE` bytes long, and stays mapped.
        unsafe { memory.add(page * 512).write_volatile(WORD + page as u64) };
    }
}

fn look(memory: *mut u64) -> io::Result<()> {
    for page in 0..PAGES {
        // SAFETY: as in `fill`.
        let word = unsafe { memory.add(page * 512).read_volatile() };
        ensure(word == WORD + page as u64, format_args!("page {page} holds {word:#x}"))?;
    }
    Ok(())
}

/// Shared with a child that changes it when it is told to.
pub(super) fn shared() -> io::Result<Look> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at a place that the kernel chooses.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, access, flags, -1, 0) };
    ensure(memory != libc::MAP_FAILED, "it cannot be mapped")?;
    let memory = memory.cast::<u64>();
    fill(memory);
    // SAFETY: the child only makes calls that may be made after a fork.
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        loop {
            // SAFETY: the second word of the first page is mapped.
            unsafe {
                if memory.add(1).read_volatile() == 1 {
                    memory.add(1).write_volatile(2);
                    libc::_exit(0);
                }
                libc::usleep(1000);
            }
        }
    }
    Ok(Box::new(move || {
        look(memory)?;
        // SAFETY: as above; the child is waited for once.
        let word = unsafe {
            memory.add(1).write_volatile(1);
            check(libc::waitpid(i32::try_from(child).unwrap_or_default(), std::ptr::null_mut(), 0))?;
            memory.add(1).read_volatile()
        };
        ensure(word == 2, format_args!("the child does not share it: {word}"))
    }))
}

pub(super) fn segment() -> io::Result<Look> {
    // SAFETY: a new segment, at a place that the kernel chooses.
    let (id, memory) = unsafe {
        let id = libc::shmget(KEY, SIZE, libc::IPC_CREAT | 0o600);
        check(id)?;
        (id, libc::shmat(id, std::ptr::null(), 0))
    };
    ensure(memory.addr() != usize::MAX, "it cannot be attached")?;
    let memory = memory.cast::<u64>();
    fill(memory);
    Ok(Box::new(move || {
        look(memory)?;
        // SAFETY: no pointer is passed.
        let found = check(unsafe { libc::shmget(KEY, SIZE, 0) })?;
        ensure(found == i64::from(id), "its number is another one")
    }))
}

pub(super) fn semaphore() -> io::Result<Look> {
    // SAFETY: no pointer is passed.
    let id = unsafe {
        let id = libc::semget(KEY, 2, libc::IPC_CREAT | 0o600);
        check(id)?;
        check(libc::semctl(id, 1, libc::SETVAL, 42))?;
        id
    };
    Ok(Box::new(move || {
        // SAFETY: no pointer is passed.
        let (found, value) = unsafe { (libc::semget(KEY, 2, 0), libc::semctl(id, 1, libc::GETVAL)) };
        ensure(found == id && value == 42, format_args!("set {found}, value {value}"))
    }))
}

#[repr(C)]
struct Message {
    kind: libc::c_long,
    text: [u8; 8],
}

pub(super) fn queue() -> io::Result<Look> {
    let message = Message { kind: 3, text: *b"message!" };
    // SAFETY: the message outlives the call, and is as long as is said.
    let id = unsafe {
        let id = libc::msgget(KEY, libc::IPC_CREAT | 0o600);
        check(id)?;
        check(libc::msgsnd(id, (&raw const message).cast(), 8, 0))?;
        id
    };
    Ok(Box::new(move || {
        let mut got = Message { kind: 0, text: [0; 8] };
        // SAFETY: there is room for as much as is said.
        let read = check(unsafe { libc::msgrcv(id, (&raw mut got).cast(), 8, 0, libc::IPC_NOWAIT) } as i64)?;
        ensure(read == 8 && got.kind == 3 && &got.text == b"message!", "another message")
    }))
}
