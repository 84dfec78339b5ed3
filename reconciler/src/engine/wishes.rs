//! What is wanted of each VE, from a revision of the manifest directory.
//!
//! A manifest that cannot be read, parsed or carried out keeps its VE as the last good version says: the
//! one in memory or, after a restart, the one in the ledger. It never deletes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use vzd_schema::v1::{HostSpec, Shutdown, Size};
use vzd_schema::{Code, Diagnostic, Document, Set, Span};
use vzd_state::desired::Desired;
use vzd_state::handover::Here;
use vzd_state::ids::VeName;
use vzd_state::ledger::{Entry, IdPool, Standing};
use vzd_state::lower::{HostDevice, LowerError, lower};
use vzd_state::placement::{HostName, Inquiry, Place, Situation, place};
use vzd_state::subsystem::devices::DeviceKind;
use vzd_state::subsystem::lifecycle::State;
use vzd_state::subsystem::network::Inherited;

use crate::handover::there::Way;
use crate::watch::Revision;

/// What all manifests want.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// What the directory came to.
    pub revision: Arc<Revision>,
    /// VEs with a manifest that can be carried out, or could be when it was last good.
    pub want: BTreeMap<VeName, Arc<Desired>>,
    /// VEs whose manifest, as it is now, cannot be carried out, and why.
    pub broken: BTreeMap<String, String>,
    /// What is wrong with the manifests.
    pub diagnostics: Vec<Diagnostic>,
    /// Host ids that ranges are cut from.
    pub id_pool: IdPool,
    /// How many VEs may start at a time.
    pub start_parallel: Option<usize>,
    /// Whether VEs are suspended when the host goes down.
    pub suspend_at_shutdown: bool,
    /// Whether VEs are to resolve each other by name; none while nobody can tell.
    pub dns: Option<bool>,
    dns_place: Option<Span>,
    /// What VEs inherit of name servers; none while nobody can tell.
    pub inherited: Option<Inherited>,
    /// How large the pool of disks is to be, in bytes; none: as large as the host lets it.
    pub pool_size: Option<u64>,
    /// This host and the others among which VEs move.
    pub hosts: Arc<Hosts>,
    /// Where the host's manifest says that lxcfs is mounted.
    lxcfs: Option<Lxcfs>,
}

/// Hosts among which VEs move.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// What this one is called.
    pub own: Option<HostName>,
    /// The others.
    pub peers: BTreeSet<HostName>,
    /// How they are reached.
    ways: BTreeMap<HostName, Way>,
    /// Where others are answered.
    pub listen: BTreeSet<SocketAddr>,
    /// Where that is said, or else that one is reached by TLS.
    tls_place: Option<Span>,
}

impl Hosts {
    /// This one, and the others that its manifest names.
    fn with(&self, spec: &HostSpec, document: &Document) -> Self {
        let others = || spec.peers.iter().filter(|peer| self.own.as_ref() != Some(&peer.name));
        let listens = (!spec.listen.is_empty()).then_some("spec.listen");
        let tls = listens.or_else(|| others().any(|peer| peer.address.is_some()).then_some("spec.peers"));
        Self {
            own: self.own.clone(),
            peers: others().map(|peer| peer.name.clone()).collect(),
            ways: others().map(|peer| (peer.name.clone(), Way::to(peer))).collect(),
            listen: spec.listen.iter().copied().collect(),
            tls_place: tls
                .map(|path| document.tree.get(path).map_or(&document.span, |node| &node.span).clone()),
        }
    }

    /// How another one is reached.
    pub fn way(&self, peer: &HostName) -> Way {
        self.ways.get(peer).cloned().unwrap_or_else(|| Way::Ssh(peer.to_string()))
    }

    /// Whether hosts have to show certificates.
    pub fn need_certificates(&self) -> bool {
        self.tls_place.is_some()
    }

    /// A warning where that is said.
    pub fn warning(&self, code: Code, message: String, help: String) -> Diagnostic {
        let warning = Diagnostic::warning(code, message).help(help);
        self.tls_place.iter().fold(warning, |warning, place| warning.at(place, ""))
    }

