//! The head of a request: what hyper lets through and this server does not.
//!
//! hyper accepts a missing, repeated or invalid Host, several Transfer-Encodings, and any method and path. Every such
//! leniency is a chance for two parsers to see two different requests.
//!
//! Two leniencies cannot be seen from here, since hyper has settled them: equal Content-Lengths count as one (RFC 9110,
//! 8.6), and beside chunked a Content-Length is dropped and the connection closed after the answer (RFC 9112, 6.3).

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Version};

use super::Config;
use crate::message::{TRACE_PARENT, TraceParent};
use crate::refusal::Refusal;

/// Judges everything that can be judged before the body is read.
pub(super) fn judge<B>(request: &Request<B>, peer: IpAddr, config: &Config) -> Result<(), Refusal> {
    if !config.allowed_networks.is_empty() && !config.allowed_networks.iter().any(|network| network.contains(peer)) {
        return Err(Refusal::NetworkNotAllowed);
    }
    if !is_well_framed(request) {
        return Err(Refusal::BadFraming);
    }
    if request.uri().path() != config.path {
        return Err(Refusal::PathUnknown);
    }
    if request.method() != Method::POST {
        return Err(Refusal::MethodNotAllowed);
    }
    let encoding = request.headers().get_all(header::CONTENT_ENCODING).iter();
    if !encoding.map(HeaderValue::as_bytes).all(|value| value.eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::ContentEncoded);
    }
    match content_length(request.headers()) {
        Some(length) if length > config.body_bytes_max as u64 => Err(Refusal::BodyTooLarge),
        _ => Ok(()),
    }
}

/// The trace that the request belongs to. Of several, nobody could tell which is the right one, so they count as none.
pub(super) fn trace_parent<B>(request: &Request<B>) -> Option<TraceParent> {
    const NAME: HeaderName = HeaderName::from_static(TRACE_PARENT);
    let value = single(request.headers(), &NAME).ok().flatten()?;
    TraceParent::parse(value.as_bytes())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether every parser on the way here sees where this request ends, and for whom it is.
pub(super) fn is_well_framed<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    has_one_host(request) && has_one_length(headers) && has_plain_transfer(headers, request.version())
}

/// Exactly one valid Host, and a target that names no other. HTTP/1.0 knew no Host.
fn has_one_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, None) => return request.version() == Version::HTTP_10,
        (Some(host), None) => host,
        _ => return false,
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else { return false };
    let named_by_target = request.uri().authority();
    !host.as_str().contains('@') && named_by_target.is_none_or(|target| target == &host)
}

fn has_one_length(headers: &HeaderMap) -> bool {
    let value = single(headers, &header::CONTENT_LENGTH);
    value.is_ok_and(|value| value.is_none_or(|value| value.as_bytes().iter().all(u8::is_ascii_digit)))
}

/// No Transfer-Encoding, or `chunked` once. No Content-Length can be beside it: hyper has dropped it.
fn has_plain_transfer(headers: &HeaderMap, version: Version) -> bool {
    match single(headers, &header::TRANSFER_ENCODING) {
        Err(Repeated) => false,
        Ok(None) => true,
        Ok(Some(value)) => value.as_bytes().eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11,
    }
}

struct Repeated;

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Repeated),
    }
}
