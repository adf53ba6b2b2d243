//! Stub, replaced at merge.
use std::net::IpAddr;
/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network { address: IpAddr, prefix: u8 }
impl Network {
    /// Whether it contains.
    #[must_use]
    pub fn contains(&self, _peer: IpAddr) -> bool { let _ = (self.address, self.prefix); true }
}
