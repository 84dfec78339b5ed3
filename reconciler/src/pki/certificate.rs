//! What a certificate says. Whether that is to be believed is for TLS to find out.

use serde::Serialize;
use sha2::{Digest, Sha256};
use vzd_state::units::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Name};

use crate::template::index::hex;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Whose it is.
    pub name: String,
    /// The names and addresses that it is good for.
    pub names: Vec<String>,
    /// Who has signed it.
    pub issuer: String,
    /// When it begins to serve.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The SHA-256 of all of it.
    pub sha256: String,
}

/// What this one says; or why it is none.
pub fn facts(der: &[u8]) -> Result<Facts, String> {
    let (_, is) = X509Certificate::from_der(der).map_err(|e| format!("it is no certificate: {e}"))?;
    let others = is.subject_alternative_name().map_err(|e| format!("its names make no sense: {e}"))?;
    let others = others.map(|others| others.value.general_names.iter().filter_map(named).collect());
    Ok(Facts {
        name: common_name(is.subject())?,
        names: others.unwrap_or_default(),
        issuer: common_name(is.issuer())?,
        from: time(is.validity().not_before),
        until: time(is.validity().not_after),
        sha256: hex(&Sha256::digest(der)),
    })
}

/// The public key in it, as its own encoding has it.
pub fn public_key(der: &[u8]) -> Result<Vec<u8>, String> {
    let (_, is) = X509Certificate::from_der(der).map_err(|e| format!("it is no certificate: {e}"))?;
    Ok(is.public_key().subject_public_key.data.to_vec())
}

fn common_name(name: &X509Name<'_>) -> Result<String, String> {
    let is = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    is.map(str::to_owned).ok_or_else(|| "it does not say whose it is".to_owned())
}

fn named(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|is| std::net::Ipv4Addr::from(is).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|is| std::net::Ipv6Addr::from(is).to_string()),
        },
        _ => None,
    }
}

fn time(time: ASN1Time) -> Timestamp {
    Timestamp(time.timestamp().saturating_mul(1000))
}
