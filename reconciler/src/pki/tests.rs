//! Files of certificates, and who believes whom by them.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use tempfile::TempDir;
use vzd_state::placement::HostName;
use vzd_state::units::Millis;

use crate::engine::clock;
use crate::pki::{Own, Pki, SOON, Trouble, make, tls};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

struct Place {
    dir: TempDir,
    ca: Pki,
}

impl Place {
    /// With a CA.
    fn new() -> Place {
        let dir = TempDir::new().unwrap();
        let ca = Pki::at(dir.path());
        make::init(&ca, YEAR * 10, false).unwrap();
        Place { dir, ca }
    }

    fn issue(&self, host: &str, valid: Duration) -> Pki {
        let out = Pki::at(&self.dir.path().join(host));
        make::issue(&self.ca, &host.parse().unwrap(), &["192.0.2.7".to_owned()], valid, &out, false).unwrap();
        out
    }

    fn own(&self, host: &str) -> Own {
        self.issue(host, YEAR).own(clock::now()).unwrap()
    }
}

/// What either end says in the end: the client which host it is that it speaks with, the server who asks.
fn meet(client: &Own, server: &Own, name: &str) -> (Result<(), String>, Result<HostName, String>) {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(tls::client(client).unwrap(), name).unwrap();
    let mut server = ServerConnection::new(tls::server(server).unwrap()).unwrap();
    let words =
        |e: rustls::Error, other: &str| tls::words(&io::Error::new(io::ErrorKind::InvalidData, e), other);
    let (mut asks, mut answers) = (Ok(()), Ok(()));
    for _ in 0..4 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        drop(server.read_tls(&mut &wire[..]));
        answers = answers.and_then(|()| server.process_new_packets().map(drop).map_err(|e| words(e, "a")));
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        drop(client.read_tls(&mut &wire[..]));
        asks = asks.and_then(|()| client.process_new_packets().map(drop).map_err(|e| words(e, "b")));
    }
    (asks, answers.and_then(|()| tls::peer(server.peer_certificates()).map_err(|is| is.what)))
}

#[test]
fn hosts_of_one_ca_know_each_other_by_name_and_address() {
    let place = Place::new();
    let (a, b) = (place.own("a"), place.own("b.example.net"));
    for name in ["b.example.net", "192.0.2.7"] {
        assert_eq!(meet(&a, &b, name), (Ok(()), Ok("a".parse().unwrap())), "{name}");
    }
    assert_eq!(b.facts.names, ["b.example.net", "192.0.2.7"]);
}

#[test]
fn nobody_else_is_believed() {
    let (place, other) = (Place::new(), Place::new());
    let (a, b) = (place.own("a"), place.own("b"));
    let (asks, _) = meet(&a, &b, "c");
    assert_eq!(asks.unwrap_err(), "the certificate of b is not believed: it is not of c, but of b");
    // One of another CA, in whom one end believes too.
    let mut theirs = other.own("a");
    theirs.cas.extend(b.cas.clone());
    let (asks, answers) = meet(&theirs, &b, "b");
    assert_eq!(answers.unwrap_err(), "the certificate of a is not believed: it is of another CA");
    assert_eq!(asks.unwrap_err(), "b does not know the CA of this host's certificate");
    let mut theirs = other.own("b");
    theirs.cas.extend(a.cas.clone());
    assert_eq!(
        meet(&a, &theirs, "b").0.unwrap_err(),
        "the certificate of b is not believed: it is of another CA"
    );
    // One that has ended, at either end.
    let ended = place.issue("late", Duration::ZERO).own(clock::now() - Millis(60_000)).unwrap();
    // In certificates a second is one moment.
    while clock::now() < ended.facts.until + Millis(1000) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (asks, answers) = meet(&ended, &b, "b");
    assert_eq!(answers.unwrap_err(), "the certificate of a is not believed: it has expired");
    assert_eq!(asks.unwrap_err(), "b says that this host's certificate has expired");
    assert_eq!(
        meet(&a, &ended, "late").0.unwrap_err(),
        "the certificate of b is not believed: it has expired"
    );
}

#[test]
fn no_ca_and_no_key_is_written_over_unasked() {
    let place = Place::new();
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
    let ca = read(place.ca.ca_key());
    let refused = make::init(&place.ca, YEAR, false).unwrap_err();
    assert!(refused.what.contains("there is a CA"), "{refused:?}");
    assert_eq!(read(place.ca.ca_key()), ca);
    let host = place.issue("a", YEAR);
    let (key, certificate) = (read(host.host_key()), read(host.host_crt()));
    place.issue("a", YEAR);
    assert!(read(host.host_key()) == key && read(host.host_crt()) != certificate);
    make::issue(&place.ca, &"a".parse().unwrap(), &[], YEAR, &host, true).unwrap();
    assert_ne!(read(host.host_key()), key);
    host.own(clock::now()).unwrap();
    for path in [place.ca.ca_key(), host.host_key(), host.host_crt(), host.ca_crt()] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    assert!(!host.ca_key().exists());
    // What it signs with a key of another CA nobody would believe.
    make::init(&Pki::at(&place.dir.path().join("other")), YEAR, false).unwrap();
    std::fs::copy(place.dir.path().join("other/ca.key"), place.ca.ca_key()).unwrap();
    let refused = make::issue(&place.ca, &"b".parse().unwrap(), &[], YEAR, &host, false).unwrap_err();
    assert!(refused.what.contains("is not that of"), "{refused:?}");
}

#[test]
fn what_is_wrong_is_said_with_its_cure() {
    let place = Place::new();
    let now = clock::now();
    let wrong = |host: &Pki, words: &str, cure: &str| {
        let Some(Trouble { what, cure: said, .. }) = host.trouble(now) else {
            panic!("nothing is wrong: {words}")
        };
        assert!(what.contains(words) && said.contains(cure), "{what}: {said}");
    };
    wrong(&Pki::at(&place.dir.path().join("none")), "cannot read", "vzd pki issue");
    let host = place.issue("a", YEAR);
    assert_eq!(host.trouble(now), None);
    assert!(host.trouble(now + Millis(365 * 86_400_000) - SOON).is_some());
    wrong(&place.issue("b", Duration::from_secs(86_400)), "ends at", "vzd pki issue b");
    wrong(&place.issue("c", Duration::ZERO), "has ended", "vzd pki issue c");
    let chmod = |mode| std::fs::set_permissions(host.host_key(), PermissionsExt::from_mode(mode)).unwrap();
    chmod(0o640);
    wrong(&host, "others than root", "chmod 600");
    chmod(0o600);
    std::fs::copy(place.dir.path().join("b/host.key"), host.host_key()).unwrap();
    wrong(&host, "its key are of no use", "vzd pki issue a");
    std::fs::write(host.host_key(), "nonsense").unwrap();
    wrong(&host, "is of no use", "vzd pki issue");
    std::fs::write(host.ca_crt(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    wrong(&host, "another CA", "vzd pki issue a");
    // A CA that is about to end.
    let short = Pki::at(&place.dir.path().join("short"));
    make::init(&short, Duration::from_secs(86_400), false).unwrap();
    make::issue(&short, &"a".parse().unwrap(), &[], YEAR, &short, false).unwrap();
    wrong(&short, "with all its certificates", "ca.crt");
}
