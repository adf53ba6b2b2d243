//! A network of IP addresses, written as `10.0.0.0/8`, `2001:db8::/32` or one bare address.
//!
//! A network names exactly one set of addresses: host bits beyond the prefix are refused rather than ignored, because
//! `10.1.2.3/8` is more often a slip than a wish for 16 million addresses. A dual-stack socket shows an IPv4 peer as
//! `::ffff:a.b.c.d`; such an address is treated as the IPv4 address that it is, on both sides of the comparison.

use std::fmt;
use std::net::IpAddr;

const IPV4_BITS: u8 = 32;
const IPV6_BITS: u8 = 128;
/// `::ffff:0:0/96`, in which IPv6 writes IPv4 addresses (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = IPV6_BITS - IPV4_BITS;

/// A network: an address whose bits beyond the prefix are zero, and the length of that prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `None` if `text` is no address, the prefix is no decimal number within the address, or a bit beyond it is set.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (written, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = written.parse().ok()?;
        let bits = bits_of(written);
        let prefix = prefix.map_or(Some(bits), decimal).filter(|prefix| *prefix <= bits)?;
        let address = written.to_canonical();
        // An IPv4 network written in IPv6 keeps its meaning; one wider than the mapped range stays an IPv6 network.
        let network = match (written, address) {
            (IpAddr::V6(_), IpAddr::V4(_)) if prefix < MAPPED_BITS => Self { address: written, prefix },
            (IpAddr::V6(_), IpAddr::V4(_)) => Self { address, prefix: prefix - MAPPED_BITS },
            _ => Self { address, prefix },
        };
        (network.masked(network.address) == network.address).then_some(network)
    }

    /// Whether `peer` lies in this network. An IPv4 peer never lies in an IPv6 network.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        peer.is_ipv4() == self.address.is_ipv4() && self.masked(peer) == self.address
    }

    /// `address` with its bits beyond the prefix cleared. A shift by the full width is what a prefix of 0 means, and
    /// Rust's checked shift answers it with nothing: no bit is kept.
    fn masked(&self, address: IpAddr) -> IpAddr {
        let host_bits = u32::from(bits_of(address).saturating_sub(self.prefix));
        match address {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { IPV4_BITS } else { IPV6_BITS }
}

/// Decimal digits only: the standard parser would take `+8`, and `08` may have been meant as octal.
fn decimal(text: &str) -> Option<u8> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, peer: &str) -> bool {
        Network::parse(network).expect("a network").contains(peer.parse().expect("an address"))
    }

    #[test]
    fn a_network_holds_its_first_and_last_address_and_no_neighbour() {
        for (network, first, last, before, after) in [
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.255", "192.0.2.127", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.6", "192.0.2.8"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.7", "192.0.2.6", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7::", "2001:db9::"),
            ("::1/128", "::1", "::1", "::", "::2"),
            ("::1", "::1", "::1", "::", "::2"),
        ] {
            assert!(contains(network, first), "{network} holds {first}");
            assert!(contains(network, last), "{network} holds {last}");
            assert!(!contains(network, before), "{network} does not hold {before}");
            assert!(!contains(network, after), "{network} does not hold {after}");
        }
    }

    #[test]
    fn a_prefix_of_zero_holds_every_address_of_its_family_and_none_of_the_other() {
        assert!(contains("0.0.0.0/0", "0.0.0.0") && contains("0.0.0.0/0", "255.255.255.255"));
        assert!(contains("::/0", "::") && contains("::/0", "ffff::1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(!contains("::/0", "192.0.2.1"));
    }

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_socket_is_an_ipv4_peer() {
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(!contains("192.0.2.0/24", "::ffff:192.0.3.9"));
        assert!(!contains("::/0", "::ffff:192.0.2.9"));
        assert_eq!(Network::parse("::ffff:192.0.2.0/120"), Network::parse("192.0.2.0/24"));
        assert_eq!(Network::parse("::ffff:192.0.2.9"), Network::parse("192.0.2.9"));
    }

    #[test]
    fn what_names_no_network_exactly_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/256",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8/8",
            "10.0.0.0/ 8",
            " 10.0.0.0/8",
            "10.0.0/8",
            "10.1.0.0/8",
            "192.0.2.1/0",
            "::1/0",
            "::/129",
            "2001:db8::1/64",
            "[::1]",
            "fe80::1%eth0",
            "example.com",
            "::ffff:192.0.2.1/95",
            "::ffff:192.0.2.1/120",
        ] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_network_displays_with_its_prefix() {
        for (text, shown) in [("10.0.0.0/8", "10.0.0.0/8"), ("192.0.2.7", "192.0.2.7/32"), ("::1", "::1/128")] {
            assert_eq!(Network::parse(text).map(|network| network.to_string()).as_deref(), Some(shown));
        }
    }
}
