//! Memory of all kinds, a page at a time.

use std::fs::File;
use std::io::Write;

use super::{Take, check};
use crate::sys::Errno;

const PAGE: usize = 4096;

fn page(flags: i32) -> Result<*mut libc::c_void, Errno> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: new memory, at a place of the kernel's choosing.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, access, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(page) }
}

pub(super) fn private(_: u64) -> Result<(), Errno> {
    page(0).map(drop)
}

pub(super) fn touched(at: u64) -> Result<(), Errno> {
    let page = page(0)?.cast::<u64>();
    // SAFETY: the page was mapped just now for this.
    unsafe { page.write_volatile(at | 1) };
    Ok(())
}

pub(super) fn locked(_: u64) -> Result<(), Errno> {
    let page = page(0)?;
    // SAFETY: the page was mapped just now.
    check(unsafe { libc::mlock(page, PAGE) }).map(drop)
}

/// A System V segment; it stays after the process.
pub(super) fn segment() -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::shmget(libc::IPC_PRIVATE, PAGE, libc::IPC_CREAT | 0o600) }).map(drop)
}

/// A file on a tmpfs, unnamed so that it goes with the process.
pub(super) fn file() -> Take {
    let name = format!("/dev/shm/drive-{}", std::process::id());
    let file = File::create(&name).and_then(|file| std::fs::remove_file(&name).map(|()| file));
    let mut file = file.map_err(|error| Errno::of(&error));
    Box::new(move |_| {
        let file = file.as_mut().map_err(|errno| *errno)?;
        file.write_all(&[1; PAGE]).map_err(|error| Errno::of(&error))
    })
}

/// Blocks of a file that is all hole, by writing to its memory. What can't be had is a signal (SIGBUS), not an errno.
pub(super) fn blocks() -> Take {
    const SIZE: usize = 1 << 30;
    let file = File::options().read(true).write(true).create(true).truncate(true).open("/root/mapped");
    let file = file.and_then(|file| file.set_len(SIZE as u64).map(|()| file));
    let mapped = file.map_err(|error| Errno::of(&error)).and_then(|file| {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: new memory, at a place of the kernel's choosing; it stays mapped to the end of the process.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, access, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(memory.cast::<u8>()) }
    });
    Box::new(move |at| {
        let offset = usize::try_from(at).unwrap_or(SIZE) * PAGE;
        let memory = mapped.as_ref().map_err(|errno| *errno)?;
        if offset >= SIZE {
            return Err(Errno(libc::EFBIG));
        }
        // SAFETY: within what was mapped.
        unsafe { memory.add(offset).write_volatile(1) };
        Ok(())
    })
}
