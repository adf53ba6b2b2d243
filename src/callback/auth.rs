//! Authentication: `sign = md5(key + t)`, every active key, constant time, and what the key is good for.
//!
//! The body is not covered by the signature, and MD5 can be extended: who holds one `(t, sign)` can compute the
//! signature of a longer `t`. So `t` is accepted only as a JSON integer of exactly ten digits and hashed in that
//! very form; the padding of MD5 can never be part of it. `t` is the second at which the signature expires, 600 s
//! after it was made; an upper bound keeps a leaked signature from living for ever.

use std::time::Duration;

use md5::{Digest, Md5};
use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq};

use super::keyring::{Key, Keyring};
use super::members::{Malformed, Members};
use super::normalise::{Normalised, Unusable, integer};
use super::{Config, Ignored, Kind, Redaction, Remains};
use crate::event::Timestamp;

/// Seconds between the making of a signature and its expiry, by the provider's documentation.
const SIGNATURE_LIFE_SECONDS: i64 = 600;

/// When a signature counts.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    grace_seconds: i64,
    ahead_seconds: i64,
}

impl Window {
    /// The window that `config` describes.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX / 4);
        Self {
            grace_seconds: seconds(config.expiry_grace),
            ahead_seconds: SIGNATURE_LIFE_SECONDS + seconds(config.clock_skew),
        }
    }

    fn judge(self, t: i64, now: i64) -> Result<(), Inauthentic> {
        if t < now.saturating_sub(self.grace_seconds) {
            Err(Inauthentic::Expired)
        } else if t > now.saturating_add(self.ahead_seconds) {
            Err(Inauthentic::TooFarAhead)
        } else {
            Ok(())
        }
    }
}

/// Why a body proves nothing about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inauthentic {
    /// `t` or `sign` is absent: no key is set at the provider, or a stranger calls.
    SignatureMissing,
    /// `t` is no ten-digit integer, or `sign` is no string.
    SignatureMalformed,
    /// No active key makes this signature.
    SignatureMismatch,
    /// Too old.
    Expired,
    /// Further ahead than the provider ever signs.
    TooFarAhead,
    /// The matching keys are bound to other accounts or domains.
    OutOfScope,
    /// The matching keys are bound, and the callback does not name what they are bound to.
    ScopeMemberMissing,
}

/// Why a body is not an authentic callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Not one JSON object.
    Malformed(Malformed),
    /// Not signed by one of our keys.
    Inauthentic(Inauthentic),
}

/// A body whose sender holds one of our keys. What it says is not judged yet.
#[derive(Debug)]
pub struct AuthenticCallback<'a> {
    members: Members<'a>,
    key_index: usize,
    signed_seconds_ago: i64,
}

impl AuthenticCallback<'_> {
    /// Place of the key in the keyring.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    /// Seconds between the making of the signature and now, at least 0. Shows whether the sender renews `t` when it retries.
    #[must_use]
    pub fn signed_seconds_ago(&self) -> i64 {
        self.signed_seconds_ago
    }

    /// What the callback tells of.
    ///
    /// # Errors
    /// If `event_type` is absent or not an integer.
    pub fn kind(&self) -> Result<Kind, Unusable> {
        let number = integer::<u64>(&self.members, "event_type")?.ok_or(Unusable::missing("event_type"))?;
        Ok(Kind::of(number))
    }

    /// Reads the facts: an event to publish, or proof that there is nothing to publish.
    ///
    /// # Errors
    /// If a needed member is absent, or any known member has the wrong type or lies out of range.
    pub fn normalise(&self, redaction: &Redaction) -> Result<Normalised, Unusable> {
        match self.kind()? {
            Kind::Recording => super::normalise::recording(&self.members, redaction),
            other => Ok(Normalised::Ignored(Ignored(other))),
        }
    }

    /// What can be kept of a callback that makes no event.
    #[must_use]
    pub fn remains(&self, redaction: &Redaction) -> Remains {
        Remains::of(&self.members, redaction)
    }
}

/// Proves that the sender of `body` holds a key of `keyring`.
///
/// # Errors
/// If the body is not one JSON object, or is not signed by an active key that is good for what it names.
pub fn authenticate<'a>(
    body: &'a [u8],
    keyring: &Keyring,
    window: Window,
    now: Timestamp,
) -> Result<AuthenticCallback<'a>, Rejection> {
    let members = Members::parse(body).map_err(Rejection::Malformed)?;
    let (key_index, t) = prove(&members, keyring, window, now).map_err(Rejection::Inauthentic)?;
    // The sender's clock may be ahead of ours; a negative age would make the sum of all ages fall.
    let signed_seconds_ago = (now.seconds() - (t - SIGNATURE_LIFE_SECONDS)).max(0);
    Ok(AuthenticCallback { members, key_index, signed_seconds_ago })
}

fn prove(
    members: &Members<'_>,
    keyring: &Keyring,
    window: Window,
    now: Timestamp,
) -> Result<(usize, i64), Inauthentic> {
    let (Some(t), Some(sign)) = (members.get("t"), members.get("sign")) else {
        return Err(Inauthentic::SignatureMissing);
    };
    let digits = t.get();
    let seconds = ten_digits(digits).ok_or(Inauthentic::SignatureMalformed)?;
    let sign = String::deserialize(sign).map_err(|_| Inauthentic::SignatureMalformed)?;
    window.judge(seconds, now.seconds())?;

    // Every key is tried, whatever the ones before it gave, so that the time taken tells nothing.
    let matches: Vec<Choice> =
        keyring.keys().iter().map(|key| self::sign(key, digits).as_bytes().ct_eq(sign.as_bytes())).collect();
    let mut verdict = Inauthentic::SignatureMismatch;
    for (index, (key, matched)) in keyring.keys().iter().zip(matches).enumerate() {
        if bool::from(matched) {
            match in_scope(key, members) {
                Ok(()) => return Ok((index, seconds)),
                Err(reason) => verdict = reason,
            }
        }
    }
    Err(verdict)
}

/// The signature that `key` makes for `t`: 32 lower-case hexadecimal digits.
#[must_use]
pub fn sign(key: &Key, t: &str) -> String {
    let mut hasher = Md5::new();
    hasher.update(key.secret());
    hasher.update(t.as_bytes());
    hex::encode(hasher.finalize())
}

/// `t` from its source text, which is what gets hashed: ten digits, the first not zero, so it is canonical.
fn ten_digits(text: &str) -> Option<i64> {
    let canonical = text.len() == 10 && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical { text.parse().ok() } else { None }
}

/// Whether `key` is good for the account and push domain that the callback names.
fn in_scope(key: &Key, members: &Members<'_>) -> Result<(), Inauthentic> {
    let scope = key.scope();
    if !scope.app_ids.is_empty() {
        let app_id = integer::<u64>(members, "appid").ok().flatten().ok_or(Inauthentic::ScopeMemberMissing)?;
        if !scope.app_ids.contains(&app_id) {
            return Err(Inauthentic::OutOfScope);
        }
    }
    if !scope.push_domains.is_empty() {
        // Recording status and recording exception name the push domain `domain`, all others `app`.
        let status = matches!(integer::<u64>(members, "event_type"), Ok(Some(332 | 341)));
        let member = members.get(if status { "domain" } else { "app" });
        let domain = member.and_then(|value| String::deserialize(value).ok()).ok_or(Inauthentic::ScopeMemberMissing)?;
        if !scope.push_domains.iter().any(|bound| bound.eq_ignore_ascii_case(&domain)) {
            return Err(Inauthentic::OutOfScope);
        }
    }
    Ok(())
}
