//! Certificates and keys as files hold them (PEM): whether a TLS client can be made of them.
//!
//! librdkafka would judge them too, but of most faults it says neither the file nor the reason, and of a damaged last
//! certificate in a file of authorities nothing at all.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Every certificate in `bytes`, one at least.
///
/// # Errors
/// A sentence on what `bytes` hold.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<X509>, String> {
    let text = text(bytes)?;
    let announced = text.matches(CERTIFICATE).count();
    if announced == 0 {
        return Err("holds no certificate (PEM)".to_owned());
    }
    match X509::stack_from_pem(bytes) {
        Ok(found) if found.len() == announced => Ok(found),
        _ => Err(format!("not all of the {announced} certificate(s) in it can be read")),
    }
}

/// The private key in `bytes`.
///
/// # Errors
/// A sentence on what `bytes` hold.
pub(super) fn private_key(bytes: &[u8]) -> Result<PKey<Private>, String> {
    let text = text(bytes)?;
    // Asked for a password, a terminal would be read; there is none to give.
    PKey::private_key_from_pem_callback(bytes, |_| Ok(0)).map_err(|_| {
        let sentence = if text.contains("ENCRYPTED") {
            "holds a key with a password; it must have none"
        } else {
            "holds no private key (PEM)"
        };
        sentence.to_owned()
    })
}

/// Our own certificate and its chain, with the key that belongs to it.
///
/// # Errors
/// If the key is another certificate's.
pub(super) fn assert_pair(certificates: &[X509], key: &PKey<Private>) -> Result<(), String> {
    let own = certificates.first().and_then(|own| own.public_key().ok());
    match own {
        Some(public) if key.public_eq(&public) => Ok(()),
        _ => Err("holds a key that does not belong to the certificate in kafka.tls.certificate_file".to_owned()),
    }
}

/// A list of revoked certificates. librdkafka would take certificates in it for authorities to trust.
///
/// # Errors
/// If there are any.
pub(super) fn assert_only_revocations(bytes: &[u8]) -> Result<(), String> {
    let text = text(bytes)?;
    if text.contains("CERTIFICATE-----") {
        return Err("holds certificates; they would be trusted like those of kafka.tls.ca_file".to_owned());
    }
    Ok(())
}

/// Whether `time` has passed.
pub(super) fn has_passed(time: &Asn1TimeRef) -> bool {
    Asn1Time::days_from_now(0).is_ok_and(|now| *time < now)
}

/// C programs read up to the first zero byte.
fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(|| "is no text".to_owned())
}
