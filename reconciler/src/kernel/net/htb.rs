//! Hierarchical token buckets (HTB) on a device: how rtnetlink says and shows them, for which it has no types.
//!
//! One class is the whole; below it are the rest and a class a link with a limit of its own, each with a queue that
//! holds back what is too much. A packet belongs to the class of the interface that it was taken from.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rtnetlink::packet_core::{DefaultNla, Nla as _, NlaBuffer, NlasIterator};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcOption, TcU32Key, TcU32Selector,
    TcU32SelectorFlags,
};
use serde::{Deserialize, Serialize};

use super::tc::{every_packet, message};
use super::{Netlink, Request};
use crate::error::SysResult;

/// The kind's name.
pub(super) const KIND: &str = "htb";

/// The buckets themselves. Not 1, which was the number of another kind in earlier versions.
pub(super) const ROOT: TcHandle = TcHandle { major: 2, minor: 0 };

/// Minor numbers of the classes: the whole, what has no limit of its own, and the first that has.
pub(super) const WHOLE: u16 = 1;
pub(super) const REST: u16 = 2;
pub(super) const FIRST_LINK: u16 = 16;

/// The queue of a class. Of a kind that is replaced by another the number has to be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// A queue for each stream, none of which waits for another's, and none of which grows long. Where the kernel has it.
    Fair,
    /// One that holds bytes, and is part of every kernel that has queues.
    Plain,
}

const TCA_OPTIONS: u16 = 2;
const TCA_FQ_CODEL_FLOWS: u16 = 5;
const TCA_FQ_CODEL_MEMORY_LIMIT: u16 = 9;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;

/// The largest packet that there can be, of many that travel as one.
const LARGEST: u32 = 72 * 1024;

/// Bytes a second of a class without a limit: more than any device makes.
const UNLIMITED: u64 = 1 << 40;

/// A class as it is.
#[derive(Debug)]
pub(super) struct Class {
    /// Bits a second, if it is limited.
    pub(super) rate: Option<u64>,
    /// What it has done.
    pub(super) counts: Counts,
    /// It has the queue that it is to have.
    pub(super) queue: bool,
}

/// What has gone through a limit.
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

/// Bytes that may go at once: the largest packet, or what the rate makes in 10 ms.
fn burst(bytes: u64) -> u32 {
    u32::try_from((bytes / 100).max(LARGEST.into())).unwrap_or(u32::MAX)
}

/// Bytes that may wait: what the rate makes in 50 ms, besides.
fn room(bytes: u64) -> u32 {
    u32::try_from(bytes / 20).unwrap_or(u32::MAX).saturating_add(burst(bytes))
}

impl Queue {
    /// The best that this kernel has. It is asked once, in a way that changes nothing: it finds fault with there being no
    /// stream, or does not know the kind.
    fn best(net: &mut Netlink) -> Self {
        static BEST: OnceLock<Queue> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut queue = message(super::LOOPBACK_INDEX);
            (queue.header.parent, queue.header.handle) = (TcHandle::ROOT, ROOT);
            let none = TcOption::Other(DefaultNla::new(TCA_FQ_CODEL_FLOWS, 0_u32.to_ne_bytes().into()));
            queue.attributes =
                vec![TcAttribute::Kind(Self::Fair.kind().into()), TcAttribute::Options(vec![none])];
            let queue = Message::NewQueueDiscipline(queue);
            match net.run(vec![Request::new("make", "queues for each stream", queue).make()]) {
                Err(e) if e.errno == libc::EINVAL => Self::Fair,
                _ => Self::Plain,
            }
        })
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Fair => "fq_codel",
            Self::Plain => "bfifo",
        }
    }

    /// That of a class of so many bytes a second.
    fn of(self, device: u32, minor: u16, bytes: u64) -> TcMessage {
        let (base, options) = match self {
            Self::Fair => {
                // What it holds is counted with all that the kernel keeps beside it.
                let most = room(bytes).max(1 << 20).to_ne_bytes();
                let most = TcOption::Other(DefaultNla::new(TCA_FQ_CODEL_MEMORY_LIMIT, most.into()));
                (0x200, TcAttribute::Options(vec![most]))
            }
            // `struct tc_fifo_qopt`, which is no list of attributes.
            Self::Plain => {
                (0x100, TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, room(bytes).to_ne_bytes().into())))
            }
        };
        let mut queue = message(device);
        (queue.header.parent, queue.header.handle) =
            (class(minor), TcHandle { major: base + minor, minor: 0 });
        queue.attributes = vec![TcAttribute::Kind(self.kind().into()), options];
        queue
    }
}

/// The time that bytes take, in the kernel's ticks of 64 ns.
fn ticks(bytes: u32, rate: u64) -> u32 {
    const TICKS: u64 = 1_000_000_000 / 64;
    u32::try_from(u64::from(bytes).saturating_mul(TICKS) / rate.max(1)).unwrap_or(u32::MAX)
}

