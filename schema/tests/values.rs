//! Every type of value: what may be written, what it is printed as, what is refused and how.

use proptest::prelude::*;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use vzd_schema::v1::*;

/// Each text reads, and prints as the canonical text; the canonical text reads as the same.
fn reads<T: FromStr<Err = ScalarError> + Display + PartialEq + Debug>(cases: &[(&str, &str)]) {
    for (text, canonical) in cases {
        let value: T = text.parse().unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(value.to_string(), *canonical);
        assert_eq!(canonical.parse::<T>().as_ref(), Ok(&value));
    }
}

fn refuses<T: FromStr<Err = ScalarError> + Debug>(cases: &[&str]) {
    for text in cases {
        let wrong = text.parse::<T>().expect_err(text).to_string();
        let shown = wrong.contains(text) || text.len() > 60 || text.contains(':');
        assert!(shown && !wrong.ends_with('.') && wrong.starts_with(|c: char| !c.is_uppercase()), "{wrong}");
    }
}

#[test]
fn amounts() {
    reads::<Size>(&[
        ("0", "0"),
        ("1024", "1K"),
        ("1025", "1025"),
        ("2g", "2G"),
        ("2048M", "2G"),
        ("7B", "7"),
    ]);
    reads::<Size>(&[("2.2G", "2362232012"), ("0.5K", "512"), ("1T", "1T"), ("2147483648", "2G")]);
    refuses::<Size>(&[
        "",
        "G",
        "-1",
        "1KB",
        "1 K",
        "1.G",
        ".5G",
        "0x10",
        "1P",
        "1e3",
        "٣",
        "9223372036854775807",
        "8388608T",
    ]);
    reads::<Pages>(&[
        ("131072", "131072"),
        ("512M", "131072"),
        ("16p", "16"),
        ("1B", "1"),
        ("4097B", "2"),
        ("0K", "0"),
    ]);
    refuses::<Pages>(&["", "1Q", "-1"]);
    reads::<Count>(&[("240", "240"), ("0", "0"), ("007", "7")]);
    refuses::<Count>(&["240K", "1.5", "", "1P", "-1"]);
    assert_eq!("512M".parse::<Pages>().unwrap().size(), "512M".parse().unwrap());
}

#[test]
fn limits_and_pairs() {
    reads::<Limit<Size>>(&[
        ("unlimited", "unlimited"),
        ("9223372036854775807", "unlimited"),
        ("1G", "1G"),
        ("0", "0"),
    ]);
    reads::<Limit<ByteRate>>(&[("0", "unlimited"), ("10M", "10M")]);
    reads::<Limit<OpRate>>(&[("0", "unlimited"), ("500", "500")]);
    reads::<Limit<BitRate>>(&[
        ("0", "unlimited"),
        ("100M", "100M"),
        ("100Mbit", "100M"),
        ("1000K", "1M"),
        ("8bit", "8"),
    ]);
    reads::<Limit<Percent>>(&[
        ("0", "unlimited"),
        ("150%", "150%"),
        ("150", "150%"),
        ("12.5%", "12.5%"),
        ("0.05", "0.05%"),
    ]);
    refuses::<Limit<Percent>>(&["150.125%", "%", "-5%", "abc"]);
    reads::<Pair<Size>>(&[
        ("2G:2.2G", "2G:2362232012"),
        ("1G", "1G"),
        ("1G:1024M", "1G"),
        ("1:unlimited", "1:unlimited"),
    ]);
    reads::<Pair<Pages>>(&[
        ("0:131072", "0:131072"),
        ("512M:unlimited", "131072:unlimited"),
        ("unlimited", "unlimited"),
    ]);
    refuses::<Pair<Count>>(&["2:1", "unlimited:5", "1:2:3", ":", "1:"]);
}

#[test]
fn cpu() {
    reads::<CpuUnits>(&[("8", "8"), ("500000", "500000")]);
    refuses::<CpuUnits>(&["7", "500001", "1.5", ""]);
    reads::<CpuList>(&[
        ("0-3,8", "0-3,8"),
        ("3,0-1,2", "0-3"),
        (" 1 , 2 - 4 ", "1-4"),
        ("5", "5"),
        ("1-3,2-9", "1-9"),
    ]);
    refuses::<CpuList>(&["", "3-1", "1,,2", "a", "-1", "9999", "1-", "70000"]);
    assert_eq!("0-1,4".parse::<CpuList>().unwrap().iter().collect::<Vec<_>>(), [0, 1, 4]);
    reads::<IoPrio>(&[("0", "0"), ("7", "7")]);
    refuses::<IoPrio>(&["8", "-1"]);
}

