//! Bandwidth of a VE: an intermediate device (IFB) each way, through which the packets of its links are led, with
//! token buckets on it: one for all of them, and one for each link that has a limit of its own.
//!
//! It stands on the host, where the VE's root reaches nothing of it. A packet comes to it after the filter by source,
//! and goes on from it as if it had not been there. Shaping the VE's own end would be the VE's to undo, and policing
//! drops what a queue would hold back.

use std::collections::BTreeMap;

use rtnetlink::LinkIfb;
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use serde::{Deserialize, Serialize};
use vzd_state::subsystem::network::Direction;

use super::htb::{self, Counts};
use super::read::Link;
use super::tc::{INCOMING, OUTGOING, clsact, every_packet, message};
use super::{Netlink, Request};
use crate::error::{SysError, SysResult};

/// Limits of a VE's bandwidth one way, as they are to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shape {
    /// The VE's numeric id.
    pub ctid: u32,
    /// What the device is marked with.
    pub alias: String,
    /// Which way.
    pub direction: Direction,
    /// Bits a second of the VE as a whole, if that is limited.
    pub rate: Option<u64>,
    /// Bits a second of links with a limit of their own, by the names of their ends on the host.
    pub links: BTreeMap<String, u64>,
}

/// Limits as they are.
#[derive(Debug, Clone, Default)]
pub struct ShapeSeen {
    /// Bits a second of the VE as a whole, if that is limited.
    pub rate: Option<u64>,
    /// Bits a second of links, by the names of their ends on the host.
    pub links: BTreeMap<String, u64>,
    /// The interfaces whose packets go past, by their names on the host.
    pub past: Vec<String>,
    /// What has gone through in all, and by link.
    pub counts: Counts,
    /// What has gone through of links.
    pub counts_of: BTreeMap<String, Counts>,
}

impl Shape {
    /// What the device is called.
    pub fn name(&self) -> String {
        match self.direction {
            Direction::In => format!("vzi{}", self.ctid),
            Direction::Out => format!("vzo{}", self.ctid),
        }
    }

    /// Where on an interface of the VE packets are taken. It is the host's end: what goes to the VE leaves by it.
    fn at(&self) -> TcHandle {
        match self.direction {
            Direction::In => OUTGOING,
            Direction::Out => INCOMING,
        }
    }

    /// Priority of the filter that leads there: after the filter by source (1). Two of u32 at one interface and priority
    /// are one to the kernel, whichever way they look.
    fn leads(&self) -> u16 {
        match self.direction {
            Direction::In => 3,
            Direction::Out => 2,
        }
    }

    /// The device, if it is there; also one that was made by a vzd that ended before it could be marked.
    pub fn device(&self, host: &mut Netlink) -> SysResult<Option<Link>> {
        let is_ours = |link: &Link| link.alias == self.alias || link.alias.is_empty() && !link.up;
        Ok(host.link_named(&self.name())?.filter(is_ours))
    }

    /// Makes the device, or gives it another rate, and has these interfaces' packets led through it. Tells how much was
    /// changed.
    pub fn set(&self, host: &mut Netlink, links: &[Link]) -> SysResult<usize> {
        let name = self.name();
        let mut changed = 0;
        let device = match self.device(host)? {
            Some(device) => device,
            None => {
                let device = Message::NewLink(LinkIfb::new(&name).build());
                changed += host.run(vec![Request::new("make", format!("device {name}"), device).make()])?;
                let missing = || SysError::refused("make", format_args!("device {name}"), "it is not there");
                host.link_named(&name)?.ok_or_else(missing)?
            }
        };
        if device.alias != self.alias {
            let mut requests = vec![Request::alias(device.index, &name, &self.alias)];
            if std::path::Path::new("/proc/sys/net/ipv6").exists() {
                requests.push(Request::no_own_address(device.index, &name));
            }
            host.run(requests)?;
        }
        changed += self.set_rates(host, device.index, links)?;
        if !device.up {
            let up = Request::link_flags(device.index, &name, LinkFlags::Up, LinkFlags::empty());
            changed += host.run(vec![up])?;
        }
        for link in links {
            let led = host.led_to(link.index, self.at())?;
            if self.is_for(link) {
                if led != Some(device.index) {
                    changed += host.run(self.lead(link, device.index))?;
                }
            } else if led.is_some() {
                changed += host.run(vec![self.lead_no_more(link)])?;
            }
        }
        Ok(changed)
    }

