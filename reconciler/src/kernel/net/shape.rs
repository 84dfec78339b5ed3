//! Bandwidth of a VE: an intermediate device (IFB) each way, through which the packets of all its links are led, with a
//! token bucket (TBF) on it.
//!
//! It stands on the host, where the VE's root reaches nothing of it. A packet comes to it after the filter by source,
//! and goes on from it as if it had not been there. Shaping the VE's own end would be the VE's to undo, and policing
//! drops what a queue would hold back.

use rtnetlink::LinkIfb;
use rtnetlink::packet_core::{DefaultNla, Nla as _, NlaBuffer, NlasIterator};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use serde::{Deserialize, Serialize};
use vzd_state::subsystem::network::Direction;

use super::read::Link;
use super::tc::{INCOMING, OUTGOING, clsact, message};
use super::{Netlink, Request};
use crate::error::{SysError, SysResult};

/// A limit of a VE's bandwidth one way, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shape {
    /// The VE's numeric id.
    pub ctid: u32,
    /// What the device is marked with.
    pub alias: String,
    /// Which way.
    pub direction: Direction,
    /// Bits a second.
    pub rate: u64,
}

/// The token bucket's handle.
const BUCKET: TcHandle = TcHandle { major: 1, minor: 0 };

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

/// Bytes that may go at once: the largest packet that there can be, or what the rate makes in 10 ms.
fn burst(bytes: u64) -> u32 {
    const LARGEST: u64 = 72 * 1024;
    u32::try_from((bytes / 100).max(LARGEST)).unwrap_or(u32::MAX)
}

/// Bytes that may wait: what the rate makes in 50 ms, besides.
fn room(bytes: u64) -> u32 {
    u32::try_from(bytes / 20).unwrap_or(u32::MAX).saturating_add(burst(bytes))
}

/// `struct tc_tbf_qopt` and what goes with it (linux/pkt_sched.h).
fn token_bucket(bits: u64) -> Vec<TcOption> {
    /// `TC_LINKLAYER_ETHERNET`: no table of times is needed.
    const ETHERNET: u8 = 1;
    let bytes = bits / 8;
    let mut options = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    options.extend(u32::try_from(bytes).unwrap_or(u32::MAX).to_ne_bytes());
    options.extend([0; 12]);
    options.extend(room(bytes).to_ne_bytes());
    // Told as BURST, in bytes.
    options.extend([0; 8]);
    let mut options = vec![TcOption::Other(DefaultNla::new(TCA_TBF_PARMS, options))];
    if bytes > u64::from(u32::MAX) {
        options.push(TcOption::Other(DefaultNla::new(TCA_TBF_RATE64, bytes.to_ne_bytes().into())));
    }
    options.push(TcOption::Other(DefaultNla::new(TCA_TBF_BURST, burst(bytes).to_ne_bytes().into())));
    options
}

