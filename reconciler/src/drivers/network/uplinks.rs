//! What the host does on its own interfaces for the addresses of VEs: it forwards, and answers for them where
//! their neighbours look for them.
//!
//! Settings of the kernel that had to be changed for that are written down before, and put back when the last
//! link of a VE is gone, unless somebody has changed them since. Answers are marked as vzd's: those of others
//! are neither made nor taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use vzd_state::subsystem::network::Taken;

use super::taken::Wires;
use crate::error::{At, SysError, SysResult};
use crate::kernel::net::{Netlink, Request, Route, uplinks};
use crate::store::{Writes, atomic};

/// A look at the host serves for so long: a pass over many VEs is one look.
const FRESH: Duration = Duration::from_millis(500);

/// The host's own interfaces.
#[derive(Debug)]
pub struct Uplinks {
    /// What settings were before, while they are changed.
    record: PathBuf,
    inner: Mutex<Option<View>>,
    wires: Wires,
}

/// The host as it was seen last.
#[derive(Debug)]
struct View {
    at: Instant,
    routes: Vec<Route>,
    names: BTreeMap<u32, String>,
    /// The host's own addresses.
    addresses: BTreeSet<IpAddr>,
    /// Interfaces of VEs.
    own: BTreeSet<u32>,
    /// Addresses that are answered for and on which interface; whether by vzd.
    proxies: BTreeMap<(IpAddr, u32), bool>,
    /// Interfaces whose settings were looked at, and whether they are as they have to be.
    ready: BTreeMap<(bool, u32), bool>,
}

/// Settings as they were, in the order in which they were changed.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Before {
    changed: Vec<Setting>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Setting {
    /// Below /proc/sys/net.
    name: String,
    before: String,
    /// What it was set to; none where it changes because another does.
    set: Option<String>,
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(name)
}

fn read(name: &str) -> SysResult<String> {
    let path = path(name);
    let text = std::fs::read_to_string(&path).at("read", path.display())?;
    Ok(text.trim_end().to_owned())
}

fn write(name: &str, value: &str) -> SysResult<()> {
    let path = path(name);
    std::fs::write(&path, value).map_err(|e| SysError::new("write", path.display(), e).value(value))
}

/// The settings that an interface needs to answer for an address of a family.
fn needed(ipv4: bool, link: &str) -> Vec<(String, &'static str)> {
    // Neighbours are answered at once: the kernel's usual wait is for hosts that answer for each other.
    match ipv4 {
        true => vec![("ipv4/ip_forward".to_owned(), "1"), (format!("ipv4/neigh/{link}/proxy_delay"), "0")],
        false => vec![
            ("ipv6/conf/all/forwarding".to_owned(), "1"),
            (format!("ipv6/neigh/{link}/proxy_delay"), "0"),
            (format!("ipv6/conf/{link}/proxy_ndp"), "1"),
        ],
    }
}

