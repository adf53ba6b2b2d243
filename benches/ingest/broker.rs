//! The broker that all servers share.

use std::net::SocketAddr;
use std::time::Duration;

use rdkafka::mocking::MockCluster;

use super::proxy;
use super::support::kafka::{Cluster, Extras, Listener, Topic, free_ports};

pub(crate) const TOPIC: &str = "recordings";
const PARTITIONS: i32 = 12;
/// Round trips of networks that alternatives are tried in, and the listeners that are that far away.
pub(crate) const DELAYS: [(&str, Duration); 2] =
    [("NEAR", Duration::from_millis(2)), ("FAR", Duration::from_millis(10))];
/// Another loopback address, at which the proxies take the listeners' ports.
const FAR: &str = "127.0.0.2";

/// One node of Apache Kafka, or the mock.
pub(crate) enum Broker {
    Kafka { cluster: Cluster, far: Vec<(Duration, String)> },
    Mock(MockCluster<'static, rdkafka::producer::DefaultProducerContext>),
}

impl Broker {
    pub(crate) fn start(mock: bool) -> Self {
        if mock {
            let cluster = MockCluster::new(1).unwrap();
            cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
            return Self::Mock(cluster);
        }
        let ports = free_ports(DELAYS.len());
        let slow =
            |(name, port): (&'static str, &u16)| Listener { name, protocol: "PLAINTEXT", host: FAR, port: *port };
        let listeners: Vec<_> = DELAYS.map(|(name, _)| name).into_iter().zip(&ports).map(slow).collect();
        let cluster = Cluster::start_with(1, |_, _| Extras { listeners: listeners.clone(), ..Extras::default() });
        let mut far = Vec::new();
        for ((_, delay), port) in DELAYS.into_iter().zip(ports) {
            let there = SocketAddr::from(([127, 0, 0, 1], port));
            // There and back.
            proxy::start(SocketAddr::from(([127, 0, 0, 2], port)), there, delay / 2);
            far.push((delay, format!("{FAR}:{port}")));
        }
        // The load of a long run must not fill the disk.
        let properties = [("segment.bytes", "67108864"), ("retention.bytes", "134217728")];
        let topic = Topic { name: TOPIC, partitions: PARTITIONS, replication: 1, min_isr: 1, properties: &properties };
        cluster.create_topic(&topic);
        Self::Kafka { cluster, far }
    }

    pub(crate) fn addresses(&self) -> String {
        match self {
            Self::Kafka { cluster, .. } => cluster.brokers(),
            Self::Mock(cluster) => cluster.bootstrap_servers(),
        }
    }

    /// Addresses at which it is this much of a round trip away.
    pub(crate) fn addresses_at(&self, delay: Duration) -> String {
        match self {
            Self::Kafka { far, .. } if !delay.is_zero() => {
                far.iter().find(|(known, _)| *known == delay).unwrap().1.clone()
            }
            Self::Kafka { .. } | Self::Mock(_) => self.addresses(),
        }
    }

    /// Dead, at once.
    pub(crate) fn kill(&self) {
        match self {
            Self::Kafka { cluster, .. } => cluster.kill(1),
            Self::Mock(cluster) => cluster.broker_down(1).unwrap(),
        }
    }

    /// Alive again.
    pub(crate) fn restart(&self) {
        match self {
            Self::Kafka { cluster, .. } => cluster.restart(1),
            Self::Mock(cluster) => cluster.broker_up(1).unwrap(),
        }
    }
}
