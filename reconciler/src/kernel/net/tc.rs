//! Traffic control: the place on an interface where its packets are looked at as they come in.

use std::os::fd::{AsRawFd, OwnedFd};

use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::{Netlink, Request};
use crate::error::SysResult;

/// What comes in over an interface.
pub(super) const INCOMING: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };

/// What goes out over an interface.
pub(super) const OUTGOING: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_EGRESS };

/// The first filter.
const EVERYTHING: u32 = every_packet(1);

/// A filter's priority, and that it is for every protocol (`ETH_P_ALL`).
pub(super) const fn every_packet(priority: u16) -> u32 {
    (priority as u32) << 16 | (0x0003_u16.to_be() as u32)
}

pub(super) fn message(link: u32) -> TcMessage {
    TcMessage::with_index(link.cast_signed())
}

/// The place where filters of both directions are, if it is not there.
pub(super) fn clsact(link: u32, name: &str) -> Request {
    let mut place = message(link);
    (place.header.parent, place.header.handle) = (TcHandle::CLSACT, TcHandle { major: u16::MAX, minor: 0 });
    place.attributes.push(TcAttribute::Kind("clsact".into()));
    let object = format!("interface {name}");
    Request::new("look at packets of", object, Message::NewQueueDiscipline(place)).make().unless_there()
}

/// Has a program look at each packet that comes in, in place of another.
pub(super) fn look_at_incoming(link: u32, name: &str, program: &OwnedFd) -> [Request; 2] {
    let mut filter = message(link);
    (filter.header.parent, filter.header.info) = (INCOMING, EVERYTHING);
    filter.header.handle = TcHandle { major: 0, minor: 1 };
    filter.attributes = vec![
        TcAttribute::Kind("bpf".into()),
        TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned())),
            TcOption::Bpf(TcFilterBpfOption::ProgName("vzd_venet".into())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]),
    ];
    let object = format!("interface {name}");
    [
        clsact(link, name),
        Request::new("filter packets of", object, Message::NewTrafficFilter(filter)).replace(),
    ]
}

/// Has nothing look at what comes in any more.
pub(super) fn look_no_more(link: u32, name: &str) -> Request {
    let mut filter = message(link);
    (filter.header.parent, filter.header.info) = (INCOMING, EVERYTHING);
    let object = format!("interface {name}");
    Request::new("no longer filter packets of", object, Message::DelTrafficFilter(filter)).unless_none()
}

impl Netlink {
    /// The id of the program that looks at what comes in, if there is one.
    pub fn incoming_program(&mut self, link: u32) -> SysResult<Option<u32>> {
        let found = self.filters(link, INCOMING)?;
        let id = |filter: &TcMessage| {
            let options = filter.attributes.iter().find_map(|attribute| match attribute {
                TcAttribute::Options(options) => Some(options),
                _ => None,
            })?;
            options.iter().find_map(|option| match option {
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
                _ => None,
            })
        };
        Ok(found.iter().find_map(id))
    }

    /// The filters at a place of an interface.
    pub(super) fn filters(&mut self, link: u32, at: TcHandle) -> SysResult<Vec<TcMessage>> {
        let mut filters = message(link);
        filters.header.parent = at;
        let found = match self.dump("filters", &Message::GetTrafficFilter(filters)) {
            // Nothing was ever put there.
            Err(e) if matches!(e.errno, libc::EINVAL | libc::ENOENT) => return Ok(Vec::new()),
            other => other?,
        };
        let filter =
            |message| if let Message::NewTrafficFilter(filter) = message { Some(filter) } else { None };
        Ok(found.into_iter().filter_map(filter).collect())
    }
}