/// What else changes when a setting does.
fn follows(name: &str) -> SysResult<Vec<String>> {
    let family = match name {
        "ipv4/ip_forward" => "ipv4",
        "ipv6/conf/all/forwarding" => "ipv6",
        _ => return Ok(Vec::new()),
    };
    let dir = path(&format!("{family}/conf"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).at("list", dir.display())? {
        let link = entry.at("list", dir.display())?.file_name().to_string_lossy().into_owned();
        files.push(format!("{family}/conf/{link}/forwarding"));
    }
    files.push(format!("{family}/conf/all/accept_redirects"));
    Ok(files)
}

impl Uplinks {
    /// Of a vzd with this run directory.
    pub fn new(run_dir: &Path) -> Self {
        Uplinks {
            record: run_dir.join("host-network.json"),
            inner: Mutex::default(),
            wires: Wires::default(),
        }
    }

    fn view(&self, host: &mut Netlink, fresh: bool) -> SysResult<MutexGuard<'_, Option<View>>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh || inner.as_ref().is_none_or(|view| view.at.elapsed() > FRESH) {
            let links = host.links()?;
            let own =
                links.iter().filter(|link| link.alias.starts_with("vzd:") && link.name.starts_with("venet"));
            *inner = Some(View {
                at: Instant::now(),
                routes: host.routes(None)?,
                addresses: host.addresses(None)?.into_iter().map(|(address, _)| address).collect(),
                own: own.map(|link| link.index).collect(),
                names: links
                    .into_iter()
                    .filter(|link| link.arp)
                    .map(|link| (link.index, link.name))
                    .collect(),
                proxies: host
                    .proxies()?
                    .into_iter()
                    .map(|(address, on, ours)| ((address, on), ours))
                    .collect(),
                ready: BTreeMap::new(),
            });
        }
        Ok(inner)
    }

    /// Whether the host does all that is needed for an address, by a look that may be a moment old.
    pub fn answered(&self, host: &mut Netlink, address: IpAddr) -> SysResult<bool> {
        let mut view = self.view(host, false)?;
        let Some(view) = view.as_mut() else { return Ok(false) };
        for on in view.uplinks(address) {
            let ready = match view.ready.get(&(address.is_ipv4(), on)) {
                Some(ready) => *ready,
                None => {
                    let ready = view.is_ready(address, on);
                    view.ready.insert((address.is_ipv4(), on), ready);
                    ready
                }
            };
            if !ready || !view.proxies.contains_key(&(address, on)) {
                return Ok(false);
            }
        }
        Ok(forwards(address))
    }

    /// Has the host forward, and answer for an address; tells how much had to be changed.
    pub fn answer(&self, host: &mut Netlink, address: IpAddr) -> SysResult<usize> {
        let mut view = self.view(host, false)?;
        let Some(view) = view.as_mut() else { return Ok(0) };
        if view.addresses.contains(&address) {
            return Err(SysError::refused("give a VE", address, "the host itself has it"));
        }
        let mut changed = 0;
        let on = view.uplinks(address);
        let mut settings = Vec::new();
        for link in &on {
            settings
                .extend(view.names.get(link).map(|name| needed(address.is_ipv4(), name)).unwrap_or_default());
        }
        if on.is_empty() {
            // Nobody looks for it, but other VEs are to reach it.
            settings = needed(address.is_ipv4(), "lo");
            settings.truncate(1);
        }
        changed += self.set(&settings, view)?;
        let missing: Vec<u32> =
            on.into_iter().filter(|link| !view.proxies.contains_key(&(address, *link))).collect();
        if !missing.is_empty() {
            // Before others see that this host answers.
            self.wires.ask(host, address, &missing);
        }
        changed += host.run(missing.iter().map(|link| Request::add_proxy(address, *link)).collect())?;
        view.proxies.extend(missing.into_iter().map(|link| ((address, link), true)));
        Ok(changed)
    }

    /// Where neighbours are to be told of addresses: by interface.
    pub fn neighbours(
        &self,
        host: &mut Netlink,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> SysResult<BTreeMap<String, Vec<IpAddr>>> {
        let view = self.view(host, false)?;
        let mut told: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let Some(view) = view.as_ref() else { return Ok(told) };
        for address in addresses {
            for name in view.uplinks(address).iter().filter_map(|link| view.names.get(link)) {
                told.entry(name.clone()).or_default().push(address);
            }
        }
        Ok(told)
    }

    /// Who else on a wire of the host's has an address, as far as that was heard.
    pub fn taken(&self, host: &mut Netlink, address: IpAddr) -> Option<Taken> {
        self.wires.taken(host, address)
    }

    /// The host answers for an address no more, unless it is another VE's by now.
    pub fn withdraw(&self, host: &mut Netlink, address: IpAddr) -> SysResult<usize> {
        let mut view = self.view(host, true)?;
        let Some(view) = view.as_mut() else { return Ok(0) };
        if view.routes.iter().any(|route| route.ours && route.to.0 == address) {
            return Ok(0);
        }
        self.wires.forget(address);
        let ours: Vec<u32> = view
            .proxies
            .iter()
            .filter(|((is, _), ours)| *is == address && **ours)
            .map(|((_, link), _)| *link)
            .collect();
        let done = host.run(ours.iter().map(|link| Request::remove_proxy(address, *link)).collect())?;
        view.proxies.retain(|(is, link), _| *is != address || !ours.contains(link));
        Ok(done)
    }

    /// Puts settings back, if no VE has a link any more.
    pub fn rest(&self, host: &mut Netlink) -> SysResult<()> {
        if !self.record.exists() {
            return Ok(());
        }
        let view = self.view(host, true)?;
        if view.as_ref().is_some_and(|view| !view.own.is_empty() || view.proxies.values().any(|ours| *ours)) {
            return Ok(());
        }
        // Of two last VEs that end at once, the other may have put everything back meanwhile.
        if !self.record.exists() {
            return Ok(());
        }
        let before = self.before()?;
        for Setting { name, before, set } in
            before.changed.iter().filter(|setting| setting.set.is_some()).rev()
        {
            // An interface that is gone took its settings with it.
            if read(name).is_ok_and(|is| Some(&is) == set.as_ref()) {
                write(name, before)?;
            }
        }
        for Setting { name, before, .. } in before.changed.iter().filter(|setting| setting.set.is_none()) {
            if read(name).is_ok_and(|is| is != *before) {
                write(name, before)?;
            }
        }
        std::fs::remove_file(&self.record).at("remove", self.record.display())
    }

    fn before(&self) -> SysResult<Before> {
        match std::fs::read(&self.record) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|e| SysError::refused("understand", self.record.display(), e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Before::default()),
            Err(e) => Err(SysError::new("read", self.record.display(), e)),
        }
    }

    /// Changes settings that are not so, with what they were on disk before.
    fn set(&self, settings: &[(String, &str)], view: &mut View) -> SysResult<usize> {
        let mut settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect();
        settings.sort();
        settings.dedup();
        let mut wrong = Vec::new();
        for (name, value) in settings {
            let is = read(&name)?;
            if is != value {
                wrong.push((name, value, is));
            }
        }
        if wrong.is_empty() {
            return Ok(0);
        }
        let mut before = self.before()?;
        let mut more = Vec::new();
        for (name, value, is) in &wrong {
            if name == "ipv6/conf/all/forwarding" {
                more.extend(keep_listening_to_routers(view)?);
            }
            for name in follows(name)? {
                // Not of VEs' own interfaces, which go before settings are put back.
                let before = read(&name)?;
                more.push(Setting { name, before, set: None });
            }
            more.push(Setting { name: name.clone(), before: is.clone(), set: Some(value.clone()) });
        }
        let listening: Vec<(String, String)> = more
            .iter()
            .filter(|setting| setting.name.ends_with("/accept_ra"))
            .filter_map(|setting| Some((setting.name.clone(), setting.set.clone()?)))
            .collect();
        more.retain(|setting| !before.changed.iter().any(|known| known.name == setting.name));
        before.changed.extend(more);
        let text = serde_json::to_vec(&before).unwrap_or_default();
        atomic::write(&self.record, &text, &Writes::default())?;
        listening.iter().try_for_each(|(name, value)| write(name, value))?;
        for (name, value, _) in &wrong {
            write(name, value)?;
        }
        view.ready.clear();
        Ok(wrong.len())
    }
}

