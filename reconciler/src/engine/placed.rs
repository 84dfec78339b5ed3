//! What is said of the hosts that VEs are to be on: to other hosts that ask, to commands, and in records, so that it is known
//! whom to believe. Asks nobody anything: that is [`super::placing`]'s.

use vzd_state::desired::{Desired, SourceRef};
use vzd_state::ids::VeName;
use vzd_state::ledger::{Entry, Standing};
use vzd_state::placement::{HostName, Place, Query, Word, stale};
use vzd_state::subsystem::lifecycle::State;

use crate::control::{ControlError, ControlResult};
use crate::engine::answer::error;
use crate::engine::{Engine, Subject};
use crate::handover::source::refused;
use crate::handover::{Answer, Declared};
use crate::store::atomic;

impl Engine {
    /// What is said to another host that asks.
    pub(super) fn say(&self, from: &HostName, queries: &[Query]) -> ControlResult<Answer> {
        let arrivals = self.arrivals()?;
        let mut shared = self.shared();
        let hosts = &shared.wishes.hosts;
        let Some(own) = hosts.own.clone() else {
            return Err(refused("its node name is no name: give it --host-name"));
        };
        if !hosts.peers.contains(from) {
            return Err(refused(format!(
                "it does not know {from}: name that among the `peers` of its manifest"
            )));
        }
        if !shared.wishes.revision.host_known || !shared.wishes.revision.complete {
            return Err(refused("it cannot read its manifests now"));
        }
        let mut words = Vec::new();
        let mut believed = Vec::new();
        for Query { name, wants } in queries {
            let want = shared.wishes.want.get(name);
            let own_wish = want.is_some_and(|want| {
                want.host.as_ref().is_none_or(|host| *host == own) && want.lifecycle.state != State::Absent
            });
            let entries = shared.ledger.entries().filter(|entry| entry.name == *name);
            words.push(Word::of(
                entries,
                own_wish || shared.wishes.broken.contains_key(name.as_str()),
                arrivals,
            ));
            let stale = shared
                .ledger
                .by_name(name)
                .filter(|entry| entry.stale_host.as_deref() == Some(from.as_str()));
            believed.extend(stale.filter(|_| *wants).map(|entry| entry.uid.clone()));
        }
        let mut news = Vec::new();
        for uid in believed {
            let Some(entry) = shared.ledger.get_mut(&uid) else { continue };
            entry.stale_host = None;
            news.push(entry.name.clone());
            self.records.save(entry).map_err(|e| error("VZ0404", e.to_string()))?;
        }
        drop(shared);
        if !news.is_empty() {
            self.wake_loop(news);
        }
        Ok(Answer { said: Some((own, words)), ..Answer::default() })
    }

    /// A manifest that was stale when its VE came is to be believed once it says something else.
    pub(super) fn believe(&self, subject: &Subject) {
        let Subject::Name(name) = subject else { return };
        let mut shared = self.shared();
        let said = shared.wishes.want.get(name).map(|want| want.host.as_ref().map(ToString::to_string));
        let Some(entry) = shared.ledger.by_name(name).filter(|entry| entry.stale_host.is_some()) else {
            return;
        };
        let is_news = said.is_some_and(|said| said != entry.stale_host) && entry.standing == Standing::Active;
        let uid = entry.uid.clone();
        if let Some(entry) = shared.ledger.get_mut(&uid).filter(|_| is_news) {
            entry.stale_host = None;
            if let Err(e) = self.records.save(entry) {
                tracing::warn!(ve = %name, error = %e, "that its manifest is to be believed again cannot be noted");
            }
        }
    }

    /// The host that a manifest here is not to be believed about, of a VE that has just come.
    pub(super) fn stale_host(&self, entry: &Entry) -> Option<String> {
        let from = entry.handover.as_ref().map(|handover| handover.peer.clone())?;
        let shared = self.shared();
        let want = shared.wishes.want.get(&entry.name);
        let named = want.and_then(|want| want.host.as_ref());
        stale(shared.wishes.hosts.own.as_ref(), named, want.is_some(), &from).map(str::to_owned)
    }

    /// What a VE's manifest says about the host that it is to be on.
    pub(super) fn declared(&self, entry: &Entry) -> Option<Declared> {
        let shared = self.shared();
        let want = shared.wishes.want.get(&entry.name).filter(|want| want.host.is_some())?;
        let place = shared.place(&entry.name, Some(entry)).filter(|_| !entry.is_quarantined())?;
        let to = if let Place::Goes(to) = &place { Some(to.clone()) } else { None };
        let way = to.as_ref().map(|to| shared.wishes.hosts.way(to));
        let told =
            if place == Place::Here { "it is to be on this host".to_owned() } else { place.to_string() };
        Some(Declared { source: host_line(want), told, to, way })
    }

    /// That there is no VE of that name; or where it is, as its manifest says.
    pub(super) fn not_here(&self, name: &str) -> ControlError {
        let known =
            name.parse::<VeName>().ok().and_then(|name| self.shared().wishes.want.get(&name).cloned());
        let named = known.as_ref().and_then(|want| Some((want.host.as_ref()?, host_line(want)?)));
        error(
            "VZ0307",
            match named {
                Some((host, line)) => {
                    format!("VE {name:?} is not here: its manifest names host {host} ({line})")
                }
                None => format!("there is no VE {name:?}"),
            },
        )
    }

    /// How often a VE has come from another host.
    fn arrivals(&self) -> ControlResult<u64> {
        let path = self.host.settings.arrivals();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse().map_err(|_| refused(format!("{} holds no number", path.display())))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(refused(format!("cannot read {}: {e}", path.display()))),
        }
    }

    /// Counts one that comes now. On disk before its record says so.
    pub(super) fn count_arrival(&self) -> ControlResult<()> {
        let number = self.arrivals()? + 1;
        let path = self.host.settings.arrivals();
        let written = atomic::write(&path, number.to_string().as_bytes(), &self.host.writes);
        written
            .and_then(|_| atomic::sync(&self.host.settings.state_dir))
            .map_err(|e| error("VZ0404", e.to_string()))
    }
}

/// Where a manifest says which host the VE is to be on.
pub(super) fn host_line(want: &Desired) -> Option<SourceRef> {
    want.source_of("spec.host").cloned()
}
