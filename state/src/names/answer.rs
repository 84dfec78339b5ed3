//! What a message of DNS asks, and what is to become of it: an answer from the table, a question to somebody else, or
//! nothing.
//!
//! Messages come from VEs whose root writes what he likes: nothing of one is believed, and no answer is longer than it
//! has to be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::AnswerBuilder;
use domain::base::{Message, MessageBuilder, Name, StaticCompressor, Ttl};
use domain::rdata::{A, Aaaa, Ptr};

use super::Names;

/// Answers are good for so long: a VE may have another address at any time.
const TTL: Ttl = Ttl::from_secs(5);
/// What travels anywhere as one datagram, as is agreed on for DNS.
const DATAGRAM: u16 = 1232;
/// What those may be told who do not say how much they take.
const PLAIN: u16 = 512;
/// No question is longer.
pub const LARGEST_QUERY: usize = 4096;
/// The record that says how much the asker takes.
const OPT: usize = 11;

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// In one datagram.
    Datagram,
    /// In a stream of messages.
    Stream,
}

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is no question.
    Ignore,
    /// This is the answer.
    Answer(Vec<u8>),
    /// It is about the rest of the world.
    Forward,
}

type Answer = AnswerBuilder<StaticCompressor<Vec<u8>>>;

/// How much of an answer there is room for.
fn room_for(query: &Message<&[u8]>, room: Room) -> usize {
    let taken = || query.opt().map_or(PLAIN, |opt| opt.udp_payload_size().clamp(PLAIN, DATAGRAM));
    match room {
        Room::Datagram => usize::from(taken()),
        Room::Stream => usize::from(u16::MAX),
    }
}

fn begin(query: &Message<&[u8]>, rcode: Rcode, room: Room) -> Answer {
    // A vector takes whatever is pushed.
    let Ok(mut builder) = MessageBuilder::from_target(StaticCompressor::new(Vec::new()));
    builder.set_push_limit(room_for(query, room).saturating_sub(OPT));
    let mut answer = match query.sole_question() {
        Ok(_) => builder.start_error(query, rcode),
        Err(_) => {
            let header = builder.header_mut();
            header.set_id(query.header().id());
            header.set_opcode(query.header().opcode());
            header.set_qr(true);
            header.set_rcode(rcode);
            builder.answer()
        }
    };
    answer.header_mut().set_ra(true);
    answer
}

fn finish(query: &Message<&[u8]>, answer: Answer) -> Vec<u8> {
    let mut additional = answer.additional();
    additional.clear_push_limit();
    if query.opt().is_some() {
        // There is room: it was set aside.
        let _ = additional.opt(|opt| {
            opt.set_udp_payload_size(DATAGRAM);
            Ok(())
        });
    }
    additional.finish().into_target()
}

/// An answer that says no more than why there is none; none where the message is none that is answered.
pub fn refusal(query: &[u8], rcode: Rcode) -> Option<Vec<u8>> {
    let message = Message::from_octets(query).ok().filter(|message| !message.header().qr())?;
    Some(finish(&message, begin(&message, rcode, Room::Datagram)))
}

/// An address that a name asks about (`1.0.9.10.in-addr.arpa`).
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(v4) = name.strip_suffix(".in-addr.arpa") {
        let forward: Vec<&str> = v4.rsplit('.').collect();
        return Ipv4Addr::from_str(&forward.join(".")).ok().map(IpAddr::V4);
    }
    let v6 = name.strip_suffix(".ip6.arpa")?;
    let digits: Vec<u128> = v6
        .rsplit('.')
        .map(|digit| u128::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1))
        .collect::<Option<_>>()?;
    let number = digits.iter().fold(0, |number, digit| number << 4 | digit);
    (digits.len() == 32).then(|| IpAddr::V6(Ipv6Addr::from_bits(number)))
}

/// Tells what is to become of a message.
pub fn judge(query: &[u8], room: Room, names: &Names) -> Verdict {
    let Ok(message) = Message::from_octets(query) else { return Verdict::Ignore };
    let header = message.header();
    // Two that answer each other's answers never end.
    if header.qr() {
        return Verdict::Ignore;
    }
    let plain = |rcode| Verdict::Answer(finish(&message, begin(&message, rcode, room)));
    if header.opcode() != Opcode::QUERY {
        return plain(Rcode::NOTIMP);
    }
    let counts = message.header_counts();
    let Ok(question) = message.sole_question() else { return plain(Rcode::FORMERR) };
    if counts.ancount() > 0 || counts.nscount() > 0 {
        return plain(Rcode::FORMERR);
    }
    let (qtype, name) = (question.qtype(), question.qname().to_string().to_ascii_lowercase());
    if question.qclass() != Class::IN || matches!(qtype, Rtype::AXFR | Rtype::IXFR) {
        return plain(Rcode::REFUSED);
    }
    let about = question.qname();
    let mut answer = begin(&message, Rcode::NOERROR, room);
    answer.header_mut().set_aa(true);
    let pushed = if let Some(addresses) = names.addresses(&name) {
        let asked = |address: &&IpAddr| match qtype {
            Rtype::A => address.is_ipv4(),
            Rtype::AAAA => address.is_ipv6(),
            Rtype::ANY => true,
            _ => false,
        };
        addresses.iter().filter(asked).try_for_each(|address| match address {
            IpAddr::V4(v4) => answer.push((about, Class::IN, TTL, A::new(*v4))),
            IpAddr::V6(v6) => answer.push((about, Class::IN, TTL, Aaaa::new(*v6))),
        })
    } else if let Some(target) = reversed(&name).and_then(|address| names.name_at(address)) {
        match Name::<Vec<u8>>::from_str(target) {
            Ok(target) if matches!(qtype, Rtype::PTR | Rtype::ANY) => {
                answer.push((about, Class::IN, TTL, Ptr::new(target)))
            }
            _ => Ok(()),
        }
    } else if matches!(qtype, Rtype::A | Rtype::AAAA) && !name.contains('.') && !name.is_empty() {
        // A plain name that is no VE's is none that the rest of the world knows.
        return plain(Rcode::NXDOMAIN);
    } else {
        return Verdict::Forward;
    };
    let answer = if pushed.is_ok() { answer } else { answer.tc_rewind_into() };
    Verdict::Answer(finish(&message, answer))
}

/// A question under another number.
pub fn with_id(query: &[u8], id: u16) -> Vec<u8> {
    let mut query = query.to_vec();
    if let Some(place) = query.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    query
}

/// Whether a message answers a question that was asked.
pub fn answers(reply: &[u8], asked: &[u8]) -> bool {
    match (Message::from_octets(reply), Message::from_octets(asked)) {
        (Ok(reply), Ok(asked)) => reply.is_answer(&asked),
        _ => false,
    }
}

/// Somebody else's answer as whoever asked takes it: under the number of the question and no longer than there is room for.
pub fn fitted(query: &[u8], reply: &[u8], room: Room) -> Option<Vec<u8>> {
    let message = Message::from_octets(query).ok()?;
    let reply = with_id(reply, message.header().id());
    if reply.len() <= room_for(&message, room) {
        return Some(reply);
    }
    let mut answer = begin(&message, Rcode::NOERROR, room);
    answer.header_mut().set_tc(true);
    Some(finish(&message, answer))
}

#[cfg(test)]
mod tests;
