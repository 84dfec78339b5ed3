use std::collections::BTreeSet;
use std::fmt::Write;

use domain::rdata::AllRecordData;
use proptest::prelude::*;

use super::*;
use crate::names::Named;

fn named(ctid: u32, name: &str, more: &[&str], addresses: &[&str]) -> Named {
    let addresses: BTreeSet<IpAddr> = addresses.iter().map(|one| one.parse().unwrap()).collect();
    let more = more.iter().map(|name| (*name).to_owned()).collect();
    Named { ctid, name: name.to_owned(), more, routed: addresses.clone(), addresses }
}

fn uid(n: u8) -> crate::ids::VeUid {
    format!("{n:032x}").parse().unwrap()
}

fn table() -> Names {
    let mut names = Names::default();
    let web = ["www", "www.example.com", "both"];
    names.set(&uid(1), Some(named(101, "web", &web, &["10.1.0.5", "10.1.0.6", "fd00:1::5"])));
    names.set(&uid(2), Some(named(102, "db", &["web", "both"], &["10.1.0.7"])));
    names
}

fn query(name: &str, qtype: Rtype, takes: Option<u16>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::<Vec<u8>>::from_str(name).unwrap(), qtype)).unwrap();
    let mut additional = question.additional();
    if let Some(takes) = takes {
        additional
            .opt(|opt| {
                opt.set_udp_payload_size(takes);
                Ok(())
            })
            .unwrap();
    }
    additional.finish()
}

/// `NOERROR aa 10.1.0.5 ...`
fn tell(verdict: Verdict) -> String {
    let bytes = match verdict {
        Verdict::Ignore => return "ignore".to_owned(),
        Verdict::Forward => return "forward".to_owned(),
        Verdict::Answer(bytes) => bytes,
    };
    let message = Message::from_octets(bytes.as_slice()).unwrap();
    let header = message.header();
    assert!(header.qr() && header.ra());
    let mut told = header.rcode().to_string();
    for (word, so) in [("aa", header.aa()), ("tc", header.tc()), ("opt", message.opt().is_some())] {
        told += &if so { format!(" {word}") } else { String::new() };
    }
    for record in message.answer().unwrap().limit_to::<AllRecordData<_, _>>() {
        write!(told, " {}", record.unwrap().data()).unwrap();
    }
    told
}

fn ask(names: &Names, name: &str, qtype: Rtype) -> String {
    tell(judge(&query(name, qtype, None), Room::Datagram, names))
}

#[test]
fn names_lead_to_addresses_and_back() {
    let names = table();
    let cases = [
        ("web", Rtype::A, "NOERROR aa 10.1.0.5 10.1.0.6"),
        ("WEB.", Rtype::AAAA, "NOERROR aa fd00:1::5"),
        ("web", Rtype::ANY, "NOERROR aa 10.1.0.5 10.1.0.6 fd00:1::5"),
        ("web", Rtype::MX, "NOERROR aa"),
        ("www.Example.com", Rtype::A, "NOERROR aa 10.1.0.5 10.1.0.6"),
        ("www", Rtype::A, "NOERROR aa 10.1.0.5 10.1.0.6"),
        ("db", Rtype::A, "NOERROR aa 10.1.0.7"),
        ("db", Rtype::AAAA, "NOERROR aa"),
        // Two VEs say that they are called so.
        ("both", Rtype::A, "NXDOMAIN"),
        ("nobody", Rtype::A, "NXDOMAIN"),
        ("com", Rtype::DS, "forward"),
        ("example.com", Rtype::A, "forward"),
        ("web.example.com", Rtype::A, "forward"),
        (".", Rtype::NS, "forward"),
        (".", Rtype::A, "forward"),
        ("6.0.1.10.in-addr.arpa", Rtype::PTR, "NOERROR aa www.example.com."),
        ("7.0.1.10.in-addr.arpa", Rtype::PTR, "NOERROR aa db."),
        ("7.0.1.10.in-addr.arpa", Rtype::A, "NOERROR aa"),
        ("8.0.1.10.in-addr.arpa", Rtype::PTR, "forward"),
        ("0.1.10.in-addr.arpa", Rtype::PTR, "forward"),
        (
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
            Rtype::PTR,
            "NOERROR aa www.example.com.",
        ),
        ("web", Rtype::AXFR, "REFUSED"),
    ];
    for (name, qtype, told) in cases {
        assert_eq!(ask(&names, name, qtype), told, "{name} {qtype}");
    }
}

