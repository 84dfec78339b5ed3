//! Making a VE's root anew on order, of what its template is now. What it was is thrown away, which is why the VE has to be
//! stopped, and why whoever orders it keeps an archive first.
//!
//! From the note that the root is not whole until the one that it is, a controller that is killed leaves what any pass makes whole:
//! a new root.

use std::sync::PoisonError;

use vzd_schema::Code;
use vzd_state::ledger::{DiskRecord, Entry};
use vzd_state::subsystem::disk::{Cold, Over};

use crate::control::{ControlError, ControlResult, Reinstall};
use crate::drivers::disk::{self, kept};
use crate::drivers::{StepError, Ve, lifecycle};
use crate::engine::answer::error;
use crate::engine::{Engine, fault};

impl Engine {
    /// Carries it out.
    pub(super) fn do_reinstall(&self, request: &Reinstall) -> ControlResult<()> {
        let (subject, _) = self.made(&request.ve)?;
        let lock = self.lock_of(&subject);
        let _nobody_else = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, mut entry) = self.made(&request.ve)?;
        self.is_ours(&entry)?;
        let Some(want) = self.shared().wishes.want.get(&entry.name).cloned() else {
            return Err(refused(&entry, "no manifest says of what it would be made"));
        };
        if entry.suspension.is_some() {
            return Err(refused(&entry, "it is suspended; `vzd stop` gives that up"));
        }
        let ve = Ve { host: &self.host, entry: &entry, want: Some(&want) };
        if !lifecycle::is_down(ve).map_err(|e| refused(&entry, &e.to_string()))? {
            return Err(refused(&entry, "it runs: stop it first"));
        }
        let stopped = lifecycle::stopped(ve).map_err(|e| refused(&entry, &e.to_string()))?;
        let shown = disk::shown::shown(ve).map_err(|e| refused(&entry, &e.to_string()))?;
        if let Some(at) = shown.values().next() {
            return Err(refused(&entry, &format!("a snapshot of it is mounted at {}", at.display())));
        }
        let Some(record) = entry.disk.clone() else { return Err(refused(&entry, "it has no disk")) };
        let template = if want.disk.inherited { record.template } else { want.disk.template.clone() };
        let step = Cold::CreateRoot { template: template.clone(), backend: record.backend };
        disk::prepare(&self.host, &step).map_err(failed)?;
        let users = if request.keep_users {
            kept::read(ve).map_err(|e| failed(e.into()))?
        } else {
            kept::Kept::default()
        };
        fault::point();
        let cut = DiskRecord {
            template,
            ready: false,
            root: None,
            over: Over::default(),
            read_only: false,
            ..record
        };
        entry.disk = Some(cut.clone());
        self.note(&entry)?;
        let ve = Ve { host: &self.host, entry: &entry, want: Some(&want) };
        let (_, made) = disk::apply_cold(ve, &step, &stopped).map_err(failed)?;
        kept::write(ve, &users).map_err(|e| failed(e.into()))?;
        fault::point();
        let made = made.root.unwrap_or_default();
        let whole = DiskRecord {
            ready: true,
            root: made.path,
            digest: made.digest,
            application: made.application,
            ..cut
        };
        entry.disk = Some(whole);
        self.note(&entry)
    }
}

fn refused(entry: &Entry, why: &str) -> ControlError {
    error(Code::RecreateRefused.as_str(), format!("cannot reinstall VE {}: {why}", entry.name))
}

fn failed(why: StepError) -> ControlError {
    let code = match &why {
        StepError::Template(_) => Code::TemplateUnavailable,
        _ => Code::StartFailed,
    };
    ControlError { help: why.help(), ..error(code.as_str(), why.to_string()) }
}
