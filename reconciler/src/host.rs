//! This host as the drivers see it: its directories, control groups, keeper, templates and what its
//! kernel can do.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use vzd_state::capability::Capabilities;
use vzd_state::ids::VeUid;
use vzd_state::ledger::Entry;

use crate::drivers::disk::PoolSize;
use crate::drivers::network::{Tables, Translator, Uplinks};
use crate::drivers::packages::Jobs;
use crate::error::{SysError, SysResult};
use crate::keeper::Keeper;
use crate::kernel::bpf::Programs;
use crate::kernel::cgroup::{Layout, VeCgroup};
use crate::probe;
use crate::resolver::Resolver;
use crate::settings::Settings;
use crate::store::Writes;
use crate::template::{self, TemplateError};

/// This host.
#[derive(Debug)]
pub struct Host {
    /// Directories and names.
    pub settings: Settings,
    /// Where control groups are.
    pub layout: Layout,
    /// The keeper of the run directory.
    pub keeper: Keeper,
    /// Counts writes to the kernel and to disk.
    pub writes: Writes,
    /// Device programs that are loaded.
    pub device_programs: Programs,
    /// What the host does on its own interfaces for the VEs' addresses.
    pub uplinks: Uplinks,
    /// What the host puts in the place of addresses and ports for VEs.
    pub translator: Translator,
    /// What VEs' package managers do.
    pub packages: Jobs,
    /// What texts of packet filters come to.
    pub tables: Tables,
    /// What answers VEs that ask for names.
    pub resolver: Arc<Resolver>,
    /// How large the pool of disks may be.
    pub pool: PoolSize,
    templates: OnceLock<template::Store>,
    caps: RwLock<Arc<Capabilities>>,
}

impl Host {
    /// Finds the control groups and probes the kernel; changes nothing.
    pub fn find(settings: &Settings) -> SysResult<Self> {
        let layout = Layout::find(&settings.cgroup_root)?;
        Ok(Host {
            caps: RwLock::new(Arc::new(probe::probe(&layout, settings))),
            keeper: Keeper::new(&settings.run_dir),
            settings: settings.clone(),
            writes: Writes::default(),
            device_programs: Programs::default(),
            uplinks: Uplinks::new(&settings.run_dir),
            translator: Translator::new(&settings.cgroup_root),
            packages: Jobs::default(),
            tables: Tables::default(),
            resolver: Arc::new(Resolver::new(settings)),
            pool: PoolSize::default(),
            templates: OnceLock::new(),
            layout,
        })
    }

    /// Makes the directories that VEs and records need.
    pub fn make_dirs(&self) -> SysResult<()> {
        make_dir(&self.settings.state_dir, 0o711)?;
        make_dir(&self.settings.run_dir, 0o755)?;
        make_dir(&self.settings.staging_dir(), 0o755)?;
        make_dir(&self.settings.ves_dir(), 0o700)
    }

    /// Templates.
    pub fn templates(&self) -> Result<&template::Store, TemplateError> {
        match self.templates.get() {
            Some(store) => Ok(store),
            None => {
                let store = template::Store::open(&self.settings.templates_dir())?;
                Ok(self.templates.get_or_init(|| store))
            }
        }
    }

    /// What the kernel and host can do.
    pub fn caps(&self) -> Arc<Capabilities> {
        self.caps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks again for lxcfs, in that directory or where it usually is.
    pub fn refresh(&self, lxcfs: Option<&str>) {
        let lxcfs = probe::lxcfs(lxcfs.unwrap_or(probe::LXCFS));
        let caps = self.caps();
        if caps.lxcfs != lxcfs {
            self.set_caps(Capabilities { lxcfs, ..Capabilities::clone(&caps) });
        }
    }

    /// Looks again at everything else that may come and go while the host is up.
    pub fn refresh_all(&self) {
        if let Some(caps) = probe::again(&self.caps(), &self.layout, &self.settings.state_dir) {
            self.set_caps(caps);
        }
    }

    fn set_caps(&self, caps: Capabilities) {
        *self.caps.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(caps);
    }

    /// The control groups of a VE.
    pub fn cgroup(&self, entry: &Entry) -> VeCgroup<'_> {
        self.layout.ve(entry.ctid.get())
    }

    /// The directory of a VE's own files.
    pub fn ve_dir(&self, uid: &VeUid) -> PathBuf {
        self.settings.ves_dir().join(uid.as_str())
    }
}

fn make_dir(dir: &std::path::Path, mode: u32) -> SysResult<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|e| SysError::new("make directory", dir.display(), e))
}
