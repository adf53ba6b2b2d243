//! Masking of secrets in what the provider sends along.
//!
//! `stream_param` carries the live push credential (`txSecret`), usually still good for hours when the callback
//! arrives; publishing it would hand every consumer the right to push. The text is no clean form encoding
//! (`mix=layer:b;session_id:7;t_id:1`), and other texts hold headers, addresses or JSON. So nothing is parsed: a hidden
//! name is looked for before every `=` and `:`, and where it is unclear how far its value reaches, more is masked
//! rather than less. A text without a hidden name stays as it is, byte for byte.

use std::borrow::Cow;

/// What stands in place of a masked value.
pub(super) const MASK: &str = "***";
/// What ends a text that was cut short.
pub(super) const CUT: char = '…';

const SENSITIVE: [&str; 6] = ["secret", "token", "sign", "password", "auth", "key"];

/// How often a text may be percent-encoded: an address within a parameter of an address is encoded twice.
const DECODINGS: usize = 2;
/// How far ahead the next name is looked for, in characters; without a bound, a hostile text would cost its square.
const AHEAD_MAX: usize = 96;
/// Longest name of an unknown member, in bytes.
const MEMBER_NAME_BYTES_MAX: usize = 128;

/// Which names hide their values.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    further: Vec<String>,
}

impl Redaction {
    /// Masks the built-in names and every name that contains one of `further`, in any case.
    #[must_use]
    pub fn new(further: &[String]) -> Self {
        Self { further: further.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether the value under `name` must not leave.
    #[must_use]
    pub fn hides(&self, name: &str) -> bool {
        let name = percent_decoded(name);
        let holds = |part: &str| {
            let (name, part) = (name.as_bytes(), part.as_bytes());
            part.is_empty() || name.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
        };
        SENSITIVE.iter().any(|part| holds(part)) || self.further.iter().any(|part| holds(part))
    }

    /// Whether `text` names a secret itself, as in `{"name": "token", "value": "abc"}`.
    pub(super) fn is_name_of_a_secret(&self, text: &str) -> bool {
        is_member_name(text) && self.hides(text)
    }

    /// `text` with the value of every hidden `name=value` or `name:value` replaced by `***`. A text in which nothing is
    /// hidden, as nearly all are, is not copied.
    #[must_use]
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // Not ended early, so that the compiler can look at many bytes at once.
        let may_hide = |byte: u8| u8::from(byte == b'=') | u8::from(byte == b':') | u8::from(byte == b'%');
        if text.bytes().fold(0, |found, byte| found | may_hide(byte)) == 0 {
            return Cow::Borrowed(text);
        }
        let masked = self.mask_plain(text);
        if !masked.contains('%') {
            return masked;
        }
        masked.split_inclusive('&').map(|piece| self.mask_encoded(piece)).collect()
    }

    /// The same for a text that may be owned.
    pub(super) fn masked<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        match text {
            Cow::Borrowed(text) => self.mask(text),
            Cow::Owned(text) => match self.mask(&text) {
                Cow::Owned(masked) => Cow::Owned(masked),
                Cow::Borrowed(_) => Cow::Owned(text),
            },
        }
    }

    /// Masks what can be read without decoding.
    fn mask_plain<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut kept = String::new();
        // Of `rest`, what is not yet kept begins at `open`.
        let (mut open, mut rest) = (text, text);
        // A value may itself be `name:value`, as in `mix=token:abc`; each name on the way is looked at.
        while let Some((before, _, after)) = split_at_sign(rest) {
            rest = after;
            if self.hides(last_name(before)) {
                let value = after.trim_start_matches(is_filler);
                let behind = after_value(after, value);
                if behind.len() < value.len() {
                    kept.reserve(text.len());
                    kept.push_str(open.strip_suffix(value).unwrap_or_default());
                    kept.push_str(MASK);
                    (open, rest) = (behind, behind);
                }
            }
        }
        if kept.is_empty() {
            return Cow::Borrowed(text);
        }
        kept.push_str(open);
        Cow::Owned(kept)
    }

    /// Masks the whole value of a piece that shows a secret once it is decoded: where in it the secret lies cannot be
    /// told without changing how the rest is written.
    fn mask_encoded(&self, piece: &str) -> String {
        let (body, end) = piece.strip_suffix('&').map_or((piece, ""), |body| (body, "&"));
        if !self.shows_decoded(body) {
            return piece.to_owned();
        }
        match split_at_sign(body).filter(|(name, ..)| !self.shows_decoded(name)) {
            Some((name, sign, _)) => format!("{name}{sign}{MASK}{end}"),
            None => format!("{MASK}{end}"),
        }
    }

    fn shows_decoded(&self, text: &str) -> bool {
        decodings(text).any(|decoded| self.mask_plain(&decoded) != decoded)
    }
}

