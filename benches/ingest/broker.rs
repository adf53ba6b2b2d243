//! The broker that all servers share.

use rdkafka::mocking::MockCluster;

use super::support::kafka::{Cluster, Topic};

pub(crate) const TOPIC: &str = "recordings";
const PARTITIONS: i32 = 12;

/// One node of Apache Kafka, or the mock.
pub(crate) enum Broker {
    Kafka(Cluster),
    Mock(MockCluster<'static, rdkafka::producer::DefaultProducerContext>),
}

impl Broker {
    pub(crate) fn start(mock: bool) -> Self {
        if mock {
            let cluster = MockCluster::new(1).unwrap();
            cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
            return Self::Mock(cluster);
        }
        let cluster = Cluster::start(1);
        // The load of a long run must not fill the disk.
        let properties = [("segment.bytes", "67108864"), ("retention.bytes", "134217728")];
        let topic = Topic { name: TOPIC, partitions: PARTITIONS, replication: 1, min_isr: 1, properties: &properties };
        cluster.create_topic(&topic);
        Self::Kafka(cluster)
    }

    pub(crate) fn addresses(&self) -> String {
        match self {
            Self::Kafka(cluster) => cluster.brokers(),
            Self::Mock(cluster) => cluster.bootstrap_servers(),
        }
    }

    /// Dead, at once.
    pub(crate) fn kill(&self) {
        match self {
            Self::Kafka(cluster) => cluster.kill(1),
            Self::Mock(cluster) => cluster.broker_down(1).unwrap(),
        }
    }

    /// Alive again.
    pub(crate) fn restart(&self) {
        match self {
            Self::Kafka(cluster) => cluster.restart(1),
            Self::Mock(cluster) => cluster.broker_up(1).unwrap(),
        }
    }
}
