//! MD5 can be extended: from one signature and the length of its key anybody makes the signature of a longer `t`.
//!
//! Promise: no such forgery passes, for a key of any length, however the longer `t` is written. The forgeries here are
//! real: a receiver that hashes the bytes of `t` would be deceived by each.

use md5::{Digest as _, Md5};
use recording_bridge::callback::{Config, Key, Keyring, Scope, Window, authenticate};
use recording_bridge::event::Timestamp;
use serde_json::json;

use crate::support_app::{Bridge, Broker, KEY, epoch_seconds, facts, signature};

const NOW: u64 = 1_700_000_000;

/// Extends MD5: from the digest of a message of `length` bytes, the digest of that message, its padding and `suffix`.
/// The algorithm is that of RFC 1321, written out because no library lets its inner state be set.
fn extend_md5(digest: [u8; 16], length: usize, suffix: &[u8]) -> [u8; 16] {
    let mut state: Vec<u32> =
        digest.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
    let before = length + padding(length).len();
    let mut rest = suffix.to_vec();
    rest.extend(padding(before + suffix.len()));
    for block in rest.chunks_exact(64) {
        let words: Vec<u32> =
            block.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
        let (mut a, mut b, mut c, mut d) = (state[0], state[1], state[2], state[3]);
        for step in 0..64 {
            let (mixed, place) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "RFC 1321"
            )]
            let constant = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let turn = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]][step / 16][step % 4];
            let sum = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(words[place]);
            (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(turn)));
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(add);
        }
    }
    let bytes: Vec<u8> = state.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.try_into().expect("sixteen bytes")
}

/// What MD5 appends to a message of `length` bytes.
fn padding(length: usize) -> Vec<u8> {
    let mut padding = vec![0x80];
    padding.resize(1 + (119 - length % 64) % 64, 0);
    padding.extend((length as u64 * 8).to_le_bytes());
    padding
}

/// The longer `t` and its signature, made without the key: of its signature for `t` and of its length alone.
fn forge(key: &str, t: &str, suffix: &[u8]) -> (Vec<u8>, String) {
    let known = hex::decode(signature(key, t)).unwrap().try_into().unwrap();
    let length = key.len() + t.len();
    let forged = hex::encode(extend_md5(known, length, suffix));
    let longer = [t.as_bytes(), &padding(length), suffix].concat();
    assert_eq!(hex::encode(Md5::digest([key.as_bytes(), &longer].concat())), forged, "the forgery is a real one");
    (longer, forged)
}

/// `t` as JSON source, in every way that some receiver might take for these bytes, or for a number that begins like them.
fn encodings(t: &str, longer: &[u8], suffix: &[u8]) -> Vec<Vec<u8>> {
    let text: String = longer.iter().copied().map(char::from).collect();
    let quoted = |text: &str| format!("\"{text}\"").into_bytes();
    let each = |format: fn(u8) -> String| longer.iter().copied().map(format).collect::<String>();
    let digits = longer.iter().copied().filter(u8::is_ascii_digit).map(char::from).collect::<String>();
    let suffix = String::from_utf8_lossy(suffix);
    vec![
        // The very bytes, bare and as a string; then as text, and in the escapes of JSON, URLs, C and HTML.
        longer.to_vec(),
        [b"\"", longer, b"\""].concat(),
        quoted(&text),
        json!(text).to_string().into_bytes(),
        quoted(&each(|byte| format!("\\u{byte:04x}"))),
        quoted(&each(|byte| format!("\\u{byte:04X}"))),
        quoted(&each(|byte| format!("%{byte:02x}"))),
        quoted(&each(|byte| format!("\\\\x{byte:02x}"))),
        quoted(&each(|byte| format!("&#{byte};"))),
        quoted(&hex::encode(longer)),
        // What a loose parser makes a list, an object or a number of.
        json!(longer).to_string().into_bytes(),
        json!([text]).to_string().into_bytes(),
        json!({ "t": text }).to_string().into_bytes(),
        quoted(t),
        digits.into_bytes(),
        format!("{t}{suffix}").into_bytes(),
        format!("{t}.{suffix}").into_bytes(),
        format!("{t}.0").into_bytes(),
        format!("{t}e0").into_bytes(),
        format!("0{t}").into_bytes(),
        format!("+{t}").into_bytes(),
        format!("-{t}").into_bytes(),
        format!("{t} {suffix}").into_bytes(),
        format!("{t},\"t\":{}", json!(text)).into_bytes(),
        format!("{},\"t\":{t}", json!(text)).into_bytes(),
        t.as_bytes().to_vec(),
        suffix.as_bytes().to_vec(),
    ]
}

#[test]
fn no_forgery_passes_for_a_key_of_any_length_in_any_encoding() {
    let (now, window) = (Timestamp::from_seconds(NOW, 0).unwrap(), Window::new(&Config::new(Vec::new())));
    let t = (NOW + 300).to_string();
    let (mut tried, letters) = (0, KEY.repeat(8));
    for length in 1..=64 {
        let key = &letters[..length];
        let keyring = Keyring::new(vec![Key::new("only", key, Scope::default())]);
        let body = |t: &[u8], sign: &str| {
            let sign = format!(",\"sign\":\"{sign}\"}}");
            [format!("{{{},\"t\":", facts("forged")).as_bytes(), t, sign.as_bytes()].concat()
        };
        let genuine = body(t.as_bytes(), &signature(key, &t));
        assert!(authenticate(&genuine, &keyring, window, now).is_ok(), "what is refused below is refused for its t");
        for suffix in [&b""[..], b"0", b"9999999999", t.as_bytes(), b" ", b"\0"] {
            let (longer, forged) = forge(key, &t, suffix);
            for encoded in encodings(&t, &longer, suffix) {
                let forgery = body(&encoded, &forged);
                let shown = String::from_utf8_lossy(&forgery);
                assert!(authenticate(&forgery, &keyring, window, now).is_err(), "{length}: {shown}");
                tried += 1;
            }
        }
    }
    println!("{tried} forgeries");
}

#[test]
fn a_forged_extension_is_refused_by_the_bridge_and_nothing_is_published() {
    let (broker, t) = (Broker::start(), (epoch_seconds() + 600).to_string());
    let bridge = Bridge::start(&broker);
    let suffix = b"9999999999";
    let (forged_t, forged) = forge(KEY, &t, suffix);
    let escaped = forged_t.iter().map(|byte| format!("\\u{byte:04x}")).collect::<Vec<_>>().concat();
    let with_t = |t: &[u8]| {
        let mut body = format!("{{{},\"t\":", facts("forged")).into_bytes();
        body.extend(t);
        body.extend(format!(",\"sign\":\"{forged}\"}}").into_bytes());
        body
    };
    let quoted: Vec<u8> = [b"\"", &forged_t[..], b"\""].concat();
    let zeros: Vec<u8> = t.bytes().chain(*b"00000000").collect();
    for (body, status, reason) in [
        // The padding holds 0x80, which is no UTF-8 where it stands.
        (with_t(&forged_t), 400, "not_utf8"),
        (with_t(&quoted), 400, "not_utf8"),
        (with_t(format!("\"{escaped}\"").as_bytes()), 403, "signature_malformed"),
        (with_t(&zeros), 403, "signature_malformed"),
        (with_t(suffix), 403, "too_far_ahead"),
        (with_t(t.as_bytes()), 403, "signature_mismatch"),
    ] {
        let before = bridge.outcome("refused", reason);
        assert_eq!(bridge.post(body).status(), status, "{reason}");
        assert!(bridge.outcome("refused", reason) > before, "{reason}");
    }
    assert_eq!(broker.published(), 0);
}
