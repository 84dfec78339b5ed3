//! The names of VEs that run, for VEs that ask: kept as passes come to know of them.

use vzd_state::event::{Event, EventType};
use vzd_state::ledger::Entry;
use vzd_state::names::{Named, asks_within};
use vzd_state::subsystem::lifecycle::Run;

use crate::drivers::Running;
use crate::engine::reconcile::Published;
use crate::engine::{Engine, Subject, clock};
use crate::resolver::Kept;

impl Engine {
    /// Makes known what a VE is called and where it is, or that it does not run.
    pub(super) fn name(&self, entry: &Entry, published: &Published) {
        if self.host.resolver.runs() {
            let runs = matches!(published.observed.running(), Some(Run::Running { .. }));
            self.host.resolver.set(&entry.uid, runs.then(|| Named::of(entry)));
        }
    }

    /// Has a running VE that inherits name servers answered within, if there is no other way for it to ask.
    pub(super) fn answer_within(&self, entry: &Entry, running: Option<&Running>) {
        if !self.host.resolver.runs() {
            return;
        }
        let asks = entry.applied.network.as_deref().is_some_and(asks_within);
        let done = self.host.resolver.answer_within((&entry.uid, entry.ctid), running.filter(|_| asks));
        // A server of its own has the port: it is asked in the resolver's place.
        if let Err(error) = done {
            tracing::debug!(ve = %entry.name, %error, "the resolver cannot listen in a VE");
        }
    }

    /// Starts the resolver or ends it, as the host's manifest wants it. Costs next to nothing where that is so already.
    pub(super) fn keep_resolver(&self) {
        match self.host.resolver.keep() {
            Kept::AsItWas => {}
            Kept::Started => {
                let shared = self.shared();
                for entry in shared.ledger.entries().filter(|entry| !entry.is_quarantined()) {
                    if let Some(published) = shared.published.get(&Subject::Name(entry.name.clone())) {
                        self.name(entry, published);
                    }
                }
            }
            Kept::Failed(why) => {
                let message = format!("VEs cannot resolve each other by name: {why} [VZ0407]");
                self.tell(Event::new(clock::now(), None, EventType::Warning, "ResolverFailed", message));
            }
        }
    }
}
