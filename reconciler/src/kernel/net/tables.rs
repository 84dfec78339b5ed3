//! Which tables of nftables there are in the network namespace of the calling thread, without running `nft` for it.
//!
//! What is in them is not looked at. Follows include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h.

use std::convert::Infallible;
use std::io::Error;

use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator, parse_string,
};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

use super::BUFFER;
use crate::error::{At, SysError, SysResult};

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE`.
const GET_TABLE: u16 = 10 << 8 | 1;
/// `NFTA_TABLE_NAME`.
const NAME: u16 = 1;
/// `struct nfgenmsg`: a family, and what is 0 here.
const HEADER: usize = 4;
/// `NFPROTO_*` by the words of `nft`.
const FAMILIES: [(u8, &str); 6] =
    [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];

/// A question for all tables, or an answer with one: its family and name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Table(u8, String);

impl NetlinkSerializable for Table {
    fn message_type(&self) -> u16 {
        GET_TABLE
    }

    fn buffer_len(&self) -> usize {
        HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

impl NetlinkDeserializable for Table {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        let attributes = NlasIterator::new(payload.get(HEADER..).unwrap_or_default());
        let name = attributes.flatten().find(|attribute| attribute.kind() == NAME);
        let name = name.and_then(|name| parse_string(name.value()).ok());
        Ok(Table(payload.first().copied().unwrap_or_default(), name.unwrap_or_default()))
    }
}

/// The first table that `is_wanted`, as `nft` names it: `inet filter`. None where the kernel has no nftables.
pub(super) fn find_table(is_wanted: impl Fn(&str) -> bool) -> SysResult<Option<String>> {
    /// A dump in whose middle something changed is begun anew.
    const TRIES: usize = 50;
    let object = "tables of nftables";
    for _ in 0..TRIES {
        match dump(&is_wanted) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            // There is no such family of sockets, or nobody behind it.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EINVAL)) => {
                return Ok(None);
            }
            other => return other.at("list", object),
        }
    }
    Err(SysError::new("list", object, libc::EINTR))
}

fn dump(is_wanted: &impl Fn(&str) -> bool) -> std::io::Result<Option<String>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut question =
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(Table::default()));
    question.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (mut answer, mut found) = (Vec::with_capacity(BUFFER), None);
    loop {
        answer.clear();
        let got = socket.recv(&mut answer, 0)?;
        let mut at = 0;
        while at < got {
            let message = NetlinkMessage::<Table>::deserialize(&answer[at..got]).map_err(Error::other)?;
            if message.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(Error::from_raw_os_error(libc::EINTR));
            }
            match message.payload {
                NetlinkPayload::InnerMessage(Table(family, name)) => {
                    let family = FAMILIES.iter().find(|(number, _)| *number == family);
                    let table = format!("{} {name}", family.map_or("?", |(_, word)| word));
                    found = found.or_else(|| Some(table).filter(|table| is_wanted(table)));
                }
                NetlinkPayload::Error(error) => {
                    let errno = error.code.map_or(0, |code| -code.get());
                    return Err(Error::from_raw_os_error(errno));
                }
                NetlinkPayload::Done(_) => return Ok(found),
                _ => {}
            }
            match message.header.length as usize {
                0 => break,
                length => at += length.next_multiple_of(4),
            }
        }
    }
}
