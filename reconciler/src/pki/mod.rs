//! Certificates by which hosts know each other when VEs go from one to another by TLS.
//!
//! - [`Pki`] is the directory that they are in: `ca.crt`, `host.crt`, `host.key`, and `ca.key` on one host only,
//! - [`make`] makes and renews them, [`certificate`] tells what one says,
//! - [`tls`] is how the two ends of a connection use them.
//!
//! They are read anew for each connection, so that renewing one needs no restart. Nothing here opens a connection.

pub mod certificate;
pub mod make;
#[cfg(test)]
mod tests;
pub mod tls;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use vzd_schema::Code;
use vzd_state::placement::HostName;
use vzd_state::units::{Millis, Timestamp};

use crate::pki::certificate::{Facts, facts};

/// A certificate that ends within this is to be renewed.
const SOON: Millis = Millis(30 * 86_400_000);

/// What is wrong with certificates, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Of what kind it is.
    pub code: Code,
    /// What is wrong.
    pub what: String,
    /// What can be done about it.
    pub cure: String,
}

impl Trouble {
    pub(crate) fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { code: Code::Certificates, what: what.into(), cure: cure.into() }
    }
}

/// The directory of a host's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pki {
    dir: PathBuf,
}

/// What a host shows others, and whom it believes.
#[derive(Debug)]
pub struct Own {
    /// What its certificate says.
    pub facts: Facts,
    /// Its certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The CAs whose certificates it believes.
    pub cas: Vec<CertificateDer<'static>>,
}

impl Pki {
    /// The one in this directory.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The certificates of the CAs that are believed.
    pub fn ca_crt(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The CA's key; on the host that issues certificates only.
    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// The host's certificate.
    pub fn host_crt(&self) -> PathBuf {
        self.dir.join("host.crt")
    }

    /// The host's key.
    pub fn host_key(&self) -> PathBuf {
        self.dir.join("host.key")
    }

    /// The CAs that are believed. There may be several, while hosts go from one to another.
    pub fn cas(&self) -> Result<Vec<CertificateDer<'static>>, Trouble> {
        certificates(&self.ca_crt())
    }

    /// The host's certificate and key and the CAs, if they serve `now`.
    pub fn own(&self, now: Timestamp) -> Result<Own, Trouble> {
        let cas = self.cas()?;
        let path = self.host_crt();
        let chain = certificates(&path)?;
        let first = chain.first().ok_or_else(|| nothing(&path))?;
        let facts = facts(first).map_err(|why| unfit(&path, &why))?;
        if facts.until <= now {
            let what = format!("the certificate in {} has ended at {}", path.display(), facts.until);
            return Err(Trouble::new(what, renew(&facts.name)));
        }
        if facts.from > now {
            let what = format!("the certificate in {} serves from {} only", path.display(), facts.from);
            return Err(Trouble::new(what, "set this host's clock right"));
        }
        let issuers = cas.iter().filter_map(|ca| certificate::facts(ca).ok());
        if !issuers.map(|ca| ca.name).any(|name| name == facts.issuer) {
            let what = format!(
                "the certificate in {} is of another CA than {}",
                path.display(),
                self.ca_crt().display()
            );
            return Err(Trouble::new(what, renew(&facts.name)));
        }
        let path = self.host_key();
        let key = private(&path)?;
        Ok(Own { facts, chain, key, cas })
    }

    /// What is wrong, or soon will be.
    pub fn trouble(&self, now: Timestamp) -> Option<Trouble> {
        let own = match self.own(now) {
            Ok(own) => own,
            Err(trouble) => return Some(trouble),
        };
        if let Err(trouble) = tls::client(&own) {
            return Some(trouble);
        }
        let cas = own.cas.iter().filter_map(|ca| certificate::facts(ca).ok());
        let ca = cas.filter(|ca| ca.name == own.facts.issuer).map(|ca| ca.until).max();
        if let Some(until) = ca.filter(|until| *until <= now + SOON) {
            let what =
                format!("the CA in {} ends at {until}, with all its certificates", self.ca_crt().display());
            return Some(Trouble::new(what, NEW_CA));
        }
        let until = own.facts.until;
        (until <= now + SOON).then(|| {
            let what = format!("the certificate in {} ends at {until}", self.host_crt().display());
            Trouble::new(what, renew(&own.facts.name))
        })
    }
}

const NEW_CA: &str = "make another one (`vzd pki init --force`), keep both in each host's ca.crt until all have certificates of the \
                      new one";

/// The host that a certificate is of.
pub fn named(facts: &Facts) -> Result<HostName, Trouble> {
    facts.name.parse().map_err(|_| {
        Trouble::new(
            format!("a certificate is of {:?}, which is no name of a host", facts.name),
            renew("HOST"),
        )
    })
}

fn renew(name: &str) -> String {
    format!("have one issued where the CA's key is, by `vzd pki issue {name}`, and copy it here")
}

fn nothing(path: &Path) -> Trouble {
    Trouble::new(format!("there is no certificate in {}", path.display()), renew("HOST"))
}

fn unfit(path: &Path, why: &str) -> Trouble {
    Trouble::new(format!("{} is of no use: {why}", path.display()), renew("HOST"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|e| unfit(path, &e.to_string()))?;
    if all.is_empty() { Err(nothing(path)) } else { Ok(all) }
}

/// A key that nobody but its owner can read.
fn private(path: &Path) -> Result<PrivateKeyDer<'static>, Trouble> {
    let text = read(path)?;
    let mode = std::fs::metadata(path).map_or(0, |is| is.permissions().mode() & 0o077);
    if mode != 0 {
        let what = format!("others than root may read or write the key in {}", path.display());
        return Err(Trouble::new(
            what,
            format!("chmod 600 {}; and have another one made if they may have", path.display()),
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| unfit(path, &e.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    std::fs::read(path).map_err(|e| {
        let what = format!("cannot read {}: {e}", path.display());
        match e.kind() {
            std::io::ErrorKind::NotFound if path.ends_with("ca.key") => {
                Trouble::new(what, "`vzd pki init` makes a CA; certificates are issued where its key is")
            }
            std::io::ErrorKind::NotFound => Trouble::new(what, renew("HOST")),
            _ => Trouble::new(what, "it is for root alone to read"),
        }
    })
}
