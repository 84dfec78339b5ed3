//! What this process keeps in memory: how its allocator behaves, and giving back what is not used.

use std::ops::Range;
use std::sync::OnceLock;

/// Tells the allocator to prefer little memory over little waiting: one heap for all threads, and what
/// is free at its end goes back to the kernel. The controller sits idle most of its life, and its threads
/// mostly wait for the kernel.
pub fn prefer_little_memory() {
    // SAFETY: mallopt takes integers and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1024 * 1024);
    }
}

/// Tells the allocator to leave the heap's pages alone: none is given back, and free pieces are not gathered.
/// For a process that forks: each page that a child's allocator walks through is copied for it.
pub fn prefer_few_touched_pages() {
    // SAFETY: mallopt takes integers and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 * 1024);
    }
}

/// Gives free memory back to the kernel, wherever in the heap it lies; and this program's text, of which what is used
/// next is in the page cache.
pub fn give_memory_back() {
    // SAFETY: malloc_trim may be called at any time.
    unsafe { libc::malloc_trim(0) };
    static TEXT: OnceLock<Option<Range<usize>>> = OnceLock::new();
    if let Some(text) = TEXT.get_or_init(own_text) {
        // SAFETY: the range is a private mapping of this program's file that is executable and not writable. No page of it
        // differs from the file, so what is dropped comes again from there.
        unsafe { libc::madvise(text.start as *mut libc::c_void, text.len(), libc::MADV_DONTNEED) };
    }
}

/// The mapping that this very function is in. Not that of what is only read: relocations have written there.
fn own_text() -> Option<Range<usize>> {
    let here = own_text as fn() -> _ as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let range = address(start)?..address(end)?;
        (rest.starts_with("r-xp ") && range.contains(&here)).then_some(range)
    })
}