    /// That a VE is to be on a host which nobody knows.
    fn unknown(&self, ve: &VeName, host: &HostName) -> Option<Diagnostic> {
        if self.peers.is_empty() || self.own.as_ref() == Some(host) || self.peers.contains(host) {
            return None;
        }
        let names = self.peers.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
        let own = self.own.as_ref().map_or("nothing", HostName::as_str);
        let message = format!("`{ve}` is to be on host {host}, which is not among the peers");
        let warning = Diagnostic::warning(Code::HostUnknown, message);
        Some(warning.help(format!("known are {names}; this host is called {own}")))
    }
}

/// The directory of lxcfs, and where that is said.
#[derive(Debug)]
struct Lxcfs {
    dir: String,
    place: Span,
}

/// What is wanted of one VE, owned.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// Its manifest says this.
    Manifest(Arc<Desired>),
    /// Its manifest cannot be read: keep it as the ledger says. Why.
    Ledger(String),
    /// Its manifest is gone.
    Gone,
    /// It is left alone.
    Unmanaged,
    /// Its record cannot be read, and why: nothing can be said about it.
    Unknown(String),
}

impl Wishes {
    /// None yet, of a host that is called so.
    pub fn none(own: Option<HostName>) -> Self {
        Wishes { hosts: Arc::new(Hosts { own, ..Hosts::default() }), ..Wishes::default() }
    }

    /// Lowers every VE of the revision. What has not changed is taken over from `before`.
    pub fn new(revision: Arc<Revision>, before: &Wishes) -> Self {
        let set = revision.set();
        let hosts = if revision.host_known {
            Arc::new(Hosts { own: before.hosts.own.clone(), ..Hosts::default() })
        } else {
            before.hosts.clone()
        };
        let mut wishes = Wishes { diagnostics: revision.diagnostics.clone(), hosts, ..Wishes::default() };
        if let Some((document, host)) =
            revision.host().and_then(|held| Some((&held.document, held.document.host()?)))
        {
            wishes.dns = host.spec.dns;
            wishes.inherited = Some(Inherited::of(&host.spec.network));
            wishes.pool_size = host.spec.pool.size.map(Size::bytes);
            wishes.dns_place = document.tree.get("spec.dns").map(|node| node.span.clone());
            wishes.lxcfs = host.spec.lxcfs.as_ref().map(|dir| Lxcfs {
                dir: dir.to_string(),
                place: document.tree.get("spec.lxcfs").map_or(&document.span, |node| &node.span).clone(),
            });
            if let Some(subids) = &host.spec.subids {
                wishes.id_pool = IdPool { start: subids.start, count: subids.count };
            }
            wishes.hosts = Arc::new(before.hosts.with(&host.spec, document));
            wishes.suspend_at_shutdown = host.spec.shutdown == Some(Shutdown::Suspend);
            wishes.start_parallel = host.spec.start_parallel.and_then(|n| usize::try_from(n.get()).ok());
        }
        if revision.host_known {
            wishes.dns = Some(wishes.dns.unwrap_or(false));
            wishes.inherited = Some(wishes.inherited.unwrap_or_default());
        } else {
            (wishes.dns, wishes.inherited) = (before.dns, before.inherited.clone());
            wishes.pool_size = before.pool_size;
        }
        for (name, diagnostics) in &revision.broken {
            wishes.broken.insert(name.clone(), first_message(diagnostics));
        }
        let lowered: HashMap<*const Document, &Arc<Desired>> = if revision.resolves_like(&before.revision) {
            before.lowered().collect()
        } else {
            HashMap::new()
        };
        // Without the host's settings no spec can be resolved: every VE stays as the ledger has it.
        for held in revision.ves().filter(|_| revision.host_known) {
            match (&held.document.name, &held.kept, lowered.get(&Arc::as_ptr(&held.document))) {
                (Some(name), Some(kept), _) => wishes.keep(name, first_message(kept), before),
                (_, None, Some(desired)) => {
                    wishes.want.insert(desired.name.clone(), Arc::clone(desired));
                }
                _ => wishes.add(&held.document, &set, before),
            }
        }
        drop(set);
        wishes.tell_unknown_hosts(&revision);
        wishes.revision = revision;
        wishes
    }

