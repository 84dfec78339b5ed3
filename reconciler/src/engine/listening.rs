//! The addresses at which other hosts are answered, as the host's manifest wants them; and whether this host's certificates
//! serve. What stands in the way is told and tried again: VEs run on, and so do hand-overs in other ways.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vzd_schema::{Code, Diagnostic};
use vzd_state::event::{Event, EventType};
use vzd_state::placement::HostName;

use crate::engine::wishes::Wishes;
use crate::engine::{Engine, clock};
use crate::handover::listen::Door;
use crate::pki::{Pki, Trouble};

/// An address that cannot be had is tried again after this.
const AGAIN: Duration = Duration::from_secs(20);

/// The engine's part that knows of doors; none is open in a command.
#[derive(Debug, Default)]
pub(super) struct Listening {
    doors: Mutex<BTreeMap<SocketAddr, Result<Door, Shut>>>,
    /// What was last told of certificates.
    told: Mutex<Option<Trouble>>,
}

#[derive(Debug)]
struct Shut {
    why: String,
    again: Instant,
}

impl Listening {
    fn doors(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Result<Door, Shut>>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Listens where the host's manifest says, and nowhere else. Costs next to nothing where that is so already.
    pub(super) fn keep_listening(self: &Arc<Self>) {
        let wishes = self.shared().wishes.clone();
        let wanted = &wishes.hosts.listen;
        let mut doors = self.listening.doors();
        doors.retain(|at, _| wanted.contains(at));
        for at in wanted {
            let before = match doors.get(at) {
                Some(Ok(_)) => continue,
                Some(Err(shut)) if shut.again > Instant::now() => continue,
                Some(Err(shut)) => Some(shut.why.clone()),
                None => None,
            };
            let engine = Arc::clone(self);
            let refuses = move |peer: &HostName| engine.refuses(peer);
            let door = Door::open(*at, &self.host.settings, refuses).map_err(|e| e.to_string());
            match &door {
                Ok(_) => tracing::info!(%at, "other hosts are answered"),
                Err(why) if before.as_ref() != Some(why) => {
                    let message = format!("{} [{}]", unheard(*at, why), Code::ListenFailed);
                    self.tell(Event::new(clock::now(), None, EventType::Warning, "ListenFailed", message));
                }
                Err(_) => {}
            }
            doors.insert(*at, door.map_err(|why| Shut { why, again: Instant::now() + AGAIN }));
        }
    }

    /// Why a host that has shown a certificate is not one to speak with, if it is not: so one that is lost is shut out.
    fn refuses(&self, peer: &HostName) -> Option<String> {
        let shared = self.shared();
        let hosts = &shared.wishes.hosts;
        let own = hosts.own.as_ref().map_or("it", HostName::as_str);
        (!hosts.peers.contains(peer)).then(|| format!("{own} does not have {peer} among its `peers`"))
    }

    /// Tells of certificates that do not serve, or soon will not, once.
    pub(super) fn mind_certificates(&self) {
        let trouble = self.certificate_trouble(&self.shared().wishes.clone());
        let mut told = self.listening.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = trouble.as_ref().filter(|is| told.as_ref() != Some(*is)) {
            let message = format!("{}; {} [{}]", trouble.what, trouble.cure, Code::Certificates);
            self.tell(Event::new(clock::now(), None, EventType::Warning, "CertificateTrouble", message));
        }
        *told = trouble;
    }

    fn certificate_trouble(&self, wishes: &Wishes) -> Option<Trouble> {
        let pki = Pki::at(&self.host.settings.pki);
        wishes.hosts.need_certificates().then(|| pki.trouble(clock::now())).flatten()
    }

    /// What keeps other hosts from being answered, or this one from being believed.
    pub(super) fn unanswered(&self, wishes: &Wishes) -> Vec<Diagnostic> {
        let hosts = &wishes.hosts;
        let certificates = self
            .certificate_trouble(wishes)
            .map(|trouble| hosts.warning(Code::Certificates, trouble.what, trouble.cure));
        let doors = self.listening.doors();
        let shut = doors.iter().filter_map(|(at, door)| Some((at, door.as_ref().err()?)));
        let shut = shut.map(|(at, shut)| {
            let cure = "give the address of an interface that is up, and a port that nobody else has";
            hosts.warning(Code::ListenFailed, unheard(*at, &shut.why), cure.to_owned())
        });
        certificates.into_iter().chain(shut).collect()
    }
}

fn unheard(at: SocketAddr, why: &str) -> String {
    format!("other hosts are not answered at {at}: {why}; it is tried again every 20 s")
}
