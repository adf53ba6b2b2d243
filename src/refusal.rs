//! Every reason for not acknowledging a callback: its status, its label, its sentence.
//!
//! The set is closed. The label goes to metrics and logs; the sentence is what the stranger at the other end may
//! read, and it never explains which check an inauthentic callback failed; the advice is for the operator alone.

/// Why a callback gets something other than a 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not JSON.
    NotJson,
    /// The body is JSON, but no object.
    NotObject,
    /// The object names a member twice.
    DuplicateMember,
    /// The head breaks the rules of HTTP/1.1 that this server insists on (Host, Transfer-Encoding).
    BadFraming,
    /// `t` or `sign` is absent.
    SignatureMissing,
    /// `t` is not a ten-digit integer, or `sign` is not a string.
    SignatureMalformed,
    /// No active key makes this signature.
    SignatureMismatch,
    /// `t` lies further in the past than the grace allows.
    Expired,
    /// `t` lies further in the future than the provider ever sets it.
    TooFarAhead,
    /// The matching keys are bound to other accounts or domains.
    OutOfScope,
    /// The matching keys are bound to accounts or domains, and the callback names none.
    ScopeMemberMissing,
    /// The peer's address is in none of the allowed networks.
    NetworkNotAllowed,
    /// No such path.
    PathUnknown,
    /// Another method than POST.
    MethodNotAllowed,
    /// The body did not arrive in time, or not before its connection had to give way to another.
    BodyTooSlow,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body is compressed or otherwise encoded.
    ContentEncoded,
    /// The client left before its body was whole. Nobody reads the answer.
    ClientGone,
    /// An authentic callback lacks a member that an event needs, and there is no spool to set it aside in.
    MemberMissing,
    /// An authentic callback has a member of the wrong type or out of range, and there is no spool to set it aside in.
    MemberInvalid,
    /// No event can be made of an authentic callback, and there is no room among the dead letters.
    DeadLettersFull,
    /// No event can be made of an authentic callback, and dead letters cannot be written.
    DeadLettersUnhealthy,
    /// An authentic callback is of a kind that is to be passed on, and there is no room among the other events.
    OtherEventsFull,
    /// An authentic callback is of a kind that is to be passed on, and other events cannot be written.
    OtherEventsUnhealthy,
    /// As many authentic callbacks wait as the configuration allows, or their bytes or those of unfinished bodies are too many.
    TooManyInFlight,
    /// Kafka did not acknowledge within the deadline.
    AckDeadline,
    /// The producer's queue is full.
    QueueFull,
    /// The producer is being rebuilt after a fatal error.
    ProducerFatal,
    /// Kafka refused the message.
    KafkaRefused,
    /// The spool has no room, and Kafka does not take the event.
    SpoolFull,
    /// The spool cannot write, and Kafka does not take the event.
    SpoolUnhealthy,
    /// The whole request took longer than its deadline.
    RequestDeadline,
    /// The process is stopping.
    ShuttingDown,
}

impl Refusal {
    /// Every refusal, for tables and tests.
    pub const ALL: [Self; 34] = [
        Self::NotUtf8,
        Self::NotJson,
        Self::NotObject,
        Self::DuplicateMember,
        Self::BadFraming,
        Self::SignatureMissing,
        Self::SignatureMalformed,
        Self::SignatureMismatch,
        Self::Expired,
        Self::TooFarAhead,
        Self::OutOfScope,
        Self::ScopeMemberMissing,
        Self::NetworkNotAllowed,
        Self::PathUnknown,
        Self::MethodNotAllowed,
        Self::BodyTooSlow,
        Self::BodyTooLarge,
        Self::ContentEncoded,
        Self::ClientGone,
        Self::MemberMissing,
        Self::MemberInvalid,
        Self::DeadLettersFull,
        Self::DeadLettersUnhealthy,
        Self::OtherEventsFull,
        Self::OtherEventsUnhealthy,
        Self::TooManyInFlight,
        Self::AckDeadline,
        Self::QueueFull,
        Self::ProducerFatal,
        Self::KafkaRefused,
        Self::SpoolFull,
        Self::SpoolUnhealthy,
        Self::RequestDeadline,
        Self::ShuttingDown,
    ];

