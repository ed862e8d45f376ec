//! Mints authorities and certificates for drills, and lays them out as [`crate::tls`] reads them. Not for production:
//! keys are made here and lie beside their certificates.

use crate::tls::{IDENTITY, TRUST};
use firedrill_protocols::contract::{Ipv4Addr, WallTime};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// A span of wall clock time, in which a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub from: WallTime,
    /// Its last second.
    pub to: WallTime,
}

impl Validity {
    /// From an hour before `now` until so long after it: clocks differ.
    pub fn starting(now: WallTime, valid: Duration) -> Validity {
        let hour = 3_600_000_000;
        Validity { from: WallTime(now.0 - hour), to: WallTime(now.0 + valid.as_micros() as i64) }
    }
}

impl Authority {
    /// A new one, of this name, with a key of its own.
    ///
    /// # Errors
    /// The machine has no randomness to give.
    pub fn new(name: &str) -> io::Result<Authority> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate: who has it in its [`TRUST`] believes what it signs.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate, with its key, for the host of this address, as client and as server.
    ///
    /// # Errors
    /// The machine has no randomness to give, or the times are outside of what certificates can say.
    pub fn identity(&self, host: Ipv4Addr, valid: Validity) -> io::Result<String> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new([host.to_string()]).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, host.to_string());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let second = |at: WallTime| {
            let micros = u64::try_from(at.0).unwrap_or(0);
            date_time_ymd(1970, 1, 1) + Duration::from_micros(micros)
        };
        (params.not_before, params.not_after) = (second(valid.from), second(valid.to));
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
    }
}

/// Put one file of a node's folder in place, whole: readers see the old one or the new one.
///
/// # Errors
/// The folder cannot be written.
fn put(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::create_dir_all(folder)?;
    let fresh = folder.join(format!("{name}.new"));
    // Keys are their owner's.
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(fresh, folder.join(name))
}

/// Give a node an identity; it is used from its next handshake on.
///
/// # Errors
/// The folder cannot be written.
pub fn put_identity(folder: &Path, identity: &str) -> io::Result<()> {
    put(folder, IDENTITY, identity)
}

/// Tell a node whom to believe, from its next handshake on.
///
/// # Errors
/// The folder cannot be written.
pub fn put_trust(folder: &Path, authorities: &[&Authority]) -> io::Result<()> {
    let pems: Vec<&str> = authorities.iter().map(|authority| authority.pem()).collect();
    put(folder, TRUST, &pems.concat())
}
