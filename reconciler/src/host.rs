//! This host as the drivers see it: its directories, control groups, keeper, templates and what its
//! kernel can do. Made once at start; nothing here changes afterwards.

use std::path::PathBuf;

use vzd_state::capability::Capabilities;
use vzd_state::ids::VeUid;
use vzd_state::ledger::Entry;

use crate::error::{SysError, SysResult};
use crate::keeper::Keeper;
use crate::kernel::cgroup::{Layout, VeCgroup};
use crate::probe;
use crate::settings::Settings;
use crate::store::Writes;
use crate::template;

/// This host.
#[derive(Debug)]
pub struct Host {
    /// Directories and names.
    pub settings: Settings,
    /// Where control groups are.
    pub layout: Layout,
    /// The keeper of the run directory.
    pub keeper: Keeper,
    /// Templates.
    pub templates: template::Store,
    /// What the kernel and host can do.
    pub caps: Capabilities,
    /// Counts writes to the kernel and to disk.
    pub writes: Writes,
}

impl Host {
    /// Makes the directories, finds the control groups and probes the kernel.
    pub fn open(settings: &Settings) -> SysResult<Self> {
        for (dir, mode) in [(&settings.state_dir, 0o711), (&settings.run_dir, 0o755)] {
            make_dir(dir, mode)?;
        }
        make_dir(&settings.ves_dir(), 0o700)?;
        let templates = template::Store::open(&settings.templates_dir())
            .map_err(|e| SysError::refused("open", "template store", e))?;
        let layout = Layout::prepare(&settings.cgroup_root)?;
        Ok(Host {
            caps: probe::probe(&layout),
            keeper: Keeper::new(&settings.run_dir),
            settings: settings.clone(),
            writes: Writes::default(),
            layout,
            templates,
        })
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
