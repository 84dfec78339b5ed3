//! Roots of VEs that are down, mounted on the host on order: no pass works on the VE meanwhile.

use std::sync::PoisonError;

use vzd_schema::Code;

use crate::control::{ControlError, ControlResult, MountRequest};
use crate::drivers::{StepError, Ve, lifecycle};
use crate::engine::Engine;
use crate::engine::answer::error;
use crate::engine::view::{Leave, View};

impl Engine {
    /// Carries it out.
    pub(super) fn do_mount(&self, request: &MountRequest) -> ControlResult<()> {
        let (subject, _) = self.made(&request.ve)?;
        let lock = self.lock_of(&subject);
        let _nobody_else = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, entry) = self.made(&request.ve)?;
        self.is_ours(&entry)?;
        let view = self.view(&subject, Leave::default());
        let ve = Ve { host: &self.host, entry: &entry, want: view.as_ref().and_then(View::want) };
        let done = match &request.at {
            Some(at) => lifecycle::host_mount::mount(ve, at),
            None => lifecycle::host_mount::unmount(ve),
        };
        done.map_err(failed)
    }
}

fn failed(why: StepError) -> ControlError {
    let code = match &why {
        StepError::Script(_) => Code::ActionScriptFailed,
        _ => Code::MountRefused,
    };
    ControlError { help: why.help(), ..error(code.as_str(), why.to_string()) }
}
