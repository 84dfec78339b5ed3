//! Whether the kernel marks memory that is written to (soft-dirty, Documentation/admin-guide/mm/soft-dirty.rst). Looks at
//! this process alone, and changes nothing but marks of it that nobody reads.

use std::os::unix::fs::FileExt;

use crate::error::{At, SysError, SysResult};

const PAGEMAP: &str = "/proc/self/pagemap";
const CLEAR: &str = "/proc/self/clear_refs";
/// Bit 55 of a page's word.
const SOFT_DIRTY: u64 = 1 << 55;

/// Takes the marks away, writes to a page, and looks whether that one has a mark again.
pub fn try_marks() -> SysResult<()> {
    let mut piece = vec![0_u8; 1];
    std::fs::write(CLEAR, "4").at("write", CLEAR)?;
    // A word of its own would be optimized away: what is written is read below.
    piece[0] = std::hint::black_box(1);
    let page = std::ptr::from_ref(&piece[0]).addr() / rustix::param::page_size();
    let pagemap = std::fs::File::open(PAGEMAP).at("open", PAGEMAP)?;
    let mut word = [0; 8];
    let at = u64::try_from(page * word.len()).unwrap_or(u64::MAX);
    pagemap.read_exact_at(&mut word, at).at("read", PAGEMAP)?;
    if std::hint::black_box(&piece)[0] == 1 && u64::from_ne_bytes(word) & SOFT_DIRTY != 0 {
        return Ok(());
    }
    let why = "the kernel does not tell what was written to (CONFIG_MEM_SOFT_DIRTY)";
    Err(SysError::refused("track", "memory", why))
}
