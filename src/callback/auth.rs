//! Authentication: `sign = md5(key + t)`, every active key, constant time, and what the key is good for.
//!
//! The body is not covered by the signature, and MD5 can be extended: who holds one `(t, sign)` can compute the
//! signature of a longer `t`. So `t` is accepted only as a JSON integer of exactly ten digits and hashed in that
//! very form; the padding of MD5 can never be part of it. `t` is the second at which the signature expires, 600 s
//! after it was made; an upper bound keeps a leaked signature from living for ever.

use std::borrow::Cow;
use std::time::Duration;

use md5::{Digest, Md5};
use subtle::{Choice, ConstantTimeEq};

use super::keyring::{Key, Keyring};
use super::members::{Malformed, Members, string};
use super::normalise::{Normalised, Unusable, integer};
use super::{Config, Ignored, Kind, Published, Redaction, Remains, kinds};
use crate::event::Timestamp;

/// Seconds between the making of a signature and its expiry, by the provider's documentation.
const SIGNATURE_LIFE_SECONDS: i64 = 600;
/// The sender's last retry comes this long after its first attempt, at most: 12 times a minute's rest and 20 s of waiting
/// for an answer.
const LAST_RETRY_SECONDS: i64 = 12 * (60 + 20);

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

    /// From how many seconds that our clock is ahead of the sender's every callback is refused as expired.
    #[must_use]
    pub fn refuses_all_when_ahead(self) -> i64 {
        SIGNATURE_LIFE_SECONDS.saturating_add(self.grace_seconds)
    }

    /// From how many seconds that our clock is ahead the sender's last retries are refused as expired.
    #[must_use]
    pub fn refuses_late_retries_when_ahead(self) -> i64 {
        self.refuses_all_when_ahead().saturating_sub(LAST_RETRY_SECONDS).max(0)
    }

    /// From how many seconds that our clock is behind callbacks are refused as too far ahead.
    #[must_use]
    pub fn refuses_when_behind(self) -> i64 {
        self.ahead_seconds.saturating_sub(SIGNATURE_LIFE_SECONDS)
    }

    fn judge(self, t: i64, now: i64) -> Result<(), Untimely> {
        if t < now.saturating_sub(self.grace_seconds) {
            Err(Untimely::Expired)
        } else if t > now.saturating_add(self.ahead_seconds) {
            Err(Untimely::TooFarAhead)
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

/// How a signature is out of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untimely {
    /// Too old.
    Expired,
    /// Further ahead than the provider ever signs.
    TooFarAhead,
}

impl From<Untimely> for Inauthentic {
    fn from(untimely: Untimely) -> Self {
        match untimely {
            Untimely::Expired => Self::Expired,
            Untimely::TooFarAhead => Self::TooFarAhead,
        }
    }
}

/// Why a body is not an authentic callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Not one JSON object.
    Malformed(Malformed),
    /// Not signed by one of our keys.
    Inauthentic(Inauthentic),
    /// Signed by one of our keys, at another time: a late retry, a replay, or a clock that is wrong. Whoever calls is to
    /// see no difference to [`Rejection::Inauthentic`].
    Untimely {
        /// How it is out of time.
        untimely: Untimely,
        /// Place of the key in the keyring.
        key_index: usize,
        /// The sender's second at which it signed.
        signed_at: i64,
    },
}

/// A body whose sender holds one of our keys. What it says is not judged yet.
#[derive(Debug)]
pub struct AuthenticCallback<'a> {
    members: Members<'a>,
    key_index: usize,
    signed_at: i64,
    signed_seconds_ago: i64,
}

impl<'a> AuthenticCallback<'a> {
    /// Place of the key in the keyring.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    /// The second at which the sender signed, by its own clock.
    #[must_use]
    pub fn signed_at(&self) -> i64 {
        self.signed_at
    }

    /// Seconds between the making of the signature and now, at least 0. Shows whether the sender renews `t` when it retries.
    #[must_use]
    pub fn signed_seconds_ago(&self) -> i64 {
        self.signed_seconds_ago
    }