    /// Whether a link's packets are limited at all.
    fn is_for(&self, link: &Link) -> bool {
        self.rate.is_some() || self.links.contains_key(&link.name)
    }

    /// Has the device's buckets be as they are to be: all of it at once, and nothing that is so already.
    fn set_rates(&self, host: &mut Netlink, device: u32, links: &[Link]) -> SysResult<usize> {
        let name = self.name();
        let mut requests = Vec::new();
        let seen = host.buckets(device)?;
        if seen.is_none() {
            requests.push(htb::make(device, &name));
        }
        let htb::Buckets { classes, links: led, gone, .. } = seen.unwrap_or_default();
        let whole = classes.get(&htb::WHOLE);
        let is_whole = whole.is_some_and(|whole| whole.rate == self.rate);
        if !is_whole {
            requests.push(htb::set_whole(device, &name, self.rate));
        }
        let is = |minor: u16, rate: Option<u64>| {
            is_whole && classes.get(&minor).is_some_and(|class| class.queue && class.rate == rate)
        };
        if !is(htb::REST, self.rate) {
            requests.extend(htb::set_leaf(host, device, &name, htb::REST, self.rate, self.rate));
        }
        let wanted: BTreeMap<&String, u64> =
            links.iter().filter_map(|link| Some((&link.name, *self.links.get(&link.name)?))).collect();
        let stale = led.iter().filter(|(link, _)| !wanted.contains_key(link)).map(|(_, minor)| *minor);
        let mut stale: Vec<u16> = stale.chain(gone).collect();
        requests.extend(stale.iter().map(|minor| htb::classify_no_more(device, &name, *minor)));
        // One whose filter is gone.
        let used = |minor: &u16| *minor < htb::FIRST_LINK || led.values().any(|used| used == minor);
        let unused = classes.keys().filter(|minor| !used(minor) && !stale.contains(minor));
        let unused: Vec<u16> = unused.copied().collect();
        stale.extend(unused);
        requests.extend(stale.iter().map(|minor| htb::remove_class(device, &name, *minor)));
        let mut free = (htb::FIRST_LINK..).filter(|minor| !classes.contains_key(minor));
        for (link, rate) in wanted {
            let minor = led.get(link).copied().or_else(|| free.next()).unwrap_or(htb::FIRST_LINK);
            if !is(minor, Some(rate)) {
                requests.extend(htb::set_leaf(host, device, &name, minor, Some(rate), self.rate));
            }
            if !led.contains_key(link) {
                requests.push(htb::classify(device, &name, minor, link));
            }
        }
        host.run(requests)
    }

    fn lead(&self, link: &Link, device: u32) -> Vec<Request> {
        let object = format!("interface {}", link.name);
        let mut mirror = TcMirror::default();
        mirror.generic.action = TcActionType::Stolen;
        (mirror.eaction, mirror.ifindex) = (TcMirrorActionType::EgressRedir, device);
        let mut action = TcAction::default();
        action.attributes = vec![
            TcActionAttribute::Kind(TcActionMirror::KIND.into()),
            TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
        ];
        let mut every = TcU32Selector::default();
        (every.flags, every.nkeys, every.keys) = (TcU32SelectorFlags::Terminal, 1, vec![TcU32Key::default()]);
        let mut filter = message(link.index);
        (filter.header.parent, filter.header.info) = (self.at(), every_packet(self.leads()));
        filter.attributes = vec![
            TcAttribute::Kind(TcFilterU32::KIND.into()),
            TcAttribute::Options(vec![
                TcOption::U32(TcFilterU32Option::Selector(every)),
                TcOption::U32(TcFilterU32Option::Action(vec![action])),
            ]),
        ];
        vec![
            clsact(link.index, &link.name),
            // One that leads to a device that is gone.
            self.lead_no_more(link),
            Request::new("shape packets of", object, Message::NewTrafficFilter(filter)).make(),
        ]
    }

