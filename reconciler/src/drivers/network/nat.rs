//! Addresses and ports that the host puts in the place of others for VEs, IO half.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vzd_state::subsystem::network::{self, Translations};

use crate::drivers::Ve;
use crate::error::SysResult;
use crate::kernel::net::{Content, Nat};

/// A look at the table serves for so long: a pass over many VEs is one look.
const FRESH: Duration = Duration::from_millis(500);

/// The host's table, and what was seen of it last.
#[derive(Debug)]
pub struct Translator {
    table: Nat,
    seen: Mutex<Option<(Instant, Content)>>,
}

impl Translator {
    /// Of a vzd whose control groups are below this one.
    pub fn new(cgroup_root: &str) -> Self {
        Translator { table: Nat::new(cgroup_root), seen: Mutex::default() }
    }

    fn of(&self, owner: &str) -> SysResult<Translations> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let content = match seen.take() {
            Some((at, content)) if at.elapsed() <= FRESH => seen.insert((at, content)),
            _ => seen.insert((Instant::now(), self.table.read()?.0.unwrap_or_default())),
        };
        Ok(content.1.get(owner).cloned().unwrap_or_default())
    }

    fn set(&self, owner: &str, to: &Translations) -> SysResult<bool> {
        // One at a time: what is changed is what was read.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = None;
        self.table.set(owner, to)
    }
}

fn applied(ve: Ve<'_>) -> bool {
    ve.entry.applied.network.as_deref().is_some_and(|is| !is.translations.is_empty())
}

fn wanted(ve: Ve<'_>) -> bool {
    ve.want.is_some_and(|want| !want.network.translations.is_empty())
}

/// Those of a VE, as they are.
pub(super) fn look(ve: Ve<'_>) -> SysResult<Translations> {
    let known = (applied(ve) || wanted(ve)) && ve.host.caps().firewall.missing().is_none();
    if known { ve.host.translator.of(ve.entry.uid.as_str()) } else { Ok(Translations::new()) }
}

/// Has a VE have these and no others.
pub(super) fn set(ve: Ve<'_>, to: &Translations) -> SysResult<bool> {
    ve.host.translator.set(ve.entry.uid.as_str(), to)
}

/// Those of a VE that is about to start.
pub(super) fn before_start(ve: Ve<'_>, want: &network::Desired) -> SysResult<()> {
    if applied(ve) || !want.translations.is_empty() { set(ve, &want.translations).map(drop) } else { Ok(()) }
}

/// Takes away those of a VE that no longer runs, or did not start.
pub(super) fn clear(ve: Ve<'_>) -> SysResult<()> {
    let known = (applied(ve) || wanted(ve)) && ve.host.caps().firewall.missing().is_none();
    if known { set(ve, &Translations::new()).map(drop) } else { Ok(()) }
}