/// Whether the name of an unknown member is one, and no `name=value` or sentence that could hold a secret itself.
pub(super) fn is_member_name(name: &str) -> bool {
    let odd = |letter: char| matches!(letter, '=' | ':') || letter.is_whitespace() || letter.is_control();
    name.len() <= MEMBER_NAME_BYTES_MAX && !name.contains(odd) && decodings(name).all(|name| !name.contains(odd))
}

/// What lies before the first `=` or `:`, the sign, and what lies behind it.
fn split_at_sign(text: &str) -> Option<(&str, &str, &str)> {
    // Both signs are one byte, which is part of no other letter.
    let place = text.bytes().position(|byte| matches!(byte, b'=' | b':'))?;
    let (before, rest) = text.split_at_checked(place)?;
    let (sign, after) = rest.split_at_checked(1)?;
    Some((before, sign, after))
}

/// What may stand between a name, its sign and its value: `"token" : "abc"`, with or without escapes.
fn is_filler(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '"' | '\'' | '\\')
}

/// The name that a sign right after `text` belongs to.
fn last_name(text: &str) -> &str {
    text.trim_end_matches(is_filler).rsplit(['&', ';', '?', '#', ',', ' ']).next().unwrap_or_default()
}

/// What follows a hidden value in `text`, where `value` is `text` without the filler before it.
///
/// A value ends at `&`. It ends at `;`, `,` and a space only if a name follows, since passwords and headers hold those
/// themselves; never within quotes, and at no such sign if it is nested.
fn after_value<'a>(text: &'a str, value: &'a str) -> &'a str {
    let filler = text.strip_suffix(value).unwrap_or_default();
    let quote = filler.chars().last().filter(|last| matches!(last, '"' | '\''));
    let open = quote.and_then(|quote| value.split_once(quote)).map_or(value, |(_, behind)| behind);
    let nested = value.starts_with(['{', '[', '(']);
    for (place, sign) in open.char_indices() {
        if sign == '&' || (!nested && matches!(sign, ';' | ',' | ' ')) {
            let rest = open.get(place..).unwrap_or_default();
            if sign == '&' || name_follows(rest) {
                return rest;
            }
        }
    }
    ""
}

/// Whether `text`, which starts with a separator, goes on with `name=value` or `name:value`. A sign with nothing or
/// another `=` behind it is the padding of Base64.
fn name_follows(text: &str) -> bool {
    let end = text.char_indices().nth(AHEAD_MAX).map_or(text.len(), |(place, _)| place);
    let ahead = text.get(1..end).unwrap_or_default();
    let Some((name, _, value)) = split_at_sign(ahead) else { return false };
    let name = name.trim_matches(is_filler);
    let named = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '%');
    !name.is_empty() && name.chars().all(named) && !value.trim().is_empty() && !value.starts_with('=')
}

/// `text` with its percent signs decoded once, twice and so on, as long as there is something to decode.
fn decodings(text: &str) -> impl Iterator<Item = String> {
    let decoded = |text: &str| Some(percent_decoded(text).into_owned()).filter(|decoded| decoded != text);
    let once = text.contains('%').then(|| decoded(text)).flatten();
    std::iter::successors(once, move |text| decoded(text)).take(DECODINGS)
}

