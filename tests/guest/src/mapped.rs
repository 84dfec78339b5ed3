//! `guest mapped FILE`: counts in every page of a file that it has mapped, and compares each with what it has in memory of its own. What
//! does not fit is written to FILE.torn. Must not write to the file in any other way, nor have it written out.
#![expect(unsafe_code, reason = "memory is mapped and written as a program would")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

const PAGE: usize = 4096;
const PAGES: usize = 16;

/// Counts until it finds something torn.
pub fn run(name: &str) -> io::Result<i32> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(name)?;
    file.set_len((PAGE * PAGES) as u64)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let (size, fd) = (PAGE * PAGES, file.as_raw_fd());
    // SAFETY: new memory, at a place of the kernel's choosing; it stays mapped to the end of the process.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, access, libc::MAP_SHARED, fd, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let mut own: u64 = 0;
    loop {
        for page in 0..PAGES {
            // SAFETY: within what was mapped, at the beginning of a page.
            let place = unsafe { memory.cast::<u8>().add(page * PAGE).cast::<u64>() };
            // SAFETY: as above.
            let is = unsafe { place.read_volatile() };
            if is != own {
                std::fs::write(format!("{name}.torn"), format!("page {page}: {is}, not {own}\n"))?;
                return Ok(1);
            }
            // SAFETY: as above.
            unsafe { place.write_volatile(own + 1) };
        }
        own += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
}
