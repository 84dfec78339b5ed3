//! Held by who works at a hand-over of a VE. The kernel holds it, so it ends with its holder.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use vzd_state::ids::VeUid;

use crate::error::{At, SysError, SysResult};
use crate::settings::Settings;

/// Somebody is at work.
#[derive(Debug)]
pub struct Session {
    _lock: File,
}

fn path(settings: &Settings, uid: &VeUid) -> PathBuf {
    settings.run_dir.join(format!("handover-{uid}"))
}

fn open(settings: &Settings, uid: &VeUid) -> SysResult<(File, PathBuf)> {
    let path = path(settings, uid);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    Ok((file.at("open", path.display())?, path))
}

impl Session {
    /// Begins to work at it, after whoever still does.
    pub fn begin(settings: &Settings, uid: &VeUid) -> SysResult<Session> {
        let (lock, path) = open(settings, uid)?;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                other => break other.at("lock", path.display())?,
            }
        }
        Ok(Session { _lock: lock })
    }

    /// Begins to work at it; none if somebody does.
    pub fn try_begin(settings: &Settings, uid: &VeUid) -> SysResult<Option<Session>> {
        let (lock, path) = open(settings, uid)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Session { _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(SysError::new("lock", path.display(), e)),
        }
    }
}
