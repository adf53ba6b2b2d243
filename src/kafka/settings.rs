//! Every librdkafka option that the bridge rests on, set explicitly, each with its reason.
//!
//! What an operator passes through under `kafka.properties` is set first and ours afterwards, so that nothing the
//! promise rests on can be overridden even if the list of refused properties has a hole.

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use super::credentials::Contents;
use super::{Config, Purpose};

/// How often librdkafka reports its state.
pub const STATISTICS_INTERVAL: Duration = Duration::from_secs(5);

/// Settings of a producer that logs in with `contents`.
#[must_use]
pub fn producer(config: &Config, contents: &Contents, purpose: Purpose) -> ClientConfig {
    let mut settings = connection(config, contents);
    let milliseconds = |span: Duration| span.as_millis().to_string();
    let defaults = [
        // Tuning: an operator may override these under `kafka.properties`.
        // A lone message leaves at once; batches form by themselves under load. The spool is drained in full batches.
        ("linger.ms", if purpose == Purpose::Latency { "0" } else { "5" }.to_owned()),
        // A fifth of the bytes for little work.
        ("compression.type", "lz4".to_owned()),
    ];
    for (name, value) in defaults {
        if !config.properties.contains_key(name) {
            settings.set(name, value);
        }
    }
    let queue_kilobytes = (config.queue_bytes_max / 1024).max(1).to_string();
    for (name, value) in [
        // The promise: every in-sync replica has it.
        ("acks", "all".to_owned()),
        // The client's own retries neither repeat nor reorder.
        ("enable.idempotence", "true".to_owned()),
        // A message that cannot be delivered stops all later ones of its partition, instead of being overtaken.
        ("enable.gapless.guarantee", "true".to_owned()),
        // The same partition for a stream as the Java client's default gives.
        ("partitioner", "murmur2_random".to_owned()),
        // Never: a message that times out is a failure behind which later ones of its stream would still be persisted.
        // Giving up belongs to the delivery, which then gives up the whole producer.
        ("message.timeout.ms", "0".to_owned()),
        // With more, a request that a broker has refused counts as delivered as soon as a later one is: see "One request in
        // flight" in docs/decisions.md.
        ("max.in.flight.requests.per.connection", "1".to_owned()),
        // librdkafka's own default of 1 GiB is larger than a pod.
        ("queue.buffering.max.kbytes", queue_kilobytes),
        ("queue.buffering.max.messages", "1000000".to_owned()),
        // A typing error must not create a topic with one replica.
        ("allow.auto.create.topics", "false".to_owned()),
        ("statistics.interval.ms", milliseconds(STATISTICS_INTERVAL)),
    ] {
        settings.set(name, value);
    }
    settings
}

/// Settings of a client that only looks: metadata, configurations, consumers of the command line. They hold secrets, and
/// nobody wipes them: make them when a client is made, and let them go.
#[must_use]
pub fn connection(config: &Config, contents: &Contents) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in [
        ("client.id", "recording-bridge"),
        // Brokers come back: try often. The default's ceiling of 10 s made a recovery take 7.5 s instead of 0.9 s.
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "1000"),
        // Idle connections are dropped by network address translation without a word.
        ("socket.keepalive.enable", "true"),
        // Requests are small and wait for nobody.
        ("socket.nagle.disable", "true"),
        // An idle connection that the broker closes is no news.
        ("log.connection.close", "false"),
    ] {
        settings.set(name, value);
    }
    for (name, value) in &config.properties {
        settings.set(name, value);
    }
    settings.set("bootstrap.servers", config.brokers.join(","));
    let protocol = match (&config.tls, &config.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    settings.set("security.protocol", protocol);
    if config.tls.is_some() {
        set_tls(&mut settings, contents);
    }
    if let Some(sasl) = &config.sasl {
        settings.set("sasl.mechanism", sasl.mechanism.name());
        settings.set("sasl.username", &sasl.username);
        // Contents that were judged have one wherever there is `kafka.sasl`.
        settings.set("sasl.password", contents.password().unwrap_or_default());
    }
    settings
}

fn set_tls(settings: &mut ClientConfig, contents: &Contents) {
    // A broker proves who it is, by name; there is no way to switch this off.
    settings.set("enable.ssl.certificate.verification", "true");
    settings.set("ssl.endpoint.identification.algorithm", "https");
    // What was read and judged, and not the files: they may be rewritten at this moment.
    for (name, bytes) in [
        ("ssl.ca.pem", &contents.authorities),
        ("ssl.certificate.pem", &contents.certificate),
        ("ssl.key.pem", &contents.key),
    ] {
        if let Some(bytes) = bytes {
            settings.set(name, String::from_utf8_lossy(bytes));
        }
    }
    if contents.authorities.is_none() {
        // The vendored OpenSSL has no idea where this system keeps its authorities; librdkafka looks for them.
        settings.set("ssl.ca.location", "probe");
    }
}
