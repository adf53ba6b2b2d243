//! Which librdkafka properties an operator may pass through, and why the others are refused.
//!
//! Every property of librdkafka 2.12.1 is judged here by name: [`ALLOWED`] tunes connections, batching and diagnosis;
//! [`REFUSED`] would weaken the promise, has a key of its own, or does nothing for a producer. A name in neither list
//! is refused as well: librdkafka has properties it does not document, and a newer one may bring some that nobody has
//! judged yet. Names are matched as librdkafka matches them, exactly; but a refused one is recognised in any
//! spelling, and also behind the prefix `topic.`, which librdkafka itself takes off (so that `topic.acks` is `acks`).
//!
//! Values are not checked here but for the few that would weaken the promise; librdkafka checks them itself.

use super::Config;

/// Properties that can be passed through as they are.
const ALLOWED: &[&str] = &[
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.metrics.push",
    "enable.random.seed",
    "linger.ms",
    "log.connection.close",
    "log.thread.name",
    "message.copy.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "sticky.partitioning.linger.ms",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Allowed properties that librdkafka knows under two names.
const ALIASES: &[(&str, &str)] = &[("queue.buffering.max.ms", "linger.ms"), ("compression.codec", "compression.type")];

/// Refused properties by the reason of the refusal.
const REFUSED: &[(&str, &[&str])] = &[
    // The promise: what a 200 rests on, and the order within a stream.
    (
        "cannot be set: an event counts as safe only when all in-sync replicas have acknowledged it",
        &["acks", "request.required.acks"],
    ),
    (
        "cannot be set: the order of a stream's events, and no duplicates from retries, rest on the idempotent producer",
        &["enable.idempotence", "enable.gapless.guarantee"],
    ),
    (
        "cannot be set: the order of a stream's events rests on how many requests are in flight and how they queue",
        &["max.in.flight", "max.in.flight.requests.per.connection", "queuing.strategy", "msg_order_cmp"],
    ),
    (
        "cannot be set: it would move streams to other partitions, where their order is lost",
        &["partitioner", "partitioner_cb"],
    ),
    (
        "cannot be set: a message that librdkafka gives up leaves a gap; kafka.ack_deadline decides when to stop waiting",
        &["message.timeout.ms", "delivery.timeout.ms", "retries", "message.send.max.retries"],
    ),
    ("cannot be set: without a report of success no event would ever count as safe", &["delivery.report.only.error"]),
    ("cannot be set: the bridge does not write in transactions", &["transactional.id", "transaction.timeout.ms"]),
    (
        "cannot be set: http.body_bytes_max is bounded so that every event fits the default of this property",
        &["message.max.bytes"],
    ),
    (
        "cannot be set: a misspelt topic would be created with the broker's defaults, perhaps with one replica",
        &["allow.auto.create.topics"],
    ),
    ("cannot be set: it can hide the topics that the bridge writes to", &["topic.blacklist"]),
    (
        "cannot be set: an acknowledgement counts only from a broker whose certificate has been verified",
        &["enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm", "ssl.certificate.verify_cb"],
    ),
    (
        "cannot be set: the message format must be the one the brokers announce; older ones carry no headers",
        &["api.version.request", "api.version.fallback.ms", "broker.version.fallback"],
    ),
    (
        "cannot be set: it loads foreign code into the process that makes the promise",
        &[
            "plugin.library.paths",
            "interceptors",
            "ssl.engine.location",
            "ssl.engine.id",
            "ssl_engine_callback_data",
            "ssl.providers",
        ],
    ),
    (
        "cannot be set: it puts librdkafka's own test doubles in the place of brokers",
        &["test.mock.num.brokers", "test.mock.broker.rtt", "ut_handle_ProduceResponse"],
    ),
    // Keys of their own.
    ("has a key of its own: kafka.brokers", &["bootstrap.servers", "metadata.broker.list"]),
    ("follows from kafka.tls and kafka.sasl", &["security.protocol"]),
    ("has a key of its own: kafka.sasl.mechanism", &["sasl.mechanism", "sasl.mechanisms"]),
    ("has a key of its own: kafka.sasl.username", &["sasl.username"]),
    ("has a key of its own: kafka.sasl.password_file", &["sasl.password"]),
    (
        "has a key of its own: kafka.tls.ca_file",
        &["ssl.ca.location", "ssl.ca.pem", "ssl_ca", "ssl.ca.certificate.stores", "ssl.truststore.location"],
    ),
    (
        "has a key of its own: kafka.tls.certificate_file",
        &["ssl.certificate.location", "ssl.certificate.pem", "ssl_certificate"],
    ),
    ("has a key of its own: kafka.tls.key_file", &["ssl.key.location", "ssl.key.pem", "ssl_key"]),
    (
        "cannot be set: a password does not belong here; kafka.tls takes a certificate and a key without one, as PEM",
        &["ssl.key.password", "ssl.keystore.location", "ssl.keystore.password"],
    ),
    ("has a key of its own: kafka.queue_bytes_max", &["queue.buffering.max.kbytes", "queue.buffering.max.messages"]),
    ("has a key of its own: log.level", &["log_level"]),
    // Of no use here.
    ("cannot be set: the bridge reads the statistics itself, at a period of its own", &["statistics.interval.ms"]),
    (
        "cannot be set: the bridge takes events, logs and signals from librdkafka itself",
        &["enabled_events", "enable_sasl_queue", "log.queue", "internal.termination.signal"],
    ),
    ("cannot be set here: it is no text, but a part of the program", &["opaque", "default_topic_conf"]),
    ("cannot be set: it only says how librdkafka was built", &["builtin.features"]),
    (
        "has no effect: librdkafka no longer reads it",
        &[
            "metadata.request.timeout.ms",
            "produce.offset.report",
            "reconnect.backoff.jitter.ms",
            "socket.blocking.max.ms",
            "topic.metadata.refresh.fast.cnt",
        ],
    ),
    (
        "is a property of consumers, and the bridge consumes nothing",
        &[
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "auto.offset.reset",
            "check.crcs",
            "consume.callback.max.messages",
            "coordinator.query.interval.ms",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "enable.partition.eof",
            "fetch.error.backoff.ms",
            "fetch.max.bytes",
            "fetch.message.max.bytes",
            "fetch.min.bytes",
            "fetch.queue.backoff.ms",
            "fetch.wait.max.ms",
            "group.id",
            "group.instance.id",
            "group.protocol",
            "group.protocol.type",
            "group.remote.assignor",
            "heartbeat.interval.ms",
            "isolation.level",
            "max.partition.fetch.bytes",
            "max.poll.interval.ms",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
            "partition.assignment.strategy",
            "queued.max.messages.kbytes",
            "queued.min.messages",
            "session.timeout.ms",
        ],
    ),
];

/// Refused families: every name that begins so.
const REFUSED_PREFIXES: &[(&str, &str)] = &[
    ("max.in.flight", "cannot be set: the order of a stream's events rests on how many requests are in flight"),
    ("test.mock.", "cannot be set: it puts librdkafka's own test doubles in the place of brokers"),
    ("sasl.kerberos.", "cannot be set: kafka.sasl.mechanism offers PLAIN and SCRAM, not GSSAPI"),
    ("sasl.oauthbearer.", "cannot be set: kafka.sasl.mechanism offers PLAIN and SCRAM, not OAUTHBEARER"),
    ("enable.sasl.oauthbearer.", "cannot be set: kafka.sasl.mechanism offers PLAIN and SCRAM, not OAUTHBEARER"),
    (
        "sasl.jaas.",
        "cannot be set: it belongs to Java clients; kafka.sasl names the mechanism, the user and the password",
    ),
    ("https.ca.", "cannot be set: it serves OAUTHBEARER, which kafka.sasl.mechanism does not offer"),
];

/// Callbacks all end alike, in librdkafka's own spelling.
const CALLBACK_SUFFIX: &str = ".cb";
const IS_CALLBACK: &str = "cannot be set here: it is no text, but a part of the program";
const TOPIC_PREFIX: &str = "topic.";
const MISSPELT: &str = "is not spelt as librdkafka spells it: lower case, words joined by dots";
const UNKNOWN: &str = "is no property of a librdkafka producer that the bridge knows to be harmless";

impl Config {
    /// Why the pass-through property `name` is refused; `None` if it may be set.
    #[must_use]
    pub fn property_fault(name: &str) -> Option<&'static str> {
        if ALLOWED.contains(&name) {
            return None;
        }
        let spelt = canonical(name);
        if ALLOWED.contains(&spelt.as_str()) {
            return Some(MISSPELT);
        }
        // librdkafka takes the prefix off once; taking it off as often as it stands there costs nothing.
        let mut bare = spelt.as_str();
        while let Some(rest) = bare.strip_prefix(TOPIC_PREFIX) {
            if let Some(reason) = refusal(bare) {
                return Some(reason);
            }
            bare = rest;
        }
        refusal(bare).or(Some(if ALLOWED.contains(&bare) { MISSPELT } else { UNKNOWN }))
    }

    /// Why an allowed property `name` must not have this `value`; `None` where the value does not touch the promise.
    #[must_use]
    pub fn property_value_fault(name: &str, value: &str) -> Option<&'static str> {
        // The name from a reverse lookup would be compared with the certificate, instead of the one that was configured.
        if name == "client.dns.lookup" && value.contains("canonical") {
            return Some(
                "must not take brokers' names from the name server: an acknowledgement counts only from a broker whose \
                 certificate names the host in kafka.brokers",
            );
        }
        // At security level 0 OpenSSL negotiates suites without authentication, and verifies no certificate then.
        (name == "ssl.cipher.suites" && value.to_ascii_uppercase().contains("SECLEVEL")).then_some(
            "must not set the security level: at level 0 a broker need not show a certificate, \
             and an acknowledgement counts only from a broker whose certificate has been verified",
        )
    }

    /// The other name under which librdkafka knows an allowed property. Both at once would leave it to chance which
    /// value counts.
    #[must_use]
    pub fn property_alias(name: &str) -> Option<&'static str> {
        ALIASES.iter().find_map(|(one, other)| match name {
            _ if name == *one => Some(*other),
            _ if name == *other => Some(*one),
            _ => None,
        })
    }
}

