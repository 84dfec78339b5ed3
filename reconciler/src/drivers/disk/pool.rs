//! The pool: one sparse ext4 file of vzd's own that keeps quotas of projects, for hosts whose file system does not.
//!
//! `<state>/pool.img` holds a directory for each VE that is in it. The host has no mount of it: as with an image, the
//! overlays of running VEs keep it mounted and its loop device attached, and to look into it it is mounted once more
//! for a moment, attached nowhere. Nothing is taken out of it here (see [`super::remove`]).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use vzd_state::subsystem::disk::quota::BLOCK;

use super::ext4;
use crate::error::{At, SysError, SysResult};
use crate::host::Host;
use crate::kernel::loopdev::{self, LoopDevice};
use crate::runtime::spec::VolumeSpec;
use crate::runtime::tree::open_volume;
use crate::settings::Settings;

/// As parts of what the host has free: what is left to the host, so that a full pool is found full by ext4, and not by
/// the host's file system below it.
const LEFT_FREE: u64 = 16;
/// The pool grows when it could by this part of its size.
const WORTH_GROWING: u64 = 8;
/// So many bytes for one inode: VEs have small files.
const BYTES_PER_INODE: &str = "8192";
/// All three kinds of quota, since they can't be added while it is in use.
const QUOTAS: [&str; 3] = ["usrquota", "grpquota", "prjquota"];

/// One at a time checks, attaches and mounts it: two loop devices of one file, or a check beside a mount, would ruin it.
static OPENING: Mutex<()> = Mutex::new(());

/// Bytes that the pool is to have, as the host's manifest says; 0: as many as the host lets it.
#[derive(Debug, Default)]
pub struct PoolSize(AtomicU64);

impl PoolSize {
    /// Notes what the manifest says.
    pub fn set(&self, bytes: Option<u64>) {
        self.0.store(bytes.unwrap_or(0), Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }
}

/// The pool, mounted at no place as long as this lives.
#[derive(Debug)]
pub struct Pool {
    device: LoopDevice,
    mount: OwnedFd,
}

impl Pool {
    /// Where it is.
    pub fn file(settings: &Settings) -> PathBuf {
        settings.state_dir.join("pool.img")
    }

    /// Whether there is one.
    pub fn exists(settings: &Settings) -> bool {
        Self::file(settings).exists()
    }

    /// Opens the pool, and makes it first if there is none.
    pub fn make(host: &Host) -> SysResult<Self> {
        let _one = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let file = Self::file(&host.settings);
        if !file.exists() {
            make(&file, host.pool.get())?;
        }
        open(&file, host.pool.get())
    }

    /// Opens the pool that there is; as large as it is to be, or the host lets it be, by now.
    pub fn open(host: &Host) -> SysResult<Self> {
        let _one = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        open(&Self::file(&host.settings), host.pool.get())
    }

    /// Opens the pool that VEs run in: it is attached, and nobody needs to be waited for.
    pub fn running(host: &Host) -> SysResult<Self> {
        let file = canonical(&Self::file(&host.settings))?;
        match loopdev::find(&file)? {
            Some(device) => mounted(device),
            None => Err(SysError::refused("find the loop device of", file.display(), "it is not attached")),
        }
    }

    /// A path into it for as long as this lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.mount.as_raw_fd()))
    }

    /// Its device.
    pub fn device(&self) -> PathBuf {
        self.device.path()
    }

    /// For the starter.
    pub fn volume(&self, at: &Path) -> VolumeSpec {
        volume(&self.device, at)
    }
}

impl AsFd for Pool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

fn volume(device: &LoopDevice, at: &Path) -> VolumeSpec {
    let options = ext4::OPTIONS.iter().chain(&QUOTAS).map(|option| (*option).to_owned());
    VolumeSpec {
        kind: "ext4".to_owned(),
        device: device.path(),
        options: options.collect(),
        at: at.to_owned(),
    }
}

fn canonical(file: &Path) -> SysResult<PathBuf> {
    std::fs::canonicalize(file).at("find", file.display())
}

fn mounted(device: LoopDevice) -> SysResult<Pool> {
    let mount = open_volume(&volume(&device, Path::new("")))?;
    Ok(Pool { device, mount })
}

