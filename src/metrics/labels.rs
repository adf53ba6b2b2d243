//! The closed sets from which label values come.

use crate::callback::Kind;
use crate::refusal::Refusal;

/// What became of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Safe: acknowledged by Kafka.
    Accepted,
    /// Safe: synced in the spool.
    Spooled,
    /// Safe: the repeat of an event that is safe already.
    Duplicate,
    /// Authentic, of a kind that is not published.
    Ignored(Kind),
    /// Authentic, of a kind that is not published: synced among the other events.
    PassedOn(Kind),
    /// Authentic, and no event can be made of it: synced among the dead letters. The reason is the one for which it
    /// would have been refused without them.
    DeadLettered(Refusal),
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
            Self::Accepted | Self::Spooled => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored(_) => "ignored",
            Self::PassedOn(_) => "passed_on",
            Self::DeadLettered(_) => "dead_lettered",
            Self::Refused(_) => "refused",
            Self::Unresolved => "unresolved",
        }
    }

    /// Value of the `reason` label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Accepted => "kafka",
            Self::Spooled => "spool",
            Self::Duplicate => "repeat",
            Self::Ignored(kind) | Self::PassedOn(kind) => kind.label(),
            Self::DeadLettered(refusal) | Self::Refused(refusal) => refusal.label(),
            Self::Unresolved => "dropped",
        }
    }
}

/// Why a connection was closed on arrival, or an idle one to make room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// As many connections are open as the configuration allows.
    Limit,
    /// As many connections of this source are open as the configuration allows.
    SourceLimit,
    /// As many connections of operators are open as the admin listener allows.
    AdminLimit,
    /// The operating system had no descriptor or memory for it.
    NotAccepted,
}

impl ConnectionRefusal {
    pub(super) const ALL: [Self; 4] = [Self::Limit, Self::SourceLimit, Self::AdminLimit, Self::NotAccepted];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::SourceLimit => "source_limit",
            Self::AdminLimit => "admin_limit",
            Self::NotAccepted => "not_accepted",
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
    /// What came is no TLS, or none that is spoken here.
    HandshakeFailed,
    /// The TLS handshake did not end in time.
    HandshakeTooSlow,
    /// The client left, or the network failed.
    Broken,
}

impl ConnectionFault {
    pub(super) const ALL: [Self; 5] =
        [Self::Unreadable, Self::HeadTooSlow, Self::HandshakeFailed, Self::HandshakeTooSlow, Self::Broken];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::HeadTooSlow => "head_too_slow",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTooSlow => "handshake_too_slow",
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
    /// A message was not acknowledged within its deadline.
    AckDeadline,
    /// Its queue was full.
    QueueFull,
    /// A message was reported as failed.
    Failed,
    /// No broker could be reached.
    Unreachable,
    /// The files of the login or of TLS have changed.
    Credentials,
    /// The one before could not be made.
    NotCreated,
}

impl RebuildReason {
    pub(super) const ALL: [Self; 8] = [
        Self::Fatal,
        Self::Watchdog,
        Self::AckDeadline,
        Self::QueueFull,
        Self::Failed,
        Self::Unreachable,
        Self::Credentials,
        Self::NotCreated,
    ];

    /// Value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Watchdog => "watchdog",
            Self::AckDeadline => "ack_deadline",
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::NotCreated => "not_created",
        }
    }
}

/// Where new messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Straight to Kafka.
    Direct,
    /// To the spool; nothing is published.
    Spooling,
    /// To the spool, which is being published.
    Draining,
    /// Nowhere: the process has stopped.
    Stopped,
}

impl DeliveryState {
    pub(super) const ALL: [Self; 4] = [Self::Direct, Self::Spooling, Self::Draining, Self::Stopped];

    /// Value of the `state` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spooling => "spooling",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
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