#[test]
fn time() {
    reads::<Duration>(&[
        ("30s", "30s"),
        ("90", "1m30s"),
        ("1h30m", "1h30m"),
        ("1w", "7d"),
        ("0", "0s"),
        ("1500ms", "1s500ms"),
    ]);
    reads::<Duration>(&[("1.5h", "1h30m"), ("24h", "1d"), ("0s", "0s")]);
    refuses::<Duration>(&["", "s", "5 s", "1m1h", "1s1s", "-1s", "1y", "30s30", "1..5s"]);
    reads::<Timestamp>(&[("2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00Z")]);
    refuses::<Timestamp>(&["2026-11-22", "now", "1700000000"]);
}

#[test]
fn names() {
    let long = "a".repeat(64);
    reads::<Name>(&[("web01", "web01"), ("1", "1"), ("a-b", "a-b")]);
    refuses::<Name>(&["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", &long]);
    reads::<HostName>(&[("web01.example.net", "web01.example.net"), ("A_b", "A_b")]);
    refuses::<HostName>(&["", ".", "a..b", "-a", "a.", "a b", &(long.clone() + "a")]);
    reads::<LabelKey>(&[("role", "role"), ("vzd/reconcile", "vzd/reconcile")]);
    refuses::<LabelKey>(&["", "/a", "a/b/c", "a b"]);
    reads::<LabelValue>(&[("", ""), ("1.5", "1.5")]);
    refuses::<LabelValue>(&["a/b", "-", &long]);
    reads::<UserName>(&[("www-data", "www-data"), ("_a", "_a")]);
    refuses::<UserName>(&["", "0a", "Root", "a b"]);
    reads::<CtId>(&[("101", "101"), ("2147483644", "2147483644")]);
    refuses::<CtId>(&["100", "2147483645", "+101", "1e3", ""]);
}

#[test]
fn files() {
    reads::<AbsPath>(&[("/", "/"), ("//a/./b/", "/a/b"), ("/a b", "/a b")]);
    refuses::<AbsPath>(&["", "a", "./a", "/a/../b", "/..", "/a\nb", &format!("/{}", "a".repeat(256))]);
    reads::<FileMode>(&[("0644", "0644"), ("644", "0644"), ("0o7777", "7777"), ("0", "0000")]);
    refuses::<FileMode>(&["", "0888", "10000", "-1", "+1", "rw"]);
    reads::<DeviceNumber>(&[("8:1", "8:1"), ("10:*", "10:*"), ("0:1048575", "0:1048575")]);
    refuses::<DeviceNumber>(&["8", "8:", "*:1", "4096:0", "0:1048576", "8:+1", "-8:1"]);
    reads::<Access>(&[("rw", "rw"), ("mwr", "rwm"), ("m", "m")]);
    refuses::<Access>(&["", "rr", "x", "RW"]);
    reads::<TemplateSource>(&[
        ("debian-12", "debian-12"),
        ("dir:/srv//a/", "dir:/srv/a"),
        ("file:/a.tar", "file:/a.tar"),
        ("oci:docker://a/b:1", "oci:a/b:1"),
        ("oci:/srv//images:1", "oci:/srv/images:1"),
    ]);
    refuses::<TemplateSource>(&["", "a b", "../x", "http://x", "-a"]);
    assert!("dir:relative".parse::<TemplateSource>().is_err());
    assert!("oci:".parse::<TemplateSource>().is_err());
    assert!("oci:a@sha256:1".parse::<TemplateSource>().is_err());
    assert!("/srv/data/x".parse::<AbsPath>().unwrap().is_at_or_under("/srv/data"));
    assert!(!"/srv/database".parse::<AbsPath>().unwrap().is_at_or_under("/srv/data"));
}