    fn lead_no_more(&self, link: &Link) -> Request {
        let mut filter = message(link.index);
        (filter.header.parent, filter.header.info) = (self.at(), every_packet(self.leads()));
        let object = format!("interface {}", link.name);
        Request::new("shape no packets of", object, Message::DelTrafficFilter(filter)).unless_none()
    }

    /// Leads nothing through the device any more, and takes it away.
    pub fn remove(&self, host: &mut Netlink, links: &[Link]) -> SysResult<usize> {
        host.run(links.iter().map(|link| self.lead_no_more(link)).collect())?;
        match self.device(host)? {
            Some(device) => host.run(vec![Request::remove_link(device.index, &device.name)]),
            None => Ok(0),
        }
    }

    /// The limits that there are.
    pub fn see(&self, host: &mut Netlink, links: &[Link]) -> SysResult<Option<ShapeSeen>> {
        let Some(device) = self.device(host)? else { return Ok(None) };
        let Some(buckets) = host.buckets(device.index)? else { return Ok(None) };
        let mut seen = ShapeSeen { counts: buckets.counts, ..ShapeSeen::default() };
        for link in links {
            if !device.up || host.led_to(link.index, self.at())? != Some(device.index) {
                seen.past.push(link.name.clone());
            }
        }
        let class = |minor: u16| buckets.classes.get(&minor);
        let whole = class(htb::WHOLE).zip(class(htb::REST));
        seen.rate = whole.filter(|(_, rest)| rest.queue).and_then(|(whole, _)| whole.rate);
        for (link, minor) in buckets.links {
            let Some(class) = class(minor).filter(|class| class.queue) else { continue };
            if let Some(rate) = class.rate.filter(|_| !seen.past.contains(&link)) {
                seen.links.insert(link.clone(), rate);
                seen.counts_of.insert(link, class.counts);
            }
        }
        Ok(Some(seen))
    }
}

impl Netlink {
    /// The device that all packets at a place are led to.
    fn led_to(&mut self, link: u32, at: TcHandle) -> SysResult<Option<u32>> {
        let found = self.filters(link, at)?;
        let leads = |filter: &TcMessage| {
            let options = filter.attributes.iter().find_map(|attribute| match attribute {
                TcAttribute::Options(options) => Some(options),
                _ => None,
            })?;
            let actions = options.iter().find_map(|option| match option {
                TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
                _ => None,
            })?;
            let options = actions.first()?.attributes.iter().find_map(|attribute| match attribute {
                TcActionAttribute::Options(options) => Some(options),
                _ => None,
            })?;
            options.iter().find_map(|option| match option {
                TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror)) => Some(mirror.ifindex),
                _ => None,
            })
        };
        Ok(found.iter().find_map(leads))
    }
}

/// Whether this kernel has the parts, asked in a way that changes nothing: for what it knows it finds fault with the
/// request, and it says so otherwise if it doesn't know the kind at all.
pub fn try_shaping() -> SysResult<()> {
    let mut net = Netlink::open()?;
    let device = LinkIfb::new("vzd-probe").address(vec![0; 6]).build();
    let device = Request::new("make", "intermediate devices (modprobe ifb)", Message::NewLink(device)).make();
    let mut bucket = message(super::LOOPBACK_INDEX);
    (bucket.header.parent, bucket.header.handle) = (TcHandle::ROOT, htb::ROOT);
    bucket.attributes = vec![TcAttribute::Kind(htb::KIND.into())];
    let bucket = Message::NewQueueDiscipline(bucket);
    let bucket = Request::new("make", "token buckets (modprobe sch_htb)", bucket).make();
    // `ifb_validate` refuses the address, `htb_init` that there are no options.
    for (request, known) in [(device, libc::EADDRNOTAVAIL), (bucket, libc::EINVAL)] {
        match net.run(vec![request]) {
            Err(e) if e.errno == known => {}
            other => other.map(drop)?,
        }
    }
    Ok(())
}
