//! Makes certificates: a CA, and hosts' of it. Each file is there whole or not at all, for root alone, and no key is
//! ever written over unless that is asked for.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use vzd_state::placement::HostName;

use crate::engine::clock;
use crate::error::{At, SysResult};
use crate::pki::certificate::{Facts, facts, public_key};
use crate::pki::{Pki, Trouble, read, unfit};
use crate::store::{Writes, atomic};

/// Clocks of hosts differ.
const SKEW: Duration = Duration::from_secs(3600);

/// Makes a CA.
pub fn init(pki: &Pki, valid: Duration, force: bool) -> Result<Facts, Trouble> {
    let is_there = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    if !force && [pki.ca_key(), pki.ca_crt()].iter().any(|path| is_there(path)) {
        let what = format!("there is a CA in {} already", pki.dir().display());
        return Err(Trouble::new(
            what,
            "--force makes another one: no certificate of this one is believed then any more",
        ));
    }
    let key = generate()?;
    let mut params = CertificateParams::default();
    // Told apart by name wherever two are believed.
    let name = format!("vzd CA {}", clock::new_uid().to_string().get(..8).unwrap_or_default());
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    lasting(&mut params, valid);
    let certificate = params.self_signed(&key).map_err(|e| failed("the CA", &e))?;
    put(pki, &pki.ca_key(), &key.serialize_pem())?;
    put(pki, &pki.ca_crt(), &certificate.pem())?;
    facts(certificate.der()).map_err(|why| unfit(&pki.ca_crt(), &why))
}

/// Makes a host's certificate, or renews it, in `out`, beside the CA's. A key that is there stays, unless it is to be another.
pub fn issue(
    pki: &Pki,
    host: &HostName,
    addresses: &[String],
    valid: Duration,
    out: &Pki,
    new_key: bool,
) -> Result<Facts, Trouble> {
    let (ca, text) = (authority(pki)?, read(&pki.ca_crt())?);
    let ca_until = pki.cas()?.first().and_then(|ca| facts(ca).ok()).map(|ca| ca.until);
    if ca_until.is_some_and(|until| until <= clock::now()) {
        let what = format!("the CA in {} has ended", pki.ca_crt().display());
        return Err(Trouble::new(what, super::NEW_CA));
    }
    let is_kept = !new_key && std::fs::symlink_metadata(out.host_key()).is_ok();
    let key = if is_kept { key(&out.host_key())? } else { generate()? };
    let mut names = vec![host.to_string()];
    names.extend(addresses.iter().filter(|name| *name != host.as_str()).cloned());
    let bad_name = |e: &dyn std::fmt::Display| {
        Trouble::new(format!("{names:?}: a name cannot be in a certificate: {e}"), "give names or addresses")
    };
    let mut params = CertificateParams::new(names.clone()).map_err(|e| bad_name(&e))?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, host.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, valid);
    let certificate = params.signed_by(&key, &ca).map_err(|e| failed(host.as_str(), &e))?;
    if !is_kept {
        put(out, &out.host_key(), &key.serialize_pem())?;
    }
    put(out, &out.host_crt(), &certificate.pem())?;
    if out != pki {
        put(out, &out.ca_crt(), &String::from_utf8_lossy(&text))?;
    }
    facts(certificate.der()).map_err(|why| unfit(&out.host_crt(), &why))
}

/// The CA that signs: the first one in its file, whose key has to be there.
fn authority(pki: &Pki) -> Result<Issuer<'static, KeyPair>, Trouble> {
    let path = pki.ca_key();
    let key = key(&path)?;
    let certificate = CertificateDer::from_pem_slice(&read(&pki.ca_crt())?);
    let certificate = certificate.map_err(|e| unfit(&pki.ca_crt(), &e.to_string()))?;
    let public = public_key(&certificate).map_err(|why| unfit(&pki.ca_crt(), &why))?;
    if public != key.der_bytes() {
        let what = format!("the key in {} is not that of {}", path.display(), pki.ca_crt().display());
        return Err(Trouble::new(
            what,
            "put the two that belong together there, or make another CA by `vzd pki init --force`",
        ));
    }
    Issuer::from_ca_cert_der(&certificate, key).map_err(|e| unfit(&pki.ca_crt(), &e.to_string()))
}

fn generate() -> Result<KeyPair, Trouble> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed("a key", &e))
}

fn key(path: &Path) -> Result<KeyPair, Trouble> {
    let text = read(path)?;
    KeyPair::from_pem(&String::from_utf8_lossy(&text)).map_err(|e| unfit(path, &e.to_string()))
}

fn lasting(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + valid).into();
    // A renewed one has the same key, and is another certificate. At most 20 bytes, the first of which is no sign.
    let random = clock::new_uid().to_string();
    params.serial_number = Some(SerialNumber::from_slice(random.as_bytes().get(..16).unwrap_or_default()));
}

fn put(pki: &Pki, path: &Path, text: &str) -> Result<(), Trouble> {
    let write = || -> SysResult<()> {
        let dir = pki.dir();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).at("make", dir.display())?;
        atomic::write(path, text.as_bytes(), &Writes::default()).map(drop)
    };
    write().map_err(|e| Trouble::new(e.to_string(), "this needs root, and room on the disk"))
}

fn failed(what: &str, why: &rcgen::Error) -> Trouble {
    Trouble::new(format!("{what} cannot be made: {why}"), "this is an error of vzd's: please tell its makers")
}