/// Decodes `%41` to `A`; what is no such escape stays as it is.
fn percent_decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let bytes = name.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|pair| hex::decode(pair).ok());
        if let Some(byte) = escaped.and_then(|pair| pair.first().copied()) {
            decoded.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_are_masked_and_everything_else_stays() {
        let redaction = Redaction::new(&["Session_Ticket".to_owned()]);
        for (text, masked) in [
            ("", ""),
            ("txSecret=0011&txTime=69830DEC", "txSecret=***&txTime=69830DEC"),
            ("TXSECRET=0011", "TXSECRET=***"),
            ("tx%53ecret=0011", "tx%53ecret=***"),
            ("?txSecret=a=b:c", "?txSecret=***"),
            ("mix=layer:b;session_id:7;t_id:1&record=hls|flv", "mix=layer:b;session_id:7;t_id:1&record=hls|flv"),
            ("mix=layer:b;token:7;t_id:1", "mix=layer:b;token:***;t_id:1"),
            ("mix=token:7", "mix=token:***"),
            ("userid=MQ==", "userid=MQ=="),
            ("a=1&wsAuthKey=x;y=2", "a=1&wsAuthKey=***;y=2"),
            ("my_session_ticket=9", "my_session_ticket=***"),
            ("txSecret=", "txSecret="),
            ("txSecret", "txSecret"),
            ("rtmp://h/live/s?txSecret=1&b=2", "rtmp://h/live/s?txSecret=***&b=2"),
            ("Authorization: Bearer X", "Authorization: ***"),
            ("token=a,X", "token=***"),
            ("auth=Bearer X", "auth=***"),
            ("auth=Bearer X==&b=1", "auth=***&b=1"),
            ("auth=Bearer X=", "auth=***"),
            ("password=p;X", "password=***"),
            ("password=p;X&a=1", "password=***&a=1"),
            ("token=a?b=X", "token=***"),
            ("token=a; user=b, c:d", "token=***; user=b, c:d"),
            ("x {\"txSecret\": \"X\",\"a\":1}", "x {\"txSecret\": \"***,\"a\":1}"),
            ("{\\\"txSecret\\\" :\t\\\"X\\\"}", "{\\\"txSecret\\\" :\t\\\"***"),
            ("token: { \"a\": \"X\" }", "token: ***"),
            ("token=\"a&X\"&b=1", "token=\"***&b=1"),
            ("token = X", "token = ***"),
            ("token= &b=1", "token= &b=1"),
            ("a=1&url=rtmp%3A%2F%2Fh%2Flive%2Fs%3FtxSecret%3DX%26txTime%3D1&b=%20", "a=1&url=***&b=%20"),
            ("url=h%253FtxSecret%253DX", "url=***"),
            ("url=h%3Ftx%2553ecret%3DX", "url=***"),
            ("txSecret%3DX&a=1", "***&a=1"),
            ("txSecret%3DX=1", "***"),
            ("url=h%3Fname%3DX%26sign%3D", "url=h%3Fname%3DX%26sign%3D"),
            ("mix=a%20b;token:7;t_id:1", "mix=a%20b;token:***;t_id:1"),
        ] {
            assert_eq!(redaction.mask(text), masked, "{text}");
        }
    }

    #[test]
    fn a_member_name_holds_no_value() {
        for name in ["vod2Flag", "push_key", "a-b.c", "名", "", &"n".repeat(128)] {
            assert!(is_member_name(name), "{name}");
        }
        for name in ["txSecret=X", "a:X", "a X", "a\tX", "a\u{7}", "txSecret%3DX", "a%253DX", &"n".repeat(129)] {
            assert!(!is_member_name(name), "{name}");
        }
    }

    fn percent_encoded(text: &str) -> String {
        text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
    }

    proptest! {
        #[test]
        fn no_secret_behind_a_hidden_name_survives(
            before in "([a-z]{1,3}[=:][a-z0-9]{0,3}[&;, ?#]){0,3}",
            name in "[a-z\"]{0,2}(txSecret|TOKEN|sign|password|auth|wsKey)\"?",
            sign in "[ \t]{0,2}[=:][ \t\"'\\\\]{0,3}",
            head in "(Bearer |p;|a,|[a-z0-9]{1,4}[;, ?#/|])?",
            after in "([&;,][a-z]{1,3}[=:][a-z0-9]{1,3}){0,3}",
            encoded in 0_usize..3,
        ) {
            const X: &str = "4X4X4X4X";
            let secret = format!("{name}{sign}{head}{X}");
            let hidden = (0..encoded).fold(secret, |text, _| percent_encoded(&text));
            let prefix = if encoded > 0 { "url=" } else { "" };
            let text = format!("{before}{prefix}{hidden}{after}");
            let mut shown = Redaction::default().mask(&text).into_owned();
            for _ in 0..3 {
                prop_assert!(!shown.contains(X), "{text} -> {shown}");
                shown = percent_decoded(&shown).into_owned();
            }
        }

        #[test]
        fn a_text_without_a_hidden_name_stays(text in "([a-z%=:&;, ?#\"'\\{\\[\t直]|%[2-7][0-9A-F]|name=){0,40}") {
            let redaction = Redaction::default();
            let clean = !redaction.hides(&text) && decodings(&text).all(|text| !redaction.hides(&text));
            prop_assume!(clean);
            prop_assert_eq!(redaction.mask(&text), text.as_str());
        }
    }
}