/// `struct tc_ratespec` (linux/pkt_sched.h).
fn spec(rate: u64) -> Vec<u8> {
    /// `TC_LINKLAYER_ETHERNET`: no table of times is needed.
    const ETHERNET: u8 = 1;
    let mut spec = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    spec.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    spec
}

/// A class that is given `rate` bytes a second, and as much of its parent's as makes `ceil`.
fn options(rate: u64, ceil: u64) -> Vec<TcOption> {
    // `struct tc_htb_opt`
    let mut parameters = spec(rate);
    parameters.extend(spec(ceil));
    for value in [ticks(burst(rate), rate), ticks(burst(ceil), ceil), LARGEST, 0, 0] {
        parameters.extend(value.to_ne_bytes());
    }
    let mut options = vec![TcOption::Other(DefaultNla::new(TCA_HTB_PARMS, parameters))];
    for (kind, value) in [(TCA_HTB_RATE64, rate), (TCA_HTB_CEIL64, ceil)] {
        if value > u64::from(u32::MAX) {
            options.push(TcOption::Other(DefaultNla::new(kind, value.to_ne_bytes().into())));
        }
    }
    options
}

/// The bits a second that a class may have at most; none where that is all. The options of a kind that rtnetlink doesn't
/// know come as one, unparsed.
fn rate_of(options: &[TcOption]) -> Option<u64> {
    let [TcOption::Other(all)] = options else { return None };
    let mut bytes = vec![0; all.value_len()];
    all.emit_value(&mut bytes);
    let value = |kind: u16| {
        let is = |nla: &NlaBuffer<&[u8]>| nla.kind() == kind;
        NlasIterator::new(bytes.as_slice()).filter_map(Result::ok).find(is).map(|nla| nla.value().to_vec())
    };
    let long = value(TCA_HTB_CEIL64).and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
    let short = || Some(u64::from(u32::from_ne_bytes(value(TCA_HTB_PARMS)?.get(20..24)?.try_into().ok()?)));
    long.or_else(short).filter(|bytes| *bytes < UNLIMITED)?.checked_mul(8)
}

fn class(minor: u16) -> TcHandle {
    TcHandle { minor, ..ROOT }
}

/// Puts buckets on a device, in the place of whatever queue it has.
pub(super) fn make(device: u32, name: &str) -> Request {
    let mut queue = message(device);
    (queue.header.parent, queue.header.handle) = (TcHandle::ROOT, ROOT);
    // `struct tc_htb_glob`: version, rate2quantum, defcls, debug, direct_pkts
    let glob: Vec<u8> = [3, 10, u32::from(REST), 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let options = vec![TcOption::Other(DefaultNla::new(TCA_HTB_INIT, glob))];
    queue.attributes = vec![TcAttribute::Kind(KIND.into()), TcAttribute::Options(options)];
    Request::new("shape packets of", format!("device {name}"), Message::NewQueueDiscipline(queue)).replace()
}

/// Makes the class of the whole, or gives it another rate.
pub(super) fn set_whole(device: u32, name: &str, rate: Option<u64>) -> Request {
    let bytes = rate.map_or(UNLIMITED, |bits| bits / 8);
    set(device, name, (ROOT, WHOLE), options(bytes, bytes))
}

/// Makes a class below the whole with its queue, or gives it another rate. `whole` is the whole's.
pub(super) fn set_leaf(
    net: &mut Netlink,
    device: u32,
    name: &str,
    minor: u16,
    rate: Option<u64>,
    whole: Option<u64>,
) -> [Request; 2] {
    let bytes = |bits: Option<u64>| bits.map_or(UNLIMITED, |bits| bits / 8);
    let least = bytes(rate).min(bytes(whole));
    // A class always has its own share, whatever the whole has left: so that is next to nothing.
    let share = (least / 1000).max(1);
    let leaf = set(device, name, (class(WHOLE), minor), options(share, bytes(rate)));
    let queue = Message::NewQueueDiscipline(Queue::best(net).of(device, minor, least));
    [leaf, Request::new("make a queue of", format!("device {name}"), queue).replace()]
}

fn set(device: u32, name: &str, (parent, minor): (TcHandle, u16), options: Vec<TcOption>) -> Request {
    let mut message = message(device);
    (message.header.parent, message.header.handle) = (parent, class(minor));
    message.attributes = vec![TcAttribute::Kind(KIND.into()), TcAttribute::Options(options)];
    let message = Message::NewTrafficClass(message);
    Request::new("set a rate of", format!("device {name}"), message).replace()
}

/// Takes a class away that no packet belongs to any more.
pub(super) fn remove_class(device: u32, name: &str, minor: u16) -> Request {
    let mut message = message(device);
    (message.header.parent, message.header.handle) = (ROOT, class(minor));
    let message = Message::DelTrafficClass(message);
    Request::new("remove a rate of", format!("device {name}"), message).unless_none()
}

/// Has the packets that were taken from an interface belong to a class.
pub(super) fn classify(device: u32, name: &str, minor: u16, link: &str) -> Request {
    let mut every = TcU32Selector::default();
    (every.flags, every.nkeys, every.keys) = (TcU32SelectorFlags::Terminal, 1, vec![TcU32Key::default()]);
    let mut filter = message(device);
    (filter.header.parent, filter.header.info) = (ROOT, every_packet(minor));
    filter.attributes = vec![
        TcAttribute::Kind(TcFilterU32::KIND.into()),
        TcAttribute::Options(vec![
            TcOption::U32(TcFilterU32Option::ClassId(class(minor))),
            TcOption::U32(TcFilterU32Option::Indev([link.as_bytes(), &[0]].concat())),
            TcOption::U32(TcFilterU32Option::Selector(every)),
        ]),
    ];
    let object = format!("interface {link} by device {name}");
    Request::new("shape packets of", object, Message::NewTrafficFilter(filter)).make()
}

/// Has none belong to it any more.
pub(super) fn classify_no_more(device: u32, name: &str, minor: u16) -> Request {
    let mut filter = message(device);
    (filter.header.parent, filter.header.info) = (ROOT, every_packet(minor));
    let object = format!("device {name}");
    Request::new("no longer shape packets by", object, Message::DelTrafficFilter(filter)).unless_none()
}

/// Buckets as they are.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// What all of them have done.
    pub(super) counts: Counts,
    /// The classes by their minor numbers.
    pub(super) classes: BTreeMap<u16, Class>,
    /// Classes of interfaces, by the interfaces' names.
    pub(super) links: BTreeMap<String, u16>,
    /// Classes of interfaces that are gone.
    pub(super) gone: Vec<u16>,
}

