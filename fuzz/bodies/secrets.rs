//! Secrets that no input can know: they are made of the input itself.

use md5::{Digest, Md5};

/// As many letters of a secret give it away.
const TELLING: usize = 12;

/// A secret of 32 letters and digits for this `purpose`.
pub fn secret(purpose: &str, input: &[u8]) -> String {
    digest(&[purpose.as_bytes(), b"\0", input])
}

/// The provider's signature, calculated from its documentation: `md5(key + t)` in 32 hexadecimal digits.
pub fn signature(key: &str, t: &str) -> String {
    digest(&[key.as_bytes(), t.as_bytes()])
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` gives away a part of `secret`, in any case.
pub fn shows(text: &[u8], secret: &str) -> bool {
    let telling = &secret.as_bytes()[..TELLING];
    text.windows(TELLING).any(|window| window.eq_ignore_ascii_case(telling))
}