#[test]
fn network() {
    reads::<Cidr>(&[
        ("10.1.0.5", "10.1.0.5"),
        ("10.1.0.5/32", "10.1.0.5"),
        ("FD00:1::5", "fd00:1::5"),
        ("10.1.0.5/24", "10.1.0.5/24"),
    ]);
    refuses::<Cidr>(&["", "10.1.0", "10.1.0.5/33", "10.1.0.5/", "10.1.0.5/+8", "010.1.0.5", "a/8"]);
    reads::<RouteTarget>(&[
        ("default", "default"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ]);
    refuses::<RouteTarget>(&["10.0.0.1/8", "all"]);
    reads::<Mark>(&[
        ("7", "0x7"),
        ("0x10", "0x10"),
        ("0x10/0xff", "0x10/0xff"),
        ("0/1", "0x0/0x1"),
        ("1/0xFFFFFFFF", "0x1"),
    ]);
    refuses::<Mark>(&["", "0x", "-1", "0x1/0", "0x10/0xf", "0x100000000", "1/", "/1"]);
    reads::<Ports>(&[("80", "80"), ("8000-8010", "8000-8010"), ("80-80", "80")]);
    refuses::<Ports>(&["", "0", "0-7", "8-7", "65536", "-7", "7-"]);
    reads::<Mac>(&[("00-18-51-0A-0B-0C", "00:18:51:0a:0b:0c")]);
    refuses::<Mac>(&[
        "",
        "00:18:51",
        "00:00:00:00:00:00",
        "01:18:51:0a:0b:0c",
        "0:18:51:a:b:c",
        "00:18:51:0a:0b:0c:0d",
        "+0:18:51:0a:0b:0c",
    ]);
    reads::<Address>(&[("::1", "::1")]);
    refuses::<Address>(&["", "localhost", "10.1.0.5/24"]);
    reads::<IfName>(&[("eth0", "eth0"), ("veth101.0", "veth101.0")]);
    refuses::<IfName>(&["", ".", "..", "a/b", "a b", "abcdefghijklmnop"]);
    reads::<Ports>(&[("80", "80"), ("1-65535", "1-65535"), ("80-80", "80")]);
    refuses::<Ports>(&["0", "2-1", "65536", "http", ""]);
}

#[test]
fn processes() {
    reads::<Capability>(&[("net_admin", "CAP_NET_ADMIN"), ("CAP_BPF", "CAP_BPF"), ("Chown", "CAP_CHOWN")]);
    refuses::<Capability>(&["", "CAP_", "all"]);
    assert_eq!("checkpoint_restore".parse::<Capability>().unwrap().number(), 40);
    assert_eq!("sys_admin".parse::<Capability>().unwrap().number(), 21);
    assert_eq!("/sbin/init".parse::<Command>().unwrap().words(), ["/sbin/init"]);
    assert!("a b".parse::<Command>().is_err() && " ".parse::<Command>().is_err());
    assert!(Command::new(vec!["a".into(), "b\0".into()]).is_err());
}

/// What reads, prints as something that reads as the same, and prints so again.
fn canonical<T: FromStr<Err = ScalarError> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        let again =
            printed.parse::<T>().unwrap_or_else(|wrong| panic!("{text:?} prints as {printed:?}: {wrong}"));
        assert_eq!(again, value);
        assert_eq!(again.to_string(), printed);
    }
}

fn canonical_as_any(text: &str) {
    canonical::<Size>(text);
    canonical::<Pages>(text);
    canonical::<Count>(text);
    canonical::<Pair<Size>>(text);
    canonical::<Pair<Pages>>(text);
    canonical::<Pair<Count>>(text);
    canonical::<Limit<Percent>>(text);
    canonical::<Limit<ByteRate>>(text);
    canonical::<Limit<BitRate>>(text);
    canonical::<CpuList>(text);
    canonical::<Duration>(text);
    canonical::<Timestamp>(text);
    canonical::<AbsPath>(text);
    canonical::<FileMode>(text);
    canonical::<DeviceNumber>(text);
    canonical::<Access>(text);
    canonical::<Cidr>(text);
    canonical::<RouteTarget>(text);
    canonical::<Mac>(text);
    canonical::<Mark>(text);
    canonical::<Ports>(text);
    canonical::<TemplateSource>(text);
    canonical::<Capability>(text);
    canonical::<Name>(text);
    canonical::<CtId>(text);
}

proptest! {
    #[test]
    fn any_text_is_refused_or_canonical(text in "\\PC{0,20}") {
        canonical_as_any(&text);
    }

    #[test]
    fn numbers_with_units_are_canonical(text in "[0-9]{1,19}(\\.[0-9]{1,6})?([KMGTPB%]|ms|s|m|h|d|w|bit|Mbit)?(:([0-9]{1,19}[KMGT]?|unlimited))?") {
        canonical_as_any(&text);
    }

    #[test]
    fn addresses_and_lists_are_canonical(text in "([0-9a-f]{1,4}[:.,/-]{1,2}){1,8}[0-9a-f*]{0,4}") {
        canonical_as_any(&text);
    }

    #[test]
    fn paths_are_canonical(text in "(dir:|file:)?(/|[a-z.]){0,20}") {
        canonical_as_any(&text);
    }
}