#[test]
fn the_table_follows_what_is_set() {
    let mut names = table();
    assert_eq!(names.asker("10.1.0.7".parse().unwrap()), Some(102));
    names.set(&uid(2), Some(named(102, "db", &["both"], &["10.1.0.8"])));
    assert_eq!(ask(&names, "db", Rtype::A), "NOERROR aa 10.1.0.8");
    assert_eq!(names.asker("10.1.0.7".parse().unwrap()), None);
    // An address that another VE has by now stays the other's.
    names.set(&uid(3), Some(named(103, "new", &[], &["10.1.0.8"])));
    names.set(&uid(2), None);
    assert_eq!(names.asker("10.1.0.8".parse().unwrap()), Some(103));
    assert_eq!(
        (ask(&names, "db", Rtype::A), ask(&names, "both", Rtype::A)),
        ("NXDOMAIN".into(), "NOERROR aa 10.1.0.5 10.1.0.6".into())
    );
    names.set(&uid(1), None);
    names.set(&uid(3), None);
    assert!(names.is_empty() && names.by_name.is_empty() && names.by_address.is_empty());
}

#[test]
fn an_answer_is_as_long_as_the_asker_takes() {
    let mut names = Names::default();
    let addresses: Vec<String> = (0..100).map(|n| format!("10.1.0.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    names.set(&uid(1), Some(named(101, "web", &[], &addresses)));
    for (takes, most) in [(None, 512), (Some(100), 512), (Some(1400), 1232), (Some(65535), 1232)] {
        let asked = query("web", Rtype::A, takes);
        let Verdict::Answer(answer) = judge(&asked, Room::Datagram, &names) else { panic!("no answer") };
        assert!(answer.len() <= most);
        assert_eq!(
            tell(Verdict::Answer(answer)),
            if takes.is_some() { "NOERROR aa tc opt" } else { "NOERROR aa tc" }
        );
    }
    let told = tell(judge(&query("web", Rtype::A, None), Room::Stream, &names));
    assert_eq!(told.split(' ').count(), 102);
}

#[test]
fn what_is_no_question_is_not_answered() {
    let names = table();
    let asked = query("web", Rtype::A, Some(1232));
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = asked.clone();
        change(&mut bytes);
        tell(judge(&bytes, Room::Datagram, &names))
    };
    assert_eq!(with(|_| ()), "NOERROR aa opt 10.1.0.5 10.1.0.6");
    assert_eq!(with(|bytes| bytes.truncate(11)), "ignore");
    assert_eq!(with(|bytes| bytes[2] |= 0x80), "ignore");
    assert_eq!(with(|bytes| bytes[2] |= 0x28), "NOTIMP opt");
    assert_eq!(with(|bytes| bytes[5] = 0), "FORMERR");
    assert_eq!(with(|bytes| bytes[5] = 2), "FORMERR");
    assert_eq!(with(|bytes| bytes[7] = 1), "FORMERR");
    assert_eq!(with(|bytes| bytes.truncate(14)), "FORMERR");
    // A name that leads to itself.
    assert_eq!(with(|bytes| bytes[12..14].copy_from_slice(&[0xc0, 12])), "FORMERR");
}

#[test]
fn anothers_answer_is_the_one_to_the_question() {
    let asked = query("example.com", Rtype::A, None);
    let sent = with_id(&asked, 7);
    let mut reply = refusal(&sent, Rcode::NXDOMAIN).unwrap();
    assert!(answers(&reply, &sent) && !answers(&reply, &asked) && !answers(&sent, &sent));
    assert!(!answers(&reply, &with_id(&query("example.org", Rtype::A, None), 7)));
    assert_eq!(fitted(&asked, &reply, Room::Datagram).unwrap()[..2], asked[..2]);
    reply.resize(600, 0);
    let cut = fitted(&asked, &reply, Room::Datagram).unwrap();
    assert_eq!(tell(Verdict::Answer(cut)), "NOERROR tc");
    assert_eq!(fitted(&asked, &reply, Room::Stream).unwrap().len(), 600);
}

proptest! {
    #[test]
    fn whatever_comes_is_endured(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..60, by: u8) {
        let names = table();
        let mut asked = query("www.example.com", Rtype::A, Some(1232));
        let at = at % asked.len();
        asked[at] = by;
        let tail = [asked.as_slice(), &bytes].concat();
        for bytes in [&bytes, &asked, &tail] {
            for room in [Room::Datagram, Room::Stream] {
                if let Verdict::Answer(answer) = judge(bytes, room, &names) {
                    prop_assert!(Message::from_octets(answer.as_slice()).unwrap().header().qr());
                    prop_assert!(answer.len() <= 1232);
                }
                let _ = fitted(bytes, &tail, room);
            }
            prop_assert!(refusal(bytes, Rcode::SERVFAIL).is_none_or(|answer| answer.len() <= 512 + OPT));
        }
    }
}
