//! Every librdkafka option that the bridge rests on, set explicitly, each with its reason.
//!
//! What an operator passes through under `kafka.properties` is set first and ours afterwards, so that nothing the
//! promise rests on can be overridden even if the list of refused properties has a hole.

use std::fs;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use super::{Config, Purpose, SaslConfig, StartError, TlsConfig};

/// How often librdkafka reports its state.
pub const STATISTICS_INTERVAL: Duration = Duration::from_secs(5);

/// Settings of the producer of events.
///
/// # Errors
/// If the password file or a file of `kafka.tls` cannot be read.
pub fn producer(config: &Config, purpose: Purpose) -> Result<ClientConfig, StartError> {
    let mut settings = connection(config)?;
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
        // The most that idempotence allows. One request is one partition, so fewer would make partitions wait for
        // each other wherever the network takes its time.
        ("max.in.flight.requests.per.connection", "5".to_owned()),
        // librdkafka's own default of 1 GiB is larger than a pod.
        ("queue.buffering.max.kbytes", queue_kilobytes),
        ("queue.buffering.max.messages", "1000000".to_owned()),
        // A typing error must not create a topic with one replica.
        ("allow.auto.create.topics", "false".to_owned()),
        ("statistics.interval.ms", milliseconds(STATISTICS_INTERVAL)),
    ] {
        settings.set(name, value);
    }
    Ok(settings)
}

/// Settings of a client that only looks: metadata, configurations, consumers of the command line.
///
/// # Errors
/// If the password file or a file of `kafka.tls` cannot be read.
pub fn connection(config: &Config) -> Result<ClientConfig, StartError> {
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
    if let Some(tls) = &config.tls {
        set_tls(&mut settings, tls)?;
    }
    if let Some(sasl) = &config.sasl {
        set_sasl(&mut settings, sasl)?;
    }
    Ok(settings)
}

fn set_tls(settings: &mut ClientConfig, tls: &TlsConfig) -> Result<(), StartError> {
    // A broker proves who it is, by name; there is no way to switch this off.
    settings.set("enable.ssl.certificate.verification", "true");
    settings.set("ssl.endpoint.identification.algorithm", "https");
    for (name, key, file) in [
        ("ssl.ca.location", "ca_file", &tls.ca_file),
        ("ssl.certificate.location", "certificate_file", &tls.certificate_file),
        ("ssl.key.location", "key_file", &tls.key_file),
    ] {
        if let Some(file) = file {
            // librdkafka reads them itself, but of one that it cannot read it says neither the name nor the reason.
            fs::read(file).map_err(|error| StartError::new(format!("kafka.tls.{key} {}: {error}", file.display())))?;
            settings.set(name, file.to_string_lossy());
        }
    }
    if tls.ca_file.is_none() {
        // The vendored OpenSSL has no idea where this system keeps its authorities; librdkafka looks for them.
        settings.set("ssl.ca.location", "probe");
    }
    Ok(())
}

fn set_sasl(settings: &mut ClientConfig, sasl: &SaslConfig) -> Result<(), StartError> {
    let password = fs::read_to_string(&sasl.password_file).map_err(|error| {
        StartError::new(format!("kafka.sasl.password_file {}: {error}", sasl.password_file.display()))
    })?;
    settings.set("sasl.mechanism", sasl.mechanism.name());
    settings.set("sasl.username", &sasl.username);
    settings.set("sasl.password", password.trim_end_matches(['\r', '\n']));
    Ok(())
}
