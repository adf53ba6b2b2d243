//! What a single value must look like, each kind with the sentence that says so.
//!
//! None of these sentences quotes the value: it may be a secret in the wrong place.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Meaning, Scalar};
use super::units::{self, UnitFault};
use crate::http::Network;

/// Longest duration that can be configured. Nothing here needs more, and clocks can be added to it without overflow.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Most of anything that is counted: far beyond what one process serves, far below what a semaphore can hold.
const COUNT_MAX: usize = 1_000_000;
/// Longest text (a name, a path, a property).
const TEXT_BYTES_MAX: usize = 4096;
/// Longest name of a topic that Kafka takes.
const TOPIC_BYTES_MAX: usize = 249;
/// Longest name of a key: it becomes the value of a metric's label.
const NAME_BYTES_MAX: usize = 64;
/// Longest host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A duration of zero or more.
pub(super) fn duration(scalar: &Scalar<'_>) -> Meaning<Duration> {
    let duration = units::duration(scalar.text).map_err(|fault| unit_sentence(fault, units::DURATION_FORM))?;
    if duration > DURATION_MAX {
        return Err(format!("must not be longer than {}", units::show_duration(DURATION_MAX)));
    }
    Ok(duration)
}

/// A duration of more than zero.
pub(super) fn period(scalar: &Scalar<'_>) -> Meaning<Duration> {
    duration(scalar).and_then(|duration| if duration.is_zero() { Err(not_zero()) } else { Ok(duration) })
}

/// A size between these bounds, in bytes. `because` continues the sentence about them.
pub(super) fn size(least: u64, most: u64, because: &str) -> impl Fn(&Scalar<'_>) -> Meaning<usize> {
    move |scalar| {
        let bytes = units::size(scalar.text).map_err(|fault| unit_sentence(fault, units::SIZE_FORM))?;
        let bounded = (least..=most).contains(&bytes).then(|| usize::try_from(bytes).ok()).flatten();
        bounded.ok_or_else(|| {
            format!("must be between {} and {}{because}", units::show_size(least), units::show_size(most))
        })
    }
}

/// A whole number of zero or more.
pub(super) fn count(scalar: &Scalar<'_>) -> Meaning<usize> {
    let number = scalar.plain.then(|| decimal(scalar.text)).flatten();
    let count = number.and_then(|number| usize::try_from(number).ok()).filter(|count| *count <= COUNT_MAX);
    count.ok_or_else(|| format!("must be a whole number of at most {COUNT_MAX}, without quotes"))
}

/// A whole number of more than zero.
pub(super) fn positive_count(scalar: &Scalar<'_>) -> Meaning<usize> {
    count(scalar).and_then(|count| if count == 0 { Err(not_zero()) } else { Ok(count) })
}

/// The number of an account. People quote it, because it looks like a number and is a name.
pub(super) fn app_id(scalar: &Scalar<'_>) -> Meaning<u64> {
    decimal(scalar.text).filter(|id| *id > 0).ok_or_else(|| "must be the number of an account (appid)".to_owned())
}

/// An address to listen on.
pub(super) fn listener(scalar: &Scalar<'_>) -> Meaning<SocketAddr> {
    scalar.text.parse().map_err(|_| "must be an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".to_owned())
}

/// A network.
pub(super) fn network(scalar: &Scalar<'_>) -> Meaning<Network> {
    Network::parse(scalar.text).ok_or_else(|| {
        "must be a network such as 10.0.0.0/8 or 2001:db8::/32, with no bit set beyond the prefix, or one IP address"
            .to_owned()
    })
}

/// The path of a URL, matched byte for byte.
pub(super) fn url_path(scalar: &Scalar<'_>) -> Meaning<String> {
    let sound = scalar.text.starts_with('/') && scalar.text.len() <= TEXT_BYTES_MAX;
    let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if sound && scalar.text.bytes().all(legal) {
        return Ok(scalar.text.to_owned());
    }
    Err("must begin with / and hold neither ? nor # nor spaces; write other letters percent-encoded".to_owned())
}