/// Makes the file, whole or not at all: it gets its name when all of it is on disk.
fn make(file: &Path, wanted: Option<u64>) -> SysResult<()> {
    let new = file.with_extension("new");
    let image = std::fs::File::create(&new).at("make", new.display())?;
    let size = match larger(0, room(&new)?, wanted) {
        Ok(size) => size.unwrap_or(0),
        Err(why) => {
            std::fs::remove_file(&new).at("remove", new.display())?;
            return Err(SysError::refused("make", file.display(), why));
        }
    };
    image.set_len(size).map_err(|e| SysError::new("enlarge", new.display(), e).value(size))?;
    let extended = format!(
        "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0,quotatype={}",
        QUOTAS.join(":")
    );
    ext4::format(&new, None, &["-O", "quota,project", "-E", &extended, "-i", BYTES_PER_INODE])?;
    image.sync_all().at("write to disk", new.display())?;
    std::fs::rename(&new, file).at("rename", new.display())?;
    let dir = file.parent().unwrap_or(file);
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).at("write to disk", dir.display())
}

/// Bytes that the pool can have on its host: what it has, and most of what is free.
fn room(file: &Path) -> SysResult<u64> {
    /// Of `st_blocks`.
    const SECTOR: u64 = 512;
    let has = std::fs::metadata(file).at("stat", file.display())?.blocks().saturating_mul(SECTOR);
    let host = rustix::fs::statvfs(file).at("stat file system of", file.display())?;
    let free = host.f_bavail.saturating_mul(host.f_frsize);
    Ok((has.saturating_add(free - free / LEFT_FREE)).min(ext4::LARGEST) / BLOCK * BLOCK)
}

/// How large one becomes that has so many bytes and has room for so many; none if it stays as it is.
fn larger(has: u64, room: u64, wanted: Option<u64>) -> Result<Option<u64>, String> {
    match wanted.map(|wanted| wanted / BLOCK * BLOCK) {
        Some(wanted) if wanted > has.max(room) => Err(format!(
            "`spec.pool.size` of the host is {wanted} bytes, and its file system has room for {room}"
        )),
        Some(wanted) => Ok((wanted > has).then_some(wanted)),
        None => Ok((room > has + has / WORTH_GROWING).then_some(room)),
    }
}

fn open(file: &Path, wanted: Option<u64>) -> SysResult<Pool> {
    let file = canonical(file)?;
    if !loopdev::is_attached(&file) {
        ext4::mend_if_needed(&file)?;
    }
    let pool = mounted(loopdev::attach(&file)?)?;
    if let Err(e) = grow(&pool, &file, wanted) {
        tracing::warn!(error = %e, "the pool of disks stays as large as it is");
    }
    Ok(pool)
}

/// Enlarges it, if it is to be larger, or the host has become so, or if that was once begun and not finished.
fn grow(pool: &Pool, file: &Path, wanted: Option<u64>) -> SysResult<()> {
    let mut size = std::fs::metadata(file).at("stat", file.display())?.len();
    let larger = larger(size, room(file)?, wanted);
    if let Some(larger) = larger.map_err(|why| SysError::refused("enlarge", file.display(), why))? {
        let image = std::fs::File::options().write(true).open(file).at("open", file.display())?;
        image.set_len(larger).map_err(|e| SysError::new("enlarge", file.display(), e).value(larger))?;
        size = larger;
    }
    if size / BLOCK > ext4::blocks(file)? {
        pool.device.grow()?;
        crate::kernel::ext4::grow(pool, size / BLOCK)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_large_as_it_is_to_be_and_never_smaller() {
        const GIB: u64 = 1 << 30;
        assert_eq!(larger(0, 10 * GIB, None), Ok(Some(10 * GIB)));
        assert_eq!(larger(10 * GIB, 11 * GIB, None), Ok(None));
        assert_eq!(larger(10 * GIB, 12 * GIB, None), Ok(Some(12 * GIB)));
        assert_eq!(larger(0, 10 * GIB, Some(GIB + 1)), Ok(Some(GIB)));
        assert_eq!(larger(GIB, 10 * GIB, Some(GIB)), Ok(None));
        assert_eq!(larger(2 * GIB, 10 * GIB, Some(GIB)), Ok(None));
        assert_eq!(larger(GIB, 10 * GIB, Some(2 * GIB)), Ok(Some(2 * GIB)));
        let told = larger(0, GIB, Some(2 * GIB)).unwrap_err();
        assert!(told.contains("2147483648") && told.contains("1073741824"), "{told}");
        // What was once made in more room stays.
        assert_eq!(larger(4 * GIB, GIB, Some(3 * GIB)), Ok(None));
    }
}
