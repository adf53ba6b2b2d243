//! The closed sets from which label values come.

use crate::callback::Kind;
use crate::refusal::Refusal;

/// What became of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Safe: acknowledged by Kafka.
    Accepted,
    /// Authentic, of a kind that is not published.
    Ignored(Kind),
    /// Not acknowledged.
    Refused(Refusal),
    /// Lost sight of: a defect of the bridge. Always 0.
    Unresolved,
}

impl Outcome {
    /// Value of the `outcome` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ignored(_) => "ignored",
            Self::Refused(_) => "refused",
            Self::Unresolved => "unresolved",
        }
    }

    /// Value of the `reason` label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Accepted => "kafka",
            Self::Ignored(kind) => kind.label(),
            Self::Refused(refusal) => refusal.label(),
            Self::Unresolved => "dropped",
        }
    }
}

/// Why a connection was closed before its first byte was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// As many connections are open as the configuration allows.
    Limit,
    /// As many connections of this source are open as the configuration allows.
    SourceLimit,
}

impl ConnectionRefusal {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::SourceLimit => "source_limit",
        }
    }
}

/// Why a connection ended without a request that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionFault {
    /// What came is not HTTP/1.1; answered with 400, 414 or 431.
    Unreadable,
    /// The head did not arrive in time.
    HeadTooSlow,
    /// The client left, or the network failed.
    Broken,
}

impl ConnectionFault {
    pub(super) const ALL: [Self; 3] = [Self::Unreadable, Self::HeadTooSlow, Self::Broken];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::HeadTooSlow => "head_too_slow",
            Self::Broken => "broken",
        }
    }
}

/// Why a producer was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildReason {
    /// It met a fatal error, after which it can never send again.
    Fatal,
    /// Messages were outstanding and nothing was acknowledged for too long.
    Watchdog,
}

impl RebuildReason {
    /// Value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Watchdog => "watchdog",
        }
    }
}

/// Connection state of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerState {
    /// Connected.
    Up,
    /// On the way.
    Connecting,
    /// Not connected.
    Down,
}

impl BrokerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Up, Self::Connecting, Self::Down];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Down => "down",
        }
    }
}
