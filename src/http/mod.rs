//! The HTTP edge: two listeners, one for the provider and one for operators.
//!
//! [`server`] accepts connections within limits, `places` says who gives way when there are too many, [`tls`] encrypts
//! them where asked to, with a `certificate` that may be replaced, `head` judges a request's head, [`intake`] takes a callback from
//! its body to its outcome, [`letter`] words why one makes no event, [`other`] what one of another kind becomes, `answer`
//! alone turns an outcome into a status, a label and a log line, and [`admin`] answers operators, who may look at [`status`]
//! and follow its `events`. HTTP/1.1 only: HTTP/2 and its floods are not in the build. Every wait here has a deadline.
//!
//! This module does not know Kafka: it hands a message to `delivery` and gets a receipt or an error.

pub mod admin;
mod answer;
mod budget;
mod certificate;
mod events;
mod head;
pub mod intake;
pub mod letter;
mod network;
pub mod other;
mod patience;
mod places;
pub mod server;
pub mod status;
mod tally;
pub mod tls;
mod unstoppable;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use network::Network;

use crate::delivery::Delivery;

/// The callback listener and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Path of callbacks.
    pub path: String,
    /// Path that tells load balancers on the traffic port whether the bridge is ready.
    pub health_path: String,
    /// Largest accepted body in bytes.
    pub body_bytes_max: usize,
    /// Time from a request's head to its answer.
    pub request_deadline: Duration,
    /// Time for a request's head to arrive, and for a connection to stay idle.
    pub header_deadline: Duration,
    /// Age at which a connection is closed after its current request, so that load balancers can spread anew.
    pub connection_age_max: Duration,
    /// Most open connections.
    pub connections_max: usize,
    /// Most open connections of one source address; 0 means no limit.
    pub connections_per_source_max: usize,
    /// Most authentic callbacks that wait to become safe.
    pub in_flight_max: usize,
    /// Networks that may send callbacks; empty means all.
    pub allowed_networks: Vec<Network>,
    /// Certificate and key; plain HTTP without.
    pub tls: Option<tls::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
            path: "/callbacks/recording".to_owned(),
            health_path: "/healthz".to_owned(),
            body_bytes_max: 64 * 1024,
            request_deadline: Duration::from_secs(15),
            header_deadline: Duration::from_secs(5),
            connection_age_max: Duration::from_secs(600),
            connections_max: 8192,
            connections_per_source_max: 0,
            in_flight_max: 8192,
            allowed_networks: Vec::new(),
            tls: None,
        }
    }
}

/// Whether a 200 could be made true now.
#[derive(Debug, Clone)]
pub struct Readiness {
    delivery: Delivery,
    stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// As ready as `delivery`, until told to stop.
    #[must_use]
    pub fn new(delivery: Delivery) -> Self {
        Self { delivery, stopping: Arc::new(AtomicBool::new(false)) }
    }

    /// Not ready from now on: the process stops.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the process stops.
    #[must_use]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Brings gauges up to date before they are read.
    pub(crate) fn observe(&self) {
        self.delivery.observe();
    }

    /// What keeps Kafka from taking events, as far as is known.
    #[must_use]
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        self.delivery.obstacle()
    }

    /// What the last probe of Kafka found; `None` before the first.
    #[must_use]
    pub(crate) fn probed(&self) -> Option<Result<(), String>> {
        self.delivery.probed()
    }

    /// Whether a 200 could be made true now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_stopping() && self.delivery.is_ready()
    }
}
