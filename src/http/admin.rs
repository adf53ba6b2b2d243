//! The admin listener: at present only what can be configured of it.

use std::net::{Ipv4Addr, SocketAddr};

/// What can be configured of the admin listener.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where metrics and probes are answered.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9090)) }
    }
}