/// The name of a signing key.
pub(super) fn key_name(scalar: &Scalar<'_>) -> Meaning<String> {
    named(scalar.text, NAME_BYTES_MAX)
        .ok_or_else(|| format!("must be 1 to {NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, '.', '_' and '-'"))
}

/// The name of a topic.
pub(super) fn topic(scalar: &Scalar<'_>) -> Meaning<String> {
    named(scalar.text, TOPIC_BYTES_MAX).filter(|name| !matches!(name.as_str(), "." | "..")).ok_or_else(|| {
        format!("must be 1 to {TOPIC_BYTES_MAX} characters of a-z, A-Z, 0-9, '.', '_' and '-', and neither . nor ..")
    })
}

/// A broker.
pub(super) fn broker(scalar: &Scalar<'_>) -> Meaning<String> {
    let sound = scalar.text.rsplit_once(':').is_some_and(|(host, port)| {
        let port = decimal(port).is_some_and(|port| (1..=u64::from(u16::MAX)).contains(&port));
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        port && bracketed.map_or_else(|| is_host(host), |address| address.parse::<Ipv6Addr>().is_ok())
    });
    if sound {
        Ok(scalar.text.to_owned())
    } else {
        Err("must be host:port, such as kafka-1.example.com:9092".to_owned())
    }
}

/// A push domain, in lower case as domain names have no other.
pub(super) fn domain(scalar: &Scalar<'_>) -> Meaning<String> {
    let sound = is_host(scalar.text) && scalar.text.parse::<IpAddr>().is_err();
    if sound {
        Ok(scalar.text.to_ascii_lowercase())
    } else {
        Err("must be a domain, such as push.example.com".to_owned())
    }
}

/// Any text but an empty one, on one line.
pub(super) fn text(scalar: &Scalar<'_>) -> Meaning<String> {
    let sound = (1..=TEXT_BYTES_MAX).contains(&scalar.text.len()) && !scalar.text.chars().any(char::is_control);
    if sound { Ok(scalar.text.to_owned()) } else { Err("must be a text of one line, and not empty".to_owned()) }
}

/// The value of a librdkafka property: a text, a number or a boolean, kept as written.
pub(super) fn property(scalar: &Scalar<'_>) -> Meaning<String> {
    let sound = scalar.text.len() <= TEXT_BYTES_MAX && !scalar.text.contains('\0');
    if sound { Ok(scalar.text.to_owned()) } else { Err(format!("must be at most {TEXT_BYTES_MAX} bytes long")) }
}

/// A file, relative to `folder` unless it is absolute.
pub(super) fn file(folder: &Path) -> impl Fn(&Scalar<'_>) -> Meaning<PathBuf> {
    move |scalar| text(scalar).map(|path| folder.join(path)).map_err(|_| "must be the path of a file".to_owned())
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Scalar<'_>) -> Meaning<T> {
    move |scalar| {
        let found = words.iter().find(|(word, _)| *word == scalar.text).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}", words.join(", "))
        })
    }
}

fn unit_sentence(fault: UnitFault, form: &str) -> String {
    match fault {
        UnitFault::NoUnit => format!("has no unit: write {form}"),
        UnitFault::Malformed => format!("must be {form}"),
        UnitFault::TooLarge => "is too large".to_owned(),
    }
}

fn not_zero() -> String {
    "must be more than zero".to_owned()
}

/// Digits only, and no leading zero: `010` is eight to some readers of YAML.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits.then(|| text.parse().ok()).flatten()
}

fn named(text: &str, bytes_max: usize) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=bytes_max).contains(&text.len()) && text.bytes().all(legal)).then(|| text.to_owned())
}

/// A host name or an IPv4 address. The underscore is no letter of host names, but name servers inside clusters use it.
fn is_host(text: &str) -> bool {
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    named(text, HOST_BYTES_MAX).is_some() && text.split('.').all(label)
}
