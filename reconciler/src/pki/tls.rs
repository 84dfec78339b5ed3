//! How two hosts use their certificates: TLS 1.3 only, both ends show one, and nothing is kept from one connection to the next.
//! And what its errors mean, in words.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, CipherSuite, ClientConfig, Error, RootCertStore, ServerConfig,
    SupportedCipherSuite,
};
use vzd_state::placement::HostName;

use crate::pki::certificate::facts;
use crate::pki::{Own, Trouble, named, renew};

/// Both ends say that they mean this, and not another protocol by the same certificates.
const ALPN: &[u8] = b"vzd-handover";

/// The end that asks.
pub fn client(own: &Own) -> Result<Arc<ClientConfig>, Trouble> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(|e| unusable(own, &e))?.with_root_certificates(roots(own)?);
    let config = builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key());
    let mut config = config.map_err(|e| unusable(own, &e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The end that answers.
pub fn server(own: &Own) -> Result<Arc<ServerConfig>, Trouble> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(own)?), provider()).build();
    let verifier = verifier.map_err(|e| Trouble::new(e.to_string(), renew(&own.facts.name)))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(|e| unusable(own, &e))?.with_client_cert_verifier(verifier);
    let config = builder.with_single_cert(own.chain.clone(), own.key.clone_key());
    let mut config = config.map_err(|e| unusable(own, &e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The host at the other end, once it is verified.
pub fn peer(chain: Option<&[CertificateDer<'_>]>) -> Result<HostName, Trouble> {
    let first = chain.and_then(|chain| chain.first());
    let first = first.ok_or_else(|| Trouble::new("it has shown no certificate", ""))?;
    named(&facts(first).map_err(|why| Trouble::new(why, ""))?)
}

/// Where the processor has no instructions for AES, that is several times slower than the other cipher, and goes last.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("aes") {
        let is_aes = |of: &SupportedCipherSuite| of.suite() != CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
        provider.cipher_suites.sort_by_key(is_aes);
    }
    Arc::new(provider)
}

fn roots(own: &Own) -> Result<RootCertStore, Trouble> {
    let mut roots = RootCertStore::empty();
    for ca in &own.cas {
        roots.add(ca.clone()).map_err(|e| {
            Trouble::new(format!("a CA in ca.crt is of no use: {e}"), "have certificates issued by `vzd pki`")
        })?;
    }
    Ok(roots)
}

fn unusable(own: &Own, why: &Error) -> Trouble {
    let name = &own.facts.name;
    let cure = format!("{}; with the key that belongs to it", renew(name));
    Trouble::new(format!("the certificate of {name} and its key are of no use: {why}"), cure)
}

/// The error of TLS in this one, if it is one.
pub fn error_in(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What an error means, for the end at which it came up; `other` is what the other one is called.
pub fn words(error: &io::Error, other: &str) -> String {
    match error_in(error) {
        Some(Error::InvalidCertificate(why)) => {
            format!("the certificate of {other} is not believed: {}", disbelief(why))
        }
        Some(Error::NoCertificatesPresented) => format!("{other} has shown no certificate"),
        Some(Error::AlertReceived(alert)) => match alert {
            AlertDescription::CertificateExpired => {
                format!("{other} says that this host's certificate has expired")
            }
            AlertDescription::UnknownCA => format!("{other} does not know the CA of this host's certificate"),
            AlertDescription::CertificateRequired => format!("{other} wants to be shown a certificate"),
            AlertDescription::BadCertificate | AlertDescription::DecryptError => {
                format!("{other} does not believe this host's certificate")
            }
            alert => format!("{other} ends the connection: {alert:?}"),
        },
        Some(
            why @ (Error::InvalidMessage(_)
            | Error::PeerIncompatible(_)
            | Error::InappropriateHandshakeMessage { .. }),
        ) => {
            format!("{other} does not speak TLS as vzd does: {why}")
        }
        Some(why) => format!("the connection to {other} failed: {why}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => format!("the connection to {other} was cut"),
        None => format!("the connection to {other} failed: {error}"),
    }
}

fn disbelief(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it does not serve yet: look at the clocks of both hosts".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "it is of another CA".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().filter_map(|name| name.split('"').nth(1)).collect();
            format!("it is not of {}, but of {}", expected.to_str(), names.join(", "))
        }
        why => why.to_string(),
    }
}