    /// HTTP status. Every fault of ours is a 503, so that the sender keeps the callback and tries again.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::NotUtf8 | Self::NotJson | Self::NotObject | Self::DuplicateMember | Self::BadFraming => 400,
            Self::SignatureMissing
            | Self::SignatureMalformed
            | Self::SignatureMismatch
            | Self::Expired
            | Self::TooFarAhead
            | Self::OutOfScope
            | Self::ScopeMemberMissing
            | Self::NetworkNotAllowed => 403,
            Self::PathUnknown => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyTooSlow | Self::ClientGone => 408,
            Self::BodyTooLarge => 413,
            Self::ContentEncoded => 415,
            Self::MemberMissing
            | Self::MemberInvalid
            | Self::DeadLettersFull
            | Self::DeadLettersUnhealthy
            | Self::OtherEventsFull
            | Self::OtherEventsUnhealthy
            | Self::TooManyInFlight
            | Self::AckDeadline
            | Self::QueueFull
            | Self::ProducerFatal
            | Self::KafkaRefused
            | Self::SpoolFull
            | Self::SpoolUnhealthy
            | Self::RequestDeadline
            | Self::ShuttingDown => 503,
        }
    }

    /// Value of the `reason` label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotObject => "not_object",
            Self::DuplicateMember => "duplicate_member",
            Self::BadFraming => "bad_framing",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureMalformed => "signature_malformed",
            Self::SignatureMismatch => "signature_mismatch",
            Self::Expired => "expired",
            Self::TooFarAhead => "too_far_ahead",
            Self::OutOfScope => "out_of_scope",
            Self::ScopeMemberMissing => "scope_member_missing",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::PathUnknown => "path_unknown",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyTooLarge => "body_too_large",
            Self::ContentEncoded => "content_encoded",
            Self::ClientGone => "client_gone",
            Self::MemberMissing => "member_missing",
            Self::MemberInvalid => "member_invalid",
            Self::DeadLettersFull => "dead_letters_full",
            Self::DeadLettersUnhealthy => "dead_letters_unhealthy",
            Self::OtherEventsFull => "other_events_full",
            Self::OtherEventsUnhealthy => "other_events_unhealthy",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::AckDeadline => "ack_deadline",
            Self::QueueFull => "queue_full",
            Self::ProducerFatal => "producer_fatal",
            Self::KafkaRefused => "kafka_refused",
            Self::SpoolFull => "spool_full",
            Self::SpoolUnhealthy => "spool_unhealthy",
            Self::RequestDeadline => "request_deadline",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// What the sender may read. One text for every inauthentic callback, one for every fault of ours.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self.status() {
            400 => "the request is malformed",
            403 => "the callback is not authentic",
            404 => "no such path",
            405 => "only POST is allowed here",
            408 => "the body did not arrive in time",
            413 => "the body is too large",
            415 => "encoded bodies are not accepted",
            _ => "not stored, please send again",
        }
    }

    /// What the operator can change so that the next callback gets its 200. It names only configuration, never anything
    /// of the callback, and is never part of an answer.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::SignatureMissing => advice::UNSIGNED,
            Self::SignatureMismatch => advice::ANOTHER_KEY,
            Self::Expired => advice::CLOCK_AHEAD,
            Self::TooFarAhead => advice::CLOCK_BEHIND,
            Self::OutOfScope => advice::BOUND_ELSEWHERE,
            Self::ScopeMemberMissing => advice::BOUND,
            Self::PathUnknown => advice::ANOTHER_PATH,
            Self::NetworkNotAllowed => advice::ANOTHER_NETWORK,
            Self::MethodNotAllowed => advice::NOT_POSTED,
            Self::ContentEncoded => "a proxy compresses what it passes on: switch that off",
            Self::NotUtf8
            | Self::NotJson
            | Self::NotObject
            | Self::DuplicateMember
            | Self::BadFraming
            | Self::SignatureMalformed => advice::FOREIGN,
            Self::BodyTooLarge => "it is larger than http.body_bytes_max: raise that if the provider sent it",
            Self::BodyTooSlow | Self::ClientGone => {
                "its body did not come whole: look at the network, and at the deadlines of a proxy in front"
            }
            Self::MemberMissing | Self::MemberInvalid => {
                "no event can be made of it, and without a spool it cannot be set aside: set spool.enabled"
            }
            Self::DeadLettersFull => advice::DEAD_LETTERS,
            Self::OtherEventsFull => advice::OTHER_EVENTS,
            Self::DeadLettersUnhealthy | Self::OtherEventsUnhealthy | Self::SpoolUnhealthy => {
                "spool.directory cannot be written: look at its volume"
            }
            Self::SpoolFull => "bring Kafka back, or give the spool more room: spool.bytes_max and its volume",
            Self::AckDeadline | Self::QueueFull | Self::ProducerFatal | Self::KafkaRefused => advice::KAFKA,
            Self::RequestDeadline | Self::TooManyInFlight => {
                "Kafka and the disk are slower than callbacks come: look at both, and at http.in_flight_max"
            }
            Self::ShuttingDown => "this instance is stopping; the provider sends it again",
        }
    }

    /// The same where it is known whether a key of ours has signed: out of time is said before a key is looked for, so that
    /// strangers learn nothing; the operator may know.
    #[must_use]
    pub fn advice_to(self, is_signed_by_ours: bool) -> &'static str {
        match self {
            Self::Expired | Self::TooFarAhead if !is_signed_by_ours => advice::OLD_AND_UNKNOWN,
            _ => self.advice(),
        }
    }
}