    /// A callback whose signature nobody looks at: it was authentic before it became a dead letter, which keeps no
    /// signature; or is only supposed to be, to explain it. The bridge itself must never call this.
    ///
    /// # Errors
    /// If `body` is not one JSON object.
    pub fn assumed_without_signature(body: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self { members: Members::parse(body)?, key_index: 0, signed_at: 0, signed_seconds_ago: 0 })
    }

    /// What the callback tells of.
    ///
    /// # Errors
    /// If `event_type` is absent or not an integer.
    pub fn kind(&self) -> Result<Kind, Unusable> {
        self.event_type().map(Kind::of)
    }

    fn event_type(&self) -> Result<u64, Unusable> {
        integer::<u64>(&self.members, "event_type")?.ok_or(Unusable::missing("event_type"))
    }

    /// Reads the facts: an event to publish, or proof that there is nothing to publish, since the kind is not among those
    /// that are `published`.
    ///
    /// # Errors
    /// If a needed member is absent, or any known member has the wrong type or lies out of range.
    pub fn normalise(&self, redaction: &Redaction, published: Published) -> Result<Normalised<'a>, Unusable> {
        let number = self.event_type()?;
        let kind = Kind::of(number);
        if !published.holds(kind) {
            return Ok(Normalised::Ignored(Ignored(kind, number)));
        }
        match (kind, kinds::reader(kind)) {
            (Kind::Recording, _) => super::normalise::recording(&self.members, redaction),
            (_, Some(reader)) => {
                let (notice, members_dropped) = reader.read(&self.members, redaction)?;
                Ok(Normalised::Notice { notice, members_dropped })
            }
            (_, None) => Ok(Normalised::Ignored(Ignored(kind, number))),
        }
    }

    /// Of a callback that was a dead letter: a member that is masked or cut short there, and part of the identity of the
    /// event. What becomes of it would be another event.
    #[must_use]
    pub fn altered_identity(&self) -> Option<&'static str> {
        let members = kinds::identity_of(self.kind().ok()?);
        members.iter().copied().find(|name| super::remains::is_altered(&self.members, name))
    }

    /// What can be kept of a callback that makes no event.
    #[must_use]
    pub fn remains(&self, redaction: &Redaction) -> Remains {
        // Of which kind it should be is not always told.
        let is_recording = self.kind().map_or(true, |kind| kind == Kind::Recording);
        Remains::of(&self.members, is_recording, redaction)
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
    let (digits, sign) = signature(&members).map_err(Rejection::Inauthentic)?;
    let t = ten_digits(digits).ok_or(Rejection::Inauthentic(Inauthentic::SignatureMalformed))?;
    let signed_at = t - SIGNATURE_LIFE_SECONDS;
    // The signature is compared in any case: whether a callback out of time is one of ours tells a wrong clock.
    match (window.judge(t, now.seconds()), signer(digits, &sign, &members, keyring)) {
        (Ok(()), Ok(key_index)) => {
            // The sender's clock may be ahead of ours; a negative age would make the sum of all ages fall.
            let signed_seconds_ago = (now.seconds() - signed_at).max(0);
            Ok(AuthenticCallback { members, key_index, signed_at, signed_seconds_ago })
        }
        (Ok(()), Err(inauthentic)) => Err(Rejection::Inauthentic(inauthentic)),
        (Err(untimely), Ok(key_index)) => Err(Rejection::Untimely { untimely, key_index, signed_at }),
        (Err(untimely), Err(_)) => Err(Rejection::Inauthentic(untimely.into())),
    }
}

/// The source text of `t`, and `sign`.
fn signature<'a>(members: &Members<'a>) -> Result<(&'a str, Cow<'a, str>), Inauthentic> {
    let (Some(t), Some(sign)) = (members.get("t"), members.get("sign")) else {
        return Err(Inauthentic::SignatureMissing);
    };
    let sign = string(sign).ok_or(Inauthentic::SignatureMalformed)?;
    Ok((t.get(), sign))
}

/// The place of the first key that makes `sign` of `digits` and is good for what the callback names.
fn signer(digits: &str, sign: &str, members: &Members<'_>, keyring: &Keyring) -> Result<usize, Inauthentic> {
    // Every key is tried, whatever the ones before it gave, so that the time taken tells nothing.
    let matches: Vec<Choice> =
        keyring.keys().iter().map(|key| hexadecimal(key, digits).ct_eq(sign.as_bytes())).collect();
    let mut verdict = Inauthentic::SignatureMismatch;
    for (index, (key, matched)) in keyring.keys().iter().zip(matches).enumerate() {
        if bool::from(matched) {
            match in_scope(key, members) {
                Ok(()) => return Ok(index),
                Err(reason) => verdict = reason,
            }
        }
    }
    Err(verdict)
}

/// The signature that `key` makes for `t`: 32 lower-case hexadecimal digits.
#[must_use]
pub fn sign(key: &Key, t: &str) -> String {
    hexadecimal(key, t).map(char::from).iter().collect()
}

/// The same, as ASCII.
fn hexadecimal(key: &Key, t: &str) -> [u8; 32] {
    let mut hasher = Md5::new();
    hasher.update(key.secret());
    hasher.update(t.as_bytes());
    let mut digits = [0; 32];
    hex::encode_to_slice(hasher.finalize(), &mut digits).expect("16 bytes are 32 digits");
    digits
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
        let domain = member.and_then(string).ok_or(Inauthentic::ScopeMemberMissing)?;
        if !scope.push_domains.iter().any(|bound| bound.eq_ignore_ascii_case(&domain)) {
            return Err(Inauthentic::OutOfScope);
        }
    }
    Ok(())
}