impl Netlink {
    /// The buckets on a device, if it has any.
    pub(super) fn buckets(&mut self, device: u32) -> SysResult<Option<Buckets>> {
        let best = Queue::best(self);
        let queues = self.dump("queues", &Message::GetQueueDiscipline(message(device)))?;
        let queues: Vec<&TcMessage> = queues
            .iter()
            .filter_map(|message| match message {
                Message::NewQueueDiscipline(queue) if queue.header.index == device.cast_signed() => {
                    Some(queue)
                }
                _ => None,
            })
            .collect();
        let is_root =
            |queue: &&&TcMessage| queue.header.parent == TcHandle::ROOT && queue.header.handle == ROOT;
        let Some(root) = queues.iter().find(is_root).filter(|root| kind(root) == KIND) else {
            return Ok(None);
        };
        let mut found = Buckets { counts: counts(root), ..Buckets::default() };
        let mut classes = message(device);
        classes.header.parent = TcHandle::UNSPEC;
        for answer in self.dump("rates", &Message::GetTrafficClass(classes))? {
            let Message::NewTrafficClass(is) = answer else { continue };
            let at = is.header.handle;
            if is.header.index != device.cast_signed() || at.major != ROOT.major {
                continue;
            }
            let options = is.attributes.iter().find_map(|attribute| match attribute {
                TcAttribute::Options(options) => Some(options),
                _ => None,
            });
            let queue = queues.iter().any(|queue| queue.header.parent == at && kind(queue) == best.kind());
            let rate = options.and_then(|options| rate_of(options));
            found.classes.insert(at.minor, Class { rate, counts: counts(&is), queue });
        }
        for filter in self.filters(device, ROOT)? {
            let (mut to, mut from) = (None, None);
            for attribute in &filter.attributes {
                let TcAttribute::Options(options) = attribute else { continue };
                for option in options {
                    match option {
                        TcOption::U32(TcFilterU32Option::ClassId(class)) => to = Some(class.minor),
                        TcOption::U32(TcFilterU32Option::Indev(name)) => from = Some(name.clone()),
                        _ => {}
                    }
                }
            }
            let Some(minor) = to else { continue };
            let name = from.map(|name| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned());
            match name {
                Some(name) => drop(found.links.insert(name, minor)),
                None => found.gone.push(minor),
            }
        }
        Ok(Some(found))
    }
}

fn kind(message: &TcMessage) -> &str {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.unwrap_or_default()
}

fn counts(message: &TcMessage) -> Counts {
    let stats = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Stats(is) => Some(is),
        _ => None,
    });
    stats.map_or_else(Counts::default, |is| Counts {
        bytes: is.bytes,
        packets: is.packets,
        dropped: is.drops,
        waited: is.overlimits,
    })
}