    /// What was made of each document that is in force as it stands.
    fn lowered(&self) -> impl Iterator<Item = (*const Document, &Arc<Desired>)> {
        self.revision.ves().filter(|held| held.kept.is_none()).filter_map(|held| {
            let name = held.document.name.as_deref().filter(|name| !self.broken.contains_key(*name))?;
            Some((Arc::as_ptr(&held.document), self.want.get(&name.parse::<VeName>().ok()?)?))
        })
    }

    fn tell_unknown_hosts(&mut self, revision: &Revision) {
        for held in revision.ves() {
            let name = held.document.name.as_ref().and_then(|name| name.parse::<VeName>().ok());
            let want = name.and_then(|name| self.want.get(&name));
            let Some((want, host)) = want.and_then(|want| Some((want, want.host.as_ref()?))) else {
                continue;
            };
            if let Some(warning) = self.hosts.unknown(&want.name, host) {
                let line = held.document.tree.get("spec.host").map_or(&held.document.span, |node| &node.span);
                self.diagnostics.push(warning.at(line, ""));
            }
        }
    }

    /// What this host is to do about a VE, as far as it matters which host it is to be on.
    pub fn place(&self, want: Option<&Desired>, entry: Option<&Entry>, asked: Option<&Inquiry>) -> Place {
        // What is being thrown away is so to its end.
        if entry.is_some_and(|entry| entry.standing == Standing::Destroying) {
            return Place::Here;
        }
        place(&Situation {
            own: self.hosts.own.as_ref(),
            named: want.and_then(|want| want.host.as_ref()),
            absent: want.is_some_and(|want| want.lifecycle.state == State::Absent),
            here: entry.map_or(Here::Unknown, Entry::here),
            peer: entry.and_then(|entry| entry.handover.as_ref()).map(|handover| handover.peer.as_str()),
            stale: entry.and_then(|entry| entry.stale_host.as_deref()),
            peers: &self.hosts.peers,
            asked,
        })
    }

    fn add(&mut self, document: &Document, set: &Set<'_>, before: &Wishes) {
        let lowered = set.resolve(document).and_then(|resolved| {
            lower(document, &resolved, &host_device).map_err(|errors| {
                let wrong = |e: LowerError| {
                    let span = resolved.tree.get(&e.field).map_or(&document.span, |node| &node.span);
                    Diagnostic::error(Code::BadValue, format!("`{}`: {}", e.field, e.why)).at(span, "")
                };
                errors.into_iter().map(wrong).collect()
            })
        });
        match lowered {
            Ok(desired) => {
                let same = before.want.get(&desired.name).filter(|known| ***known == desired);
                let desired = same.cloned().unwrap_or_else(|| Arc::new(desired));
                self.want.insert(desired.name.clone(), desired);
            }
            Err(diagnostics) => {
                if let Some(name) = &document.name {
                    self.keep(name, first_message(&diagnostics), before);
                }
                self.diagnostics.extend(diagnostics);
            }
        }
    }

    /// Keeps a VE as it last was wanted: by what was made of its manifest then, not by lowering that
    /// again, since a profile may have changed meanwhile. What is not in memory is in the ledger.
    fn keep(&mut self, name: &str, why: String, before: &Wishes) {
        let last = name.parse::<VeName>().ok().and_then(|name| before.want.get(&name));
        if let Some(last) = last {
            self.want.insert(last.name.clone(), last.clone());
        }
        self.broken.insert(name.to_owned(), why);
    }

    /// Names of which another thing is wanted than before.
    pub fn changed_from(&self, before: &Wishes) -> BTreeSet<VeName> {
        let mut changed: BTreeSet<VeName> =
            before.want.keys().filter(|name| !self.want.contains_key(*name)).cloned().collect();
        for (name, want) in &self.want {
            let same = before.want.get(name).is_some_and(|was| Arc::ptr_eq(was, want));
            if !same || self.broken.get(name.as_str()) != before.broken.get(name.as_str()) {
                changed.insert(name.clone());
            }
        }
        let broken = self.broken.keys().chain(before.broken.keys());
        changed.extend(broken.filter_map(|name| name.parse().ok()));
        changed
    }

