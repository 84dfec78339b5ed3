//! ext4 in files: made by mke2fs, and mended by e2fsck before it is mounted again after a crash.

use std::path::Path;
use std::process::{Command, Stdio};

use vzd_state::capability::Feature;

use crate::error::{At, SysError, SysResult};

const MKFS: [&str; 2] = ["/usr/sbin/mke2fs", "/sbin/mke2fs"];
const FSCK: [&str; 2] = ["/usr/sbin/e2fsck", "/sbin/e2fsck"];

/// The largest file system: blocks of 4 KiB and 32-bit block numbers.
pub const LARGEST: u64 = 16 << 40;

/// Noticed by the kernel alone: zeroing tables in the background would fill the sparse file, and what is freed in
/// the file system is freed on the host.
pub const OPTIONS: [&str; 2] = ["noinit_itable", "discard"];

/// Whether this host can keep ext4 in files.
pub fn probe() -> Feature {
    let file_systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let no = |why: &str| Feature::No(why.to_owned());
    if program(MKFS).is_none() {
        return no("mke2fs is not installed (package e2fsprogs)");
    }
    if !Path::new("/dev/loop-control").exists() {
        return no("the host has no loop devices (modprobe loop)");
    }
    if !file_systems.split_whitespace().any(|word| word == "ext4") {
        return no("the kernel has no ext4 (modprobe ext4)");
    }
    Feature::Yes
}

fn program(paths: [&'static str; 2]) -> Option<&'static str> {
    paths.into_iter().find(|path| Path::new(path).exists())
}

/// Makes a file system that is as sparse as can be in a file that has its size, with what is in `layout`.
pub fn format(file: &Path, layout: Option<&Path>, options: &[&str]) -> SysResult<()> {
    let mkfs = program(MKFS).ok_or_else(|| SysError::refused("run", "mke2fs", "it is not installed"))?;
    let mut command = Command::new(mkfs);
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0"]).args(options);
    if let Some(layout) = layout {
        command.arg("-d").arg(layout);
    }
    command.arg(file).env_clear().env("LANG", "C").stdin(Stdio::null());
    let output = command.output().at("run", mkfs)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(SysError::refused("make a file system in", file.display(), format!("{}: {said}", output.status)))
}

/// Plays the journal back and mends what can be mended without a doubt, if the file system was not unmounted or errors
/// were found. What can't is left to its owner, and nothing is started on it. Nobody may have it mounted.
pub fn mend_if_needed(file: &Path) -> SysResult<()> {
    if !needs_care(file)? {
        return Ok(());
    }
    let fsck = program(FSCK).ok_or_else(|| SysError::refused("run", "e2fsck", "it is not installed"))?;
    let mut command = Command::new(fsck);
    command.arg("-p").arg(file).env_clear().env("LANG", "C").stdin(Stdio::null());
    let output = command.output().at("run", fsck)?;
    // 0: clean. 1: mended.
    if matches!(output.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
    Err(SysError::refused("check", file.display(), format!("{}: {said}", output.status)))
}

/// Whether the superblock says that errors were found, or that it was not unmounted: then they may be noted in the
/// journal alone.
fn needs_care(file: &Path) -> SysResult<bool> {
    // EXT4_ERROR_FS; EXT4_FEATURE_INCOMPAT_RECOVER.
    const ERRORS: u16 = 2;
    const RECOVER: u32 = 4;
    let block = superblock(file)?;
    let state = u16::from_le_bytes([block[58], block[59]]);
    let features = u32::from_le_bytes([block[96], block[97], block[98], block[99]]);
    Ok(state & ERRORS != 0 || features & RECOVER != 0)
}

/// Blocks of the file system; the file may have more.
pub fn blocks(file: &Path) -> SysResult<u64> {
    let block = superblock(file)?;
    let number =
        |at: usize| u64::from(u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]));
    Ok(number(4) | number(0x150) << 32)
}

fn superblock(file: &Path) -> SysResult<[u8; 1024]> {
    use std::os::unix::fs::FileExt;
    let mut block = [0_u8; 1024];
    let image = std::fs::File::open(file).at("open", file.display())?;
    image.read_exact_at(&mut block, 1024).at("read the superblock of", file.display())?;
    Ok(block)
}