/// The bits a second of a token bucket. The options of a kind that rtnetlink doesn't know come as one, unparsed.
fn rate_of(options: &[TcOption]) -> Option<u64> {
    let [TcOption::Other(all)] = options else { return None };
    let mut bytes = vec![0; all.value_len()];
    all.emit_value(&mut bytes);
    let value = |kind: u16| {
        let is = |nla: &NlaBuffer<&[u8]>| nla.kind() == kind;
        NlasIterator::new(bytes.as_slice()).filter_map(Result::ok).find(is).map(|nla| nla.value().to_vec())
    };
    let long = value(TCA_TBF_RATE64).and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
    let short = || Some(u64::from(u32::from_ne_bytes(value(TCA_TBF_PARMS)?.get(8..12)?.try_into().ok()?)));
    long.or_else(short)?.checked_mul(8)
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

    /// Priority of the filter that leads there: after the filter by source (1), of every protocol (`ETH_P_ALL`). Two of
    /// u32 at one interface and priority are one to the kernel, whichever way they look.
    fn leads(&self) -> u32 {
        let priority = match self.direction {
            Direction::In => 3,
            Direction::Out => 2,
        };
        priority << 16 | u32::from(0x0003_u16.to_be())
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
        if host.bucket(device.index)?.map(|(rate, _)| rate) != Some(self.rate) {
            let mut bucket = message(device.index);
            (bucket.header.parent, bucket.header.handle) = (TcHandle::ROOT, BUCKET);
            bucket.attributes =
                vec![TcAttribute::Kind("tbf".into()), TcAttribute::Options(token_bucket(self.rate))];
            let bucket = Message::NewQueueDiscipline(bucket);
            changed +=
                host.run(vec![Request::new("set the rate of", format!("device {name}"), bucket).replace()])?;
        }
        if !device.up {
            let up = Request::link_flags(device.index, &name, LinkFlags::Up, LinkFlags::empty());
            changed += host.run(vec![up])?;
        }
        for link in links {
            if host.led_to(link.index, self.at())? != Some(device.index) {
                changed += host.run(self.lead(link, device.index))?;
            }
        }
        Ok(changed)
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
        (filter.header.parent, filter.header.info) = (self.at(), self.leads());
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
        (filter.header.parent, filter.header.info) = (self.at(), self.leads());
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

    /// The rate that there is, and the names of the interfaces whose packets go past it.
    pub fn see(&self, host: &mut Netlink, links: &[Link]) -> SysResult<Option<(u64, Vec<String>)>> {
        let Some(device) = self.device(host)? else { return Ok(None) };
        let Some((rate, _)) = host.bucket(device.index)? else { return Ok(None) };
        let mut past = Vec::new();
        for link in links {
            if host.led_to(link.index, self.at())? != Some(device.index) {
                past.push(link.name.clone());
            }
        }
        if !device.up {
            past = links.iter().map(|link| link.name.clone()).collect();
        }
        Ok(Some((rate, past)))
    }
}

/// What a token bucket has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Bytes that went through.
    pub bytes: u64,
    /// Packets that went through.
    pub packets: u32,
    /// Packets dropped, as too many waited.
    pub dropped: u32,
    /// How often one had to wait.
    pub waited: u32,
}

impl Netlink {
    /// The rate of a device's token bucket, and what that has done.
    pub fn bucket(&mut self, device: u32) -> SysResult<Option<(u64, Counts)>> {
        let all = self.dump("queues", &Message::GetQueueDiscipline(message(device)))?;
        let read = |message: &Message| {
            let Message::NewQueueDiscipline(TcMessage { header, attributes, .. }) = message else {
                return None;
            };
            if header.index != device.cast_signed() || header.parent != TcHandle::ROOT {
                return None;
            }
            let (mut rate, mut counts, mut tbf) = (None, Counts::default(), false);
            for attribute in attributes {
                match attribute {
                    TcAttribute::Kind(kind) => tbf = kind == "tbf",
                    TcAttribute::Options(options) => rate = rate_of(options),
                    TcAttribute::Stats(is) => {
                        counts = Counts {
                            bytes: is.bytes,
                            packets: is.packets,
                            dropped: is.drops,
                            waited: is.overlimits,
                        };
                    }
                    _ => {}
                }
            }
            tbf.then_some((rate?, counts))
        };
        Ok(all.iter().find_map(read))
    }

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
    (bucket.header.parent, bucket.header.handle) = (TcHandle::ROOT, BUCKET);
    bucket.attributes = vec![TcAttribute::Kind("tbf".into())];
    let bucket = Message::NewQueueDiscipline(bucket);
    let bucket = Request::new("make", "token buckets (modprobe sch_tbf)", bucket).make();
    // `ifb_validate` refuses the address, `tbf_init` that there are no options.
    for (request, known) in [(device, libc::EADDRNOTAVAIL), (bucket, libc::EINVAL)] {
        match net.run(vec![request]) {
            Err(e) if e.errno == known => {}
            other => other.map(drop)?,
        }
    }
    Ok(())
}
