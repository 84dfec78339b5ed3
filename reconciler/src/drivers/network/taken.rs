//! Addresses of VEs that somebody else on the wire has too.
//!
//! The wire is asked when the host begins to answer for an address, and nobody waits: whoever has it answers while the VE
//! starts, and is noticed at the next look. All of this is memory: a vzd that begins anew knows of nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vzd_schema::v1::Mac;
use vzd_state::subsystem::network::Taken;

use crate::error::SysResult;
use crate::kernel::net::{Ear, Netlink};

/// Answers are waited for so long, as OpenVZ did and a little more, since nobody is kept waiting.
const LISTEN: Duration = Duration::from_secs(3);

/// Somebody who has an address is asked again so often, to notice that he has it no more.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of the wires.
#[derive(Debug, Default)]
pub(super) struct Wires(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Ears on interfaces, for IPv4 or not.
    ears: BTreeMap<(u32, bool), Ear>,
    /// Addresses that were asked for: when last, and on which interfaces.
    asked: BTreeMap<IpAddr, (Instant, Vec<u32>)>,
    /// Who has them: when that was heard last.
    taken: BTreeMap<IpAddr, (Instant, Taken)>,
}

impl Wires {
    /// Asks who has an address, on these interfaces of the host.
    pub(super) fn ask(&self, host: &mut Netlink, address: IpAddr, on: &[u32]) {
        self.with(|inner| inner.ask(host, address, on));
    }

    /// Who else has an address, if somebody does.
    pub(super) fn taken(&self, host: &mut Netlink, address: IpAddr) -> Option<Taken> {
        self.with(|inner| inner.taken(host, address))
    }

    /// It is no VE's any more.
    pub(super) fn forget(&self, address: IpAddr) {
        self.with(|inner| {
            inner.asked.remove(&address);
            inner.taken.remove(&address);
        });
    }

    fn with<T>(&self, body: impl FnOnce(&mut Inner) -> T) -> T {
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn ask(&mut self, host: &mut Netlink, address: IpAddr, on: &[u32]) {
        for link in on {
            // That nobody can be asked is no reason for a VE to be without its address.
            if let Err(e) = self.ask_on(host, address, *link) {
                tracing::debug!(error = %e, "whether somebody else has an address is not known");
            }
        }
        self.asked.insert(address, (Instant::now(), on.to_vec()));
    }

    fn ask_on(&mut self, host: &mut Netlink, address: IpAddr, link: u32) -> SysResult<()> {
        let key = (link, address.is_ipv4());
        if !self.ears.contains_key(&key) {
            let Some(link) = host.link_numbered(link)? else { return Ok(()) };
            let ear = Ear::open(host, &link, address.is_ipv4())?;
            self.ears.extend(ear.map(|ear| (key, ear)));
        }
        self.ears.get(&key).map_or(Ok(()), |ear| ear.ask(address))
    }

    fn taken(&mut self, host: &mut Netlink, address: IpAddr) -> Option<Taken> {
        self.hear(host);
        let (asked, on) = self.asked.get(&address)?.clone();
        let heard = self.taken.get(&address).map(|(heard, _)| *heard)?;
        if asked.elapsed() > AGAIN {
            if heard < asked {
                self.taken.remove(&address);
                return None;
            }
            self.ask(host, address, &on);
        }
        self.taken.get(&address).map(|(_, taken)| taken.clone())
    }

    /// Takes what has been said since the last look.
    fn hear(&mut self, host: &mut Netlink) {
        for ((link, _), ear) in &self.ears {
            let mut heard = ear.hear();
            heard.retain(|(address, _)| self.asked.contains_key(address));
            if heard.is_empty() {
                continue;
            }
            let links = host.links().unwrap_or_default();
            let on = links.iter().find(|is| is.index == *link).map_or("", |is| &is.name).to_owned();
            // Of two interfaces of this host on one wire, each answers what the other asks.
            heard.retain(|(_, mac)| links.iter().all(|link| link.mac != mac));
            for (address, mac) in heard {
                let taken = Taken { mac: Mac::new(mac), on: on.clone() };
                self.taken.insert(address, (Instant::now(), taken));
            }
        }
        let waiting = |address: &IpAddr| self.taken.contains_key(address);
        self.asked.retain(|address, (at, _)| waiting(address) || at.elapsed() < LISTEN);
        if self.asked.is_empty() {
            self.ears.clear();
        }
    }
}