fn forwards(address: IpAddr) -> bool {
    let name = if address.is_ipv4() { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" };
    read(name).is_ok_and(|is| is == "1")
}

/// A host that forwards takes no advice from routers unless it is told to; one that lives by that advice is to
/// keep its addresses and routes.
fn keep_listening_to_routers(view: &View) -> SysResult<Vec<Setting>> {
    let mut settings = Vec::new();
    for name in view.names.iter().filter(|(link, _)| !view.own.contains(link)).map(|(_, name)| name) {
        let name = format!("ipv6/conf/{name}/accept_ra");
        match read(&name) {
            Ok(is) if is == "1" => settings.push(Setting { name, before: is, set: Some("2".to_owned()) }),
            Ok(_) => {}
            Err(e) if e.is_absent() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(settings)
}

impl View {
    /// Where an address is looked for.
    fn uplinks(&self, address: IpAddr) -> BTreeSet<u32> {
        let mut on = uplinks(address, &self.routes, |link| self.own.contains(&link));
        on.retain(|link| self.names.contains_key(link));
        on
    }

    fn is_ready(&self, address: IpAddr, on: u32) -> bool {
        let name = self.names.get(&on).map(String::as_str).unwrap_or_default();
        needed(address.is_ipv4(), name).iter().all(|(name, value)| read(name).is_ok_and(|is| is == *value))
    }
}
