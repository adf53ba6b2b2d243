//! What stands between a client and a broker, sorted by what an operator has to look at.

/// What stands between a client and a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The broker refuses the login.
    Authentication,
    /// No TLS: one side does not believe the other, or does not speak it.
    Tls,
    /// The name of the broker has no address.
    Name,
    /// No connection, or it broke.
    Connection,
    /// Anything else.
    Other,
}

impl Trouble {
    /// What is wrong and where to look. librdkafka's own words stand beside it.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Authentication => {
                "a broker refuses our login: compare kafka.sasl and what its password_file holds with the brokers' users"
            }
            Self::Tls => "no TLS with a broker: compare kafka.tls with the brokers' certificates",
            Self::Name => {
                "a broker's name has no address: look at kafka.brokers, advertised.listeners, the name server"
            }
            Self::Connection => "no connection to a broker",
            Self::Other => "the Kafka client complains",
        }
    }

    /// Whether waiting does not mend it.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Authentication | Self::Tls)
    }
}
