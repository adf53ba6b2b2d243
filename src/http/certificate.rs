//! The certificate of the callback listener and its key: two PEM files, read together and judged together.
//!
//! A pair that exists can be used: both files hold what they should, and the key fits the certificate. What is wrong
//! with the rest (an expired certificate, one without names) is for others to weigh: some senders do not look, and a
//! clock may be wrong. The key's bytes are wiped after they were read, as far as they are ours, and are never printed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt};

use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::tls::Config;
use crate::event::Timestamp;

/// Most bytes that are read of each file: chains have some KiB, and a mistaken path may lead anywhere.
const FILE_BYTES_MAX: usize = 256 * 1024;
/// Seconds before its end from which on a certificate is warned of. Issuers renew 30 days before the end or, for short
/// lives, after two thirds of it, so by then a renewal has failed.
const ENDS_SOON_SECONDS: i64 = 14 * 24 * 60 * 60;

/// A certificate, with what leads from it to an authority, and the key that fits it.
pub struct Pair {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    doubts: Vec<&'static str>,
}

/// How a certificate stands to the present time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Valid, and for some time to come.
    Valid,
    /// Valid for less than 14 days more.
    EndsSoon,
    /// Its time has not come: the certificate or the clock is wrong.
    NotYetValid,
    /// Its time is over.
    Expired,
}

impl Pair {
    /// Reads both files.
    ///
    /// # Errors
    /// If a file cannot be read, does not hold what it should, or the key does not fit the certificate. The sentence
    /// names the file, and nothing of what is in it.
    pub fn read(config: &Config) -> Result<Self, PairError> {
        let of = |file: &Path| {
            let file = file.to_owned();
            move |cause| PairError { file, cause }
        };
        let chain = read_chain(&config.certificate_file).map_err(of(&config.certificate_file))?;
        let (key, certificate) = (of(&config.key_file), of(&config.certificate_file));
        let signing = {
            let der = read_key(&config.key_file).map_err(of(&config.key_file))?;
            any_supported_type(&der).map_err(|_| Cause::KeyUnsuitable).map_err(of(&config.key_file))?
        };
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(key(Cause::KeyOfAnother(config.certificate_file.clone())));
            }
            Err(_) => return Err(certificate(Cause::CertificateMalformed)),
        }
        Self::described(certified).ok_or_else(|| certificate(Cause::CertificateMalformed))
    }

    /// `None` if a certificate of the chain cannot be understood.
    fn described(certified: CertifiedKey) -> Option<Self> {
        let parsed = |der: &'_ CertificateDer<'_>| X509Certificate::from_der(der).is_ok();
        if !certified.cert.iter().all(parsed) {
            return None;
        }
        let chain: Vec<_> = certified.cert.iter().filter_map(|der| X509Certificate::from_der(der).ok()).collect();
        let (_, first) = chain.first()?;
        let names = names_of(first);
        let mut doubts = Vec::new();
        if names.is_empty() {
            doubts.push("it is for no host name or address (subjectAltName), so clients that look will refuse it");
        }
        let usage = first.extended_key_usage().ok()?;
        if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
            doubts.push("it is not for servers (extendedKeyUsage), so clients that look will refuse it");
        }
        let is_in_order = |pair: &[(&[u8], X509Certificate<'_>)]| match pair {
            [(_, one), (_, next)] => one.issuer().as_raw() == next.subject().as_raw(),
            _ => true,
        };
        if !chain.windows(2).all(is_in_order) {
            doubts.push(
                "the certificates behind it are not in order, each issued by the next: some clients will refuse it",
            );
        }
        let (not_before, not_after) = (first.validity().not_before.timestamp(), first.validity().not_after.timestamp());
        drop(chain);
        Some(Self { certified: Arc::new(certified), names, not_before, not_after, doubts })
    }

    /// What TLS works with.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Whether `other` holds the same certificates. The keys are the same then: each fits them.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }

    /// Host names and addresses that the certificate is for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The second until which it is valid, counted from 1970.
    #[must_use]
    pub fn not_after_seconds(&self) -> i64 {
        self.not_after
    }

    /// From when until when it is valid, for people.
    #[must_use]
    pub fn validity(&self) -> String {
        let shown = |seconds: i64| {
            let time = Timestamp::from_microseconds(seconds.saturating_mul(1_000_000));
            // Far beyond the years of four digits there are certificates that are meant to be valid for ever.
            time.map_or_else(|| format!("second {seconds}"), |time| time.to_string().replace(".000000", ""))
        };
        format!("from {} to {}", shown(self.not_before), shown(self.not_after))
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        match now.seconds() {
            now if now > self.not_after => Standing::Expired,
            now if now < self.not_before => Standing::NotYetValid,
            now if self.not_after.saturating_sub(now) < ENDS_SOON_SECONDS => Standing::EndsSoon,
            _ => Standing::Valid,
        }
    }

    /// For which reasons clients might refuse it, whatever the time.
    #[must_use]
    pub fn doubts(&self) -> &[&'static str] {
        &self.doubts
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pair")
            .field("names", &self.names)
            .field("validity", &self.validity())
            .finish_non_exhaustive()
    }
}

/// Why two files make no pair. The text never holds what is in them.
#[derive(Debug)]
pub struct PairError {
    file: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Unreadable(io::Error),
    Empty,
    NoCertificate,
    CertificateMalformed,
    NoKey,
    KeyUnsuitable,
    KeyOfAnother(PathBuf),
}

impl fmt::Display for PairError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.file.display())?;
        match &self.cause {
            Cause::Unreadable(error) => write!(formatter, "cannot be read: {error}"),
            Cause::Empty => formatter.write_str("is empty"),
            Cause::NoCertificate => formatter.write_str("holds no certificate in PEM"),
            Cause::CertificateMalformed => formatter.write_str("holds a certificate that cannot be understood"),
            Cause::NoKey => formatter.write_str("holds no private key in PEM, without a password"),
            Cause::KeyUnsuitable => formatter.write_str(
                "holds a key of a kind that is not taken: RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519",
            ),
            Cause::KeyOfAnother(certificate) => write!(
                formatter,
                "holds the key of another certificate than the first one in {}",
                certificate.display()
            ),
        }
    }
}

impl error::Error for PairError {}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let text = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(Cause::NoCertificate),
    }
}

fn read_key(file: &Path) -> Result<Zeroizing<PrivateKeyDer<'static>>, Cause> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map(Zeroizing::new).map_err(|_| Cause::NoKey)
}

/// Either file may hold the key: some tools put both into one.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Cause> {
    let open = || {
        // A pipe or a device would be waited for, or read, without end.
        if !fs::metadata(file)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = File::open(file)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(FILE_BYTES_MAX);
        // With room for all of it and one more, nothing is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(Cause::Unreadable)?;
    if bytes.trim_ascii().is_empty() { Err(Cause::Empty) } else { Ok(bytes) }
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}
