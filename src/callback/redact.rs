//! Masking of secrets in what the provider sends along.
//!
//! `stream_param` carries the live push credential (`txSecret`), usually still good for hours when the callback
//! arrives; publishing it would hand every consumer the right to push. The text is no clean form encoding
//! (`mix=layer:b;session_id:7;t_id:1`), so it is taken apart at every separator that has been seen, and names are
//! compared with percent signs decoded.

/// What stands in place of a masked value.
pub(super) const MASK: &str = "***";

const SENSITIVE: [&str; 6] = ["secret", "token", "sign", "password", "auth", "key"];

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
        let name = percent_decoded(name).to_ascii_lowercase();
        SENSITIVE.iter().any(|part| name.contains(part)) || self.further.iter().any(|part| name.contains(part.as_str()))
    }

    /// `text` with the value of every hidden `name=value` or `name:value` replaced by [`MASK`].
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        text.split_inclusive(['&', ';', '?', '#', ',', ' ']).map(|piece| self.mask_piece(piece)).collect()
    }

    fn mask_piece(&self, piece: &str) -> String {
        let separator = piece.chars().last().filter(|last| "&;?#, ".contains(*last));
        let body = separator.map_or(piece, |last| piece.strip_suffix(last).unwrap_or(piece));
        let mut kept = String::with_capacity(piece.len());
        let mut rest = body;
        // A value may itself be `name:value`, as in `mix=token:abc`; each name on the way is looked at.
        while let Some((name, value)) = rest.split_once(['=', ':']) {
            let sign = rest.get(name.len()..=name.len()).unwrap_or("=");
            kept.push_str(name);
            kept.push_str(sign);
            rest = value;
            if self.hides(name) {
                rest = if value.is_empty() { "" } else { MASK };
                break;
            }
        }
        kept.push_str(rest);
        kept.extend(separator);
        kept
    }
}

/// Decodes `%41` to `A`; what is no such escape stays as it is.
fn percent_decoded(name: &str) -> String {
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
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(redaction.mask(text), masked, "{text}");
        }
    }
}