    /// Whether the directory says anything about this VE.
    pub fn knows(&self, name: &VeName) -> bool {
        self.want.contains_key(name) || self.broken.contains_key(name.as_str())
    }

    /// Whether the directory is there and holds no manifest. That is not believed, until an operator says
    /// that it is meant.
    pub fn is_emptied(&self) -> bool {
        self.revision.is_empty
    }

    /// What is wanted of a VE. `emptied`: an operator says that an empty directory is meant.
    pub fn wanted(&self, name: &VeName, entry: Option<&Entry>, emptied: bool) -> Wanted {
        // What is carried on only because an empty directory is not believed is not made anew.
        if self.is_emptied() && (emptied || entry.is_none()) {
            return match entry {
                Some(entry) if entry.pinned => Wanted::Ledger(String::new()),
                Some(entry) if entry.standing != Standing::Retained => Wanted::Gone,
                Some(_) | None => Wanted::Unmanaged,
            };
        }
        if let Some(want) = self.want.get(name) {
            return match self.place(Some(want), entry, None) {
                Place::Here | Place::Come(_) | Place::Waits(_) => Wanted::Manifest(want.clone()),
                Place::Stays(_) | Place::Arriving(_) | Place::Goes(_) | Place::Unreachable(_) => {
                    Wanted::Ledger(String::new())
                }
                Place::Elsewhere(_) => Wanted::Unmanaged,
                Place::Went => Wanted::Gone,
            };
        }
        let Some(entry) = entry else { return Wanted::Unmanaged };
        if let Some(why) = self.broken.get(name.as_str()) {
            return Wanted::Ledger(why.clone());
        }
        if !self.revision.is_removed(name.as_str(), &entry.source.file) {
            return Wanted::Ledger("its manifest cannot be read now".to_owned());
        }
        match entry.standing {
            Standing::Retained => Wanted::Unmanaged,
            _ if entry.pinned => Wanted::Ledger(String::new()),
            _ => Wanted::Gone,
        }
    }

    /// The directory of lxcfs that the host's manifest names.
    pub fn lxcfs_dir(&self) -> Option<&str> {
        self.lxcfs.as_ref().map(|lxcfs| lxcfs.dir.as_str())
    }

    /// That the host's manifest names a directory of lxcfs in which none is.
    pub fn no_lxcfs(&self) -> Option<Diagnostic> {
        let Lxcfs { dir, place } = self.lxcfs.as_ref()?;
        let message = format!("lxcfs does not answer at {dir}: VEs see the host's memory and CPUs in /proc");
        let warning = Diagnostic::warning(Code::KernelLacks, message).at(place, "");
        Some(warning.help(format!("start it: lxcfs {dir}")))
    }

    /// That VEs cannot ask for names, as the host's manifest wants it.
    pub fn no_resolver(&self, why: &str) -> Diagnostic {
        let message = format!("VEs cannot resolve each other by name: {why}; it is tried again every 20 s");
        let warning = Diagnostic::warning(Code::ResolverFailed, message);
        self.dns_place.iter().fold(warning, |warning, place| warning.at(place, ""))
    }

    /// Why the manifest of a VE is not followed, if it is broken.
    pub fn broken_because(&self, name: &VeName) -> Option<&str> {
        self.broken.get(name.as_str()).map(String::as_str)
    }
}

fn first_message(diagnostics: &[Diagnostic]) -> String {
    let first = diagnostics.iter().find(|d| d.is_error()).or(diagnostics.first());
    first.map_or_else(String::new, |d| match &d.primary {
        Some(label) => format!("{}: {} [{}]", label.span, d.message, d.code),
        None => format!("{} [{}]", d.message, d.code),
    })
}

/// What the host's device node at a path is.
pub(crate) fn host_device(path: &str) -> Option<HostDevice> {
    use rustix::fs::FileType;
    let stat = rustix::fs::stat(path).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => DeviceKind::Char,
        FileType::BlockDevice => DeviceKind::Block,
        _ => return None,
    };
    Some((kind, rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
}
