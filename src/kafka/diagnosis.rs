//! Why there is no TLS with a broker.
//!
//! Of a broker that it does not believe librdkafka says only "certificate verify failed", whether the certificate has
//! expired, is for another host or comes from a stranger. So one more connection is made, by the same OpenSSL with the
//! same settings, and OpenSSL is asked. It promises to decide nothing: no message ever goes that way. It waits for the
//! network, so it belongs on a thread of its own. What a broker's certificate says is never repeated but for its dates.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509StoreContextRef;
use openssl::x509::store::X509StoreBuilder;

use super::complaints::broker;
use super::credentials::Contents;
use super::pem;

const PATIENCE: Duration = Duration::from_secs(3);
/// How long a broker may take to say that it does not like our certificate. With TLS 1.3 the handshake is through then.
const AFTERTHOUGHT: Duration = Duration::from_secs(1);
/// Where systems keep the authorities that they trust; librdkafka looks into the same places.
const SYSTEM_AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// Numbers of OpenSSL's verdicts (`X509_V_ERR_…`).
mod verdict {
    pub(super) const NOT_YET_VALID: i32 = 9;
    pub(super) const EXPIRED: i32 = 10;
    /// A chain that ends nowhere, or with an authority that is not trusted.
    pub(super) const STRANGERS: [i32; 5] = [2, 18, 19, 20, 21];
    pub(super) const REVOCATIONS_EXPIRED: i32 = 12;
    pub(super) const REVOKED: i32 = 23;
    pub(super) const OTHER_HOST: i32 = 62;
    pub(super) const OTHER_ADDRESS: i32 = 64;
}

/// What is wrong between us and the broker that librdkafka complains of in `reason`; `None` if nothing is to be seen.
/// Waits for the network, some seconds at most.
#[must_use]
pub fn diagnose_tls(reason: &str, contents: &Contents) -> Option<String> {
    let (host, port) = broker(reason)?;
    look(host, port, contents)
}

/// What is wrong between us and the broker at this address; `None` if nothing is to be seen.
pub(super) fn look(host: &str, port: u16, contents: &Contents) -> Option<String> {
    let address = (host, port).to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let found = Arc::new(Mutex::new(None));
    let connector = connector(host, contents, Arc::clone(&found)).ok()?;
    match connector.connect(host, stream) {
        Ok(mut stream) => {
            stream.get_ref().set_read_timeout(Some(AFTERTHOUGHT)).ok()?;
            // A broker says nothing unasked but that it takes nothing from us.
            let alert = stream.ssl_read(&mut [0]).err()?.ssl_error()?.to_string();
            Some(refused(&alert, contents))
        }
        Err(HandshakeError::Failure(handshake)) => {
            let verdict = found.lock().unwrap_or_else(PoisonError::into_inner).take();
            verdict.or_else(|| handshake.error().ssl_error().map(|alert| refused(&alert.to_string(), contents)))
        }
        Err(HandshakeError::SetupFailure(_) | HandshakeError::WouldBlock(_)) => None,
    }
}

fn connector(host: &str, contents: &Contents, found: Arc<Mutex<Option<String>>>) -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    let mut trusted = X509StoreBuilder::new()?;
    let system = || SYSTEM_AUTHORITIES.iter().find_map(|file| std::fs::read(Path::new(file)).ok());
    let authorities = contents.authorities.as_ref().map(|bytes| bytes.to_vec()).or_else(system);
    for authority in authorities.map(|bytes| pem::certificates(&bytes).unwrap_or_default()).unwrap_or_default() {
        trusted.add_cert(authority)?;
    }
    builder.set_cert_store(trusted.build());
    if let (Some(certificate), Some(key)) = (&contents.certificate, &contents.key)
        && let (Ok(chain), Ok(key)) = (pem::certificates(certificate), pem::private_key(key))
    {
        let mut chain = chain.into_iter();
        if let Some(own) = chain.next() {
            builder.set_certificate(&own)?;
        }
        for authority in chain {
            builder.add_extra_chain_cert(authority)?;
        }
        builder.set_private_key(&key)?;
    }
    let (host, from_file) = (host.to_owned(), contents.authorities.is_some());
    builder.set_verify_callback(SslVerifyMode::PEER, move |is_good, context| {
        if !is_good {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.get_or_insert_with(|| disbelief(context, &host, from_file));
        }
        is_good
    });
    Ok(builder.build())
}

/// Why we do not believe the broker.
fn disbelief(context: &X509StoreContextRef, host: &str, from_file: bool) -> String {
    let error = context.error();
    let whose = if context.error_depth() == 0 { "its certificate" } else { "the certificate of an authority above it" };
    let certificate = context.current_cert();
    match error.as_raw() {
        verdict::EXPIRED => {
            let end = certificate.map(|found| found.not_after().to_string()).unwrap_or_default();
            format!("{whose} expired on {end}: the broker needs a new one")
        }
        verdict::NOT_YET_VALID => {
            let begin = certificate.map(|found| found.not_before().to_string()).unwrap_or_default();
            format!("{whose} is not valid before {begin}: is the clock of this machine right?")
        }
        code if verdict::STRANGERS.contains(&code) => {
            let place = if from_file { "in kafka.tls.ca_file" } else { "that this system trusts (kafka.tls.ca_file)" };
            format!(
                "none of the authorities {place} stands behind its certificate: the brokers' authority belongs there"
            )
        }
        verdict::OTHER_HOST | verdict::OTHER_ADDRESS => {
            format!("its certificate is not for {host}: look at kafka.brokers, advertised.listeners, its certificate")
        }
        verdict::REVOKED => format!("{whose} is revoked"),
        verdict::REVOCATIONS_EXPIRED => "the list of revoked certificates (ssl.crl.location) has expired".to_owned(),
        _ => format!("{whose} cannot be verified: {}", error.error_string()),
    }
}

/// Why the broker does not believe us.
fn refused(alert: &str, contents: &Contents) -> String {
    let own = contents.certificate.as_ref().and_then(|bytes| pem::certificates(bytes).ok());
    match own.as_deref() {
        None => format!("it wants a certificate of ours (kafka.tls.certificate_file, key_file), or no TLS: {alert}"),
        Some([own, ..]) if pem::has_passed(own.not_after()) => {
            let end = own.not_after();
            format!("our certificate (kafka.tls.certificate_file) expired on {end}: put a new one there, with its key")
        }
        Some(_) => format!("it does not take our certificate (kafka.tls.certificate_file): {alert}"),
    }
}
