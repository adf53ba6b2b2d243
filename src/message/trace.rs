//! The trace that a callback belongs to, if a proxy or the sender says so: the header `traceparent` of W3C Trace
//! Context, which goes with the message so that a consumer can continue the trace.
//!
//! It comes from outside and is not signed, so nothing of it is taken but what the recommendation defines. What breaks
//! its rules is no trace. The bridge makes no span of its own.

use bytes::Bytes;

use super::{Header, Message};

/// Header of the trace, in HTTP and in Kafka.
pub const TRACE_PARENT: &str = "traceparent";

/// `00-<trace id>-<parent id>-<flags>`, as in version 00.
const LENGTH: usize = 55;

/// A trace and the span that is the callback's parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(Bytes);

impl TraceParent {
    /// Reads a header's value (W3C Trace Context, section 3.2). `None` if a receiver has to ignore it: version `ff`, an id
    /// of zeros, an upper-case letter, any other length. A version of the future may be longer; of it, what version 00
    /// knows is kept, in the form of version 00.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, further) = value.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let [version, trace_id, parent_id, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let lengths =
            [version, trace_id, parent_id, flags].map(<[u8]>::len) == [2, 32, 16, 2] && parts.next().is_none();
        let lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let zeros = |id: &[u8]| id.iter().all(|digit| *digit == b'0');
        if !lengths || !known.iter().all(lower_hex) || zeros(trace_id) || zeros(parent_id) {
            return None;
        }
        match version {
            b"00" => further.is_empty().then(|| Self(Bytes::copy_from_slice(known))),
            b"ff" => None,
            _ if further.first().is_some_and(|byte| *byte != b'-') => None,
            // Of the flags only "sampled", the lowest bit, is known.
            _ => {
                let sampled = flags
                    .last()
                    .is_some_and(|digit| matches!(digit, b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f'));
                let flags: &[u8] = if sampled { b"01" } else { b"00" };
                Some(Self([b"00", trace_id, parent_id, flags].join(&b'-').into()))
            }
        }
    }

    pub(super) fn header(self) -> Header {
        Header::new(TRACE_PARENT, self.0)
    }
}

impl Message {
    /// Says in a header which trace its callback belongs to.
    pub fn trace(&mut self, parent: TraceParent) {
        self.headers.push(parent.header());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn parsed(text: &str) -> Option<String> {
        TraceParent::parse(text.as_bytes()).map(|parent| String::from_utf8(parent.0.to_vec()).expect("it is ASCII"))
    }

    #[test]
    fn what_the_recommendation_allows_is_kept() {
        for flags in ["00", "01", "03", "ff"] {
            let value = format!("00-{TRACE}-{PARENT}-{flags}");
            assert_eq!(parsed(&value), Some(value));
        }
        let kept = |flags: &str| Some(format!("00-{TRACE}-{PARENT}-{flags}"));
        for (value, flags) in [
            (format!("01-{TRACE}-{PARENT}-00"), "00"),
            (format!("cc-{TRACE}-{PARENT}-03"), "01"),
            (format!("fe-{TRACE}-{PARENT}-fe-what-the-future-will-be like"), "00"),
            (format!("01-{TRACE}-{PARENT}-0f-"), "01"),
        ] {
            assert_eq!(parsed(&value), kept(flags), "{value}");
        }
    }

    #[test]
    fn what_a_receiver_has_to_ignore_is_no_trace() {
        let zeros = "0".repeat(32);
        let shorter = |text: &str| text.chars().skip(1).collect::<String>();
        for value in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-0"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("00-{TRACE}-{PARENT}-01 "),
            format!(" 00-{TRACE}-{PARENT}-01"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("01-{TRACE}-{PARENT}-01more"),
            format!("01-{TRACE}-{PARENT}-01."),
            format!("0x-{TRACE}-{PARENT}-01"),
            format!("FE-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", PARENT.to_uppercase()),
            format!("00-{TRACE}-{PARENT}-0A"),
            format!("00-{TRACE}-{PARENT}-0g"),
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}--{PARENT}-01", shorter(TRACE)),
            format!("00-{TRACE}_{PARENT}-01"),
            format!("00{TRACE}-{PARENT}-01aaa"),
            format!("00-{TRACE}é{}-01", shorter(PARENT)),
        ] {
            assert_eq!(parsed(&value), None, "{value}");
        }
    }
}
