//! The networks of VEs, for those who ask: read when somebody does.

use crate::control::{ControlResult, VeNetwork};
use crate::drivers::{Ve, lifecycle, network};
use crate::engine::Engine;
use crate::engine::answer::error;
use crate::engine::view::View;

impl Engine {
    /// The network of a VE; none if it does not run.
    pub(super) fn network_of(&self, view: &View) -> Option<ControlResult<VeNetwork>> {
        let entry = view.entry.as_ref()?;
        let ve = Ve { host: &self.host, entry, want: view.want() };
        let running = lifecycle::running(ve).ok()?;
        let seen = network::sight(ve, &running);
        if !running.is_alive() {
            return None;
        }
        let seen = seen.map_err(|e| error("VZ0302", format!("VE {}: {e}", view.name)));
        Some(seen.map(|network| VeNetwork { name: view.name.to_string(), ctid: entry.ctid.get(), network }))
    }
}
