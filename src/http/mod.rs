//! The HTTP edge: at present only what can be configured of it.

pub mod admin;
mod network;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use self::network::Network;

/// What can be configured of the callback listener.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where callbacks are taken.
    pub listen: SocketAddr,
    /// The one path that takes callbacks.
    pub path: String,
    /// The path that answers load balancers.
    pub health_path: String,
    /// Longest body taken, in bytes.
    pub body_bytes_max: usize,
    /// From a request's head to its answer.
    pub request_deadline: Duration,
    /// For a request's head to arrive, and for an idle connection to send one.
    pub header_deadline: Duration,
    /// A connection older than this is closed after its next answer.
    pub connection_age_max: Duration,
    /// Connections open at once.
    pub connections_max: usize,
    /// Connections open at once from one address; 0 is no limit.
    pub connections_per_source_max: usize,
    /// Callbacks being worked on at once.
    pub in_flight_max: usize,
    /// Networks that may send callbacks; empty is all.
    pub allowed_networks: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            path: "/callbacks/recording".to_owned(),
            health_path: "/healthz".to_owned(),
            body_bytes_max: 64 * 1024,
            request_deadline: Duration::from_secs(15),
            header_deadline: Duration::from_secs(5),
            connection_age_max: Duration::from_secs(10 * 60),
            connections_max: 8192,
            connections_per_source_max: 0,
            in_flight_max: 8192,
            allowed_networks: Vec::new(),
        }
    }
}