/// The reason for refusing a name in canonical spelling.
fn refusal(name: &str) -> Option<&'static str> {
    let listed = REFUSED.iter().find(|(_, names)| names.iter().any(|listed| canonical(listed) == name));
    let family = || REFUSED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, reason)| *reason);
    listed.map(|(reason, _)| *reason).or_else(family).or(name.ends_with(CALLBACK_SUFFIX).then_some(IS_CALLBACK))
}

/// One spelling for all: people write `Request_Required-Acks`, and so does librdkafka in places (`dr_msg_cb`).
fn canonical(name: &str) -> String {
    name.trim()
        .chars()
        .map(|letter| if matches!(letter, '_' | '-') { '.' } else { letter.to_ascii_lowercase() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::ClientConfig;
    use rdkafka::error::KafkaError;
    use rdkafka::types::RDKafkaConfRes;
    use std::collections::BTreeSet;

    /// Every property of librdkafka 2.12.1, documented or hidden, with the verdict expected of it: `+` passes.
    const VERDICTS: &str = include_str!("../../tests/data/config/librdkafka-properties.txt");

    fn verdicts() -> impl Iterator<Item = (&'static str, &'static str)> {
        VERDICTS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '))
    }

    #[test]
    fn every_property_of_librdkafka_has_been_judged() {
        let mut count = 0;
        for (verdict, name) in verdicts() {
            let fault = Config::property_fault(name);
            assert_eq!(verdict == "+", fault.is_none(), "{name}: {fault:?}");
            assert_ne!(fault, Some(MISSPELT), "{name}");
            assert_eq!(verdict == "?", fault == Some(UNKNOWN), "{name}: {fault:?}");
            count += 1;
        }
        assert!(count > 180, "the list is whole: {count}");
    }

    #[test]
    fn no_list_names_a_property_that_does_not_exist_or_names_one_twice() {
        let known: BTreeSet<&str> = verdicts().map(|(_, name)| name).collect();
        let mut seen = BTreeSet::new();
        for name in ALLOWED.iter().chain(REFUSED.iter().flat_map(|(_, names)| names.iter())) {
            assert!(known.contains(name), "{name} is in librdkafka's list");
            assert!(seen.insert(*name), "{name} stands twice");
        }
        for (prefix, _) in REFUSED_PREFIXES {
            assert!(known.iter().any(|name| name.starts_with(prefix)), "{prefix}");
        }
    }

    #[test]
    fn this_librdkafka_knows_every_allowed_property() {
        let unknown = |name: &str| {
            let native = ClientConfig::new().set(name, "no value fits them all").create_native_config();
            matches!(native, Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)))
        };
        assert!(unknown("no.such.property"));
        for name in ALLOWED {
            assert!(!unknown(name), "{name}");
        }
    }

    #[test]
    fn a_refused_property_is_recognised_in_any_spelling() {
        for name in ["acks", "ACKS", "Acks ", "topic.acks", "topic.topic.acks", "Topic.Request_Required-Acks"] {
            let reason = Config::property_fault(name).expect(name);
            assert!(reason.contains("in-sync replicas"), "{name}: {reason}");
        }
        assert!(Config::property_fault("topic.blacklist").is_some_and(|reason| reason.contains("hide")));
        assert!(Config::property_fault("max.in.flight.requests").is_some_and(|reason| reason.contains("in flight")));
        assert_eq!(Config::property_fault("some_new_cb"), Some(IS_CALLBACK));
        for name in ["Linger.Ms", "linger_ms", " linger.ms", "topic.linger.ms", "topic.compression.type"] {
            assert_eq!(Config::property_fault(name), Some(MISSPELT), "{name:?}");
        }
        for name in ["", ".", "topic.", "retries.max", "client.idd"] {
            assert_eq!(Config::property_fault(name), Some(UNKNOWN), "{name:?}");
        }
    }

    #[test]
    fn unauthenticated_ciphers_cannot_be_let_in() {
        for value in ["ALL:@SECLEVEL=0", "aNULL@seclevel=0"] {
            assert!(Config::property_value_fault("ssl.cipher.suites", value).is_some(), "{value}");
        }
        assert_eq!(Config::property_value_fault("ssl.cipher.suites", "HIGH:!aNULL"), None);
        assert_eq!(Config::property_value_fault("client.id", "SECLEVEL"), None);
    }

    #[test]
    fn the_name_in_a_certificate_is_compared_with_ours_and_not_with_the_name_servers() {
        let fault = |value| Config::property_value_fault("client.dns.lookup", value);
        assert!(fault("resolve_canonical_bootstrap_servers_only").is_some());
        assert_eq!(fault("use_all_dns_ips"), None);
    }

    #[test]
    fn every_alias_among_the_allowed_is_known() {
        for (one, other) in ALIASES {
            assert_eq!(Config::property_alias(one), Some(*other));
            assert_eq!(Config::property_alias(other), Some(*one));
            assert_eq!((Config::property_fault(one), Config::property_fault(other)), (None, None));
        }
        assert_eq!(Config::property_alias("client.id"), None);
    }
}
