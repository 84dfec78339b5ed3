//! `vzctl status`, and the commands about disks that vzd has no use for: quotas are always on.

use super::super::args::{Opt, flag, value};
use super::super::exit::{self, OK, Refusal, Tool};
use super::power::options;
use super::{Vzctl, print};
use crate::engine::Access;

/// One line, and always 0.
pub fn status(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[], words)?;
    let control = vzctl.control(Access::Read)?;
    let found = vzctl.look(&*control, id)?;
    let suspended = found.as_ref().map_or(Ok(false), |container| container.is_suspended(&*control))?;
    let (ctid, words) = match &found {
        // The root of a VE is mounted as long as it runs, in its own mount namespace.
        Some(container) if container.runs() => (container.ctid(), "exist mounted running".to_owned()),
        Some(container) if container.document.metadata.uid.is_some() => {
            let mounted = if container.mounted()?.is_some() { "mounted" } else { "unmounted" };
            let suspended = if suspended { " suspended" } else { "" };
            (container.ctid(), format!("exist {mounted} down{suspended}"))
        }
        _ => (id.to_owned(), "deleted unmounted down".to_owned()),
    };
    print(&format!("CTID {ctid} {words}\n"));
    Ok(OK)
}

/// Whether the container has limits of its disk.
fn has_quota(vzctl: &Vzctl, id: &str) -> Tool<bool> {
    let control = vzctl.control(Access::Read)?;
    let disk = &vzctl.find(&*control, id)?.document.spec["disk"];
    Ok(!disk["diskspace"].is_null() || !disk["diskinodes"].is_null())
}

fn quota(vzctl: &Vzctl, id: &str, code: u8) -> Tool {
    if has_quota(vzctl, id)? {
        return Ok(OK);
    }
    Err(Refusal::new(code, format!("Container {id} has no disk quota: set --diskspace")))
}

/// On it is, if there is one.
pub fn quotaon(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[], words)?;
    quota(vzctl, id, exit::QUOTA_ON)
}

/// It is counted anew by the kernel.
pub fn quotainit(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[], words)?;
    quota(vzctl, id, exit::QUOTA_INIT)
}

/// It cannot be taken off but by the manifest.
pub fn quotaoff(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[], words)?;
    has_quota(vzctl, id)?;
    Err(Refusal::new(
        exit::QUOTA_OFF,
        "a disk quota is always on; take it off with `vzctl set --diskspace unlimited --save`",
    ))
}

/// Images give back what is free in them by themselves.
pub fn compact(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    const KNOWN: &[Opt] = &[flag("defrag"), flag("dry"), value("threshold"), value("delta")];
    options(&[KNOWN], words)?;
    vzctl.find(&*vzctl.control(Access::Read)?, id)?;
    vzctl.say("Nothing to compact: the container is not in a ploop image");
    Ok(OK)
}

/// Not between backends.
pub fn convert(vzctl: &Vzctl, id: &str, words: &[String]) -> Tool {
    options(&[&[value("layout"), value("velayout")]], words)?;
    vzctl.find(&*vzctl.control(Access::Read)?, id)?;
    Err(Refusal::new(
        155,
        "there is no ploop to convert to or from: `disk.backend` is chosen when a VE is made",
    ))
}