/// What to change, where that takes more than a line to say.
mod advice {
    pub(super) const UNSIGNED: &str = "it is not signed: set the callback key in the provider's callback template, the \
                                       same as in a file under callback.keys";
    pub(super) const ANOTHER_KEY: &str = "it is signed with a key that this instance does not have: compare the callback \
                                          key of the template with the files under callback.keys; a second template \
                                          needs an entry of its own";
    pub(super) const CLOCK_AHEAD: &str = "its signature is older than callback.expiry_grace allows: if all are, this \
                                          machine's clock is ahead; synchronise it";
    pub(super) const OLD_AND_UNKNOWN: &str = "out of time, and signed with no key of callback.keys: compare the keys \
                                              before the clock";
    pub(super) const CLOCK_BEHIND: &str = "by this machine's clock its signature comes from the future: the clock is \
                                           behind; synchronise it";
    pub(super) const BOUND_ELSEWHERE: &str = "its key is bound to other push domains or accounts: add this one to \
                                              push_domains or app_ids of the key, or bind the domain to another template";
    pub(super) const BOUND: &str = "its key is bound to push domains or accounts, and it names none, as callbacks of 2018 \
                                    do: take push_domains away from the key";
    pub(super) const ANOTHER_PATH: &str = "its path is not http.path: the URL in the provider's callback template has to \
                                           end with that, and a proxy has to pass it on unchanged";
    pub(super) const NOT_POSTED: &str = "the provider only posts: a GET is no callback, and health probes belong to \
                                         http.health_path; or somebody else calls, or a proxy follows a redirect";
    pub(super) const ANOTHER_NETWORK: &str = "the peer is in none of http.allowed_networks; behind a proxy the peer is \
                                              the proxy";
    pub(super) const FOREIGN: &str = "the provider sends nothing like it: somebody else calls, or a proxy rewrites what \
                                      it passes on";
    pub(super) const DEAD_LETTERS: &str = "dead letters have no room: see that kafka.dead_letter_topic takes them, or \
                                           raise spool.dead_letter_bytes_max";
    pub(super) const OTHER_EVENTS: &str = "other events have no room: see that kafka.other_events_topic takes them, or \
                                           raise spool.other_events_bytes_max";
    pub(super) const KAFKA: &str = "Kafka does not take events, and nothing else may keep them: the log says why; \
                                    set spool.enabled";
}
