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
