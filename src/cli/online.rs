//! What the brokers say about the topics, for `check --online`.
//!
//! The promise rests on the topic too: acks=all waits for the replicas in sync, and the topic decides how many those
//! have to be.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::check::Findings;
use super::contact;
use crate::kafka::{Config, Contents, settings};

const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes that a message may have beyond four times its body: key, headers, names of members.
const MESSAGE_OVERHEAD_BYTES: usize = 8 * 1024;

/// Asks the brokers of `config` about its topics.
pub(super) fn look(config: &Config, body_bytes_max: usize, findings: &mut Findings) {
    let metadata = match contact::metadata(config) {
        Ok(metadata) => metadata,
        Err(error) => return findings.fault(format!("{}: {error}", config.brokers.join(","))),
    };
    findings.good(format!("{} broker(s) known to the cluster", metadata.brokers().len()));
    let client: Result<AdminClient<DefaultClientContext>, String> = Contents::read(config)
        .map_err(|error| error.to_string())
        .and_then(|contents| settings::connection(config, &contents).create().map_err(|error| error.to_string()));
    let client = match client {
        Ok(client) => client,
        Err(error) => return findings.fault(format!("no Kafka client can be made: {error}")),
    };
    look_at_events_topic(&client, config, body_bytes_max, &metadata, findings);
    let mut look_aside = |key, name: &str, what| {
        look_at_topic_aside((&client, config), (key, name, what), body_bytes_max, &metadata, findings);
    };
    look_aside("kafka.dead_letter_topic", &config.dead_letter_topic, "dead letter");
    if let Some(name) = &config.other_events_topic {
        look_aside("kafka.other_events_topic", name, "other event");
    }
}

/// Nothing that is wrong here is a fault: dead letters and other events then wait on disk. Whether the bridge may write
/// to the topic cannot be seen without writing to it.
fn look_at_topic_aside(
    (client, config): (&AdminClient<DefaultClientContext>, &Config),
    (key, name, what): (&str, &str, &str),
    body_bytes_max: usize,
    metadata: &Metadata,
    findings: &mut Findings,
) {
    match topic(config, metadata, (key, name)) {
        Ok(found) => findings.good(format!("topic {name}: {} partition(s)", found.partitions().len())),
        Err(sentence) => return findings.warning(format!("{sentence}; {what}s will wait on disk")),
    }
    let settings = settings_of(client, name).unwrap_or_default();
    if settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        findings.warning(format!(
            "topic {name} is compacted: it takes no {what} without a key, and keeps the last of each"
        ));
    }
    let largest = number(&settings, "max.message.bytes");
    let needed = 4 * body_bytes_max + MESSAGE_OVERHEAD_BYTES;
    if let Some(largest) = largest.filter(|largest| *largest < needed) {
        findings.warning(format!(
            "topic {name} takes messages of {largest} bytes, but one of the {what}s can have {needed}: \
             a larger one will stay on disk"
        ));
    }
}

/// The topic, or why there is nothing to see of it. A passing error, such as an election, is no lack of a topic.
fn topic<'a>(config: &Config, metadata: &'a Metadata, (key, name): (&str, &str)) -> Result<&'a MetadataTopic, String> {
    let found = metadata.topics().iter().find(|topic| topic.name() == name);
    match found.map(|topic| (topic, topic.error().map(Code::from))) {
        None | Some((_, Some(Code::UnknownTopicOrPartition))) => Err(absent(config, (key, name))),
        Some((_, Some(error))) => Err(format!("topic {name} cannot be looked at now: {error}")),
        Some((topic, None)) => Ok(topic),
    }
}

/// Why the brokers do not list a topic. They list none that a login may not see; who asks for it by name is told apart.
fn absent(config: &Config, (key, name): (&str, &str)) -> String {
    let create = "create it, since the bridge never does";
    match fault_of(config, name) {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            format!("there is no topic {name}: {create}, or correct {key}")
        }
        Some(Code::TopicAuthorizationFailed) => format!(
            "topic {name} may not be seen by our login, whether or not it exists: let that Describe and Write it, and \
             DescribeConfigs for this command"
        ),
        Some(_) | None => format!(
            "there is no topic {name}, or it may not be seen by our login: {create}, correct {key}, or let the login \
             Describe and Write it"
        ),
    }
}

/// What the brokers say of a topic by name. Asked by a consumer, since the question of a producer makes brokers create it.
fn fault_of(config: &Config, name: &str) -> Option<Code> {
    let contents = Contents::read(config).ok()?;
    let mut settings = settings::connection(config, &contents);
    settings.set("group.id", "recording-bridge-check").set("allow.auto.create.topics", "false");
    let consumer: BaseConsumer = settings.create().ok()?;
    let metadata = consumer.fetch_metadata(Some(name), DEADLINE).ok()?;
    metadata.topics().first()?.error().map(Code::from)
}

fn look_at_events_topic(
    client: &AdminClient<DefaultClientContext>,
    config: &Config,
    body_bytes_max: usize,
    metadata: &Metadata,
    findings: &mut Findings,
) {
    let name = &config.topic;
    let found = match topic(config, metadata, ("kafka.topic", name)) {
        Ok(found) => found,
        Err(sentence) => return findings.fault(sentence),
    };
    let partitions = found.partitions();
    let replicas = partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
    findings.good(format!("topic {name}: {} partition(s), {replicas} replica(s)", partitions.len()));
    let leaderless = partitions.iter().filter(|partition| partition.leader() < 0).count();
    if leaderless > 0 {
        findings.fault(format!("topic {name}: {leaderless} partition(s) have no leader now"));
    }
    if replicas < 2 {
        findings.warning(format!("topic {name} has one replica: an acknowledged event rests on one disk"));
    }
    match settings_of(client, name) {
        Err(error) => findings.warning(format!("the settings of topic {name} cannot be read: {error}")),
        Ok(settings) => {
            look_at_replication(name, replicas, &settings, findings);
            // Fewer replicas than min.insync.replicas at all is another fault, named above.
            let in_sync = partitions.iter().map(|partition| match partition.isr().len() {
                all if all == partition.replicas().len() => usize::MAX,
                some => some,
            });
            look_at_replicas_in_sync(name, in_sync, &settings, findings);
            look_at_size(name, body_bytes_max, &settings, findings);
        }
    }
}

fn look_at_replication(name: &str, replicas: usize, settings: &HashMap<String, String>, findings: &mut Findings) {
    match number(settings, "min.insync.replicas") {
        None => findings.warning(format!("topic {name} does not say its min.insync.replicas")),
        Some(1) => findings.warning(format!(
            "topic {name} has min.insync.replicas=1: acks=all may mean one broker; 2 of 3 replicas is the usual choice"
        )),
        Some(least) if least > replicas => findings.fault(format!(
            "topic {name} has min.insync.replicas={least} but {replicas} replica(s): \
             brokers before 3.7 refuse every event, newer ones take what there is as enough"
        )),
        Some(least) if least == replicas => findings.warning(format!(
            "topic {name} has min.insync.replicas={least} of {replicas} replicas: one broker down stops it"
        )),
        Some(least) => findings.good(format!("topic {name}: min.insync.replicas={least}")),
    }
    if settings.get("unclean.leader.election.enable").is_some_and(|value| value == "true") {
        findings.warning(format!("topic {name} allows unclean leader election: acknowledged events may be lost"));
    }
    if settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        findings.warning(format!("topic {name} is compacted: only the last event of every stream is kept"));
    }
}

/// `in_sync` has the number of replicas in sync of every partition.
fn look_at_replicas_in_sync(
    name: &str,
    in_sync: impl Iterator<Item = usize>,
    settings: &HashMap<String, String>,
    findings: &mut Findings,
) {
    let Some(least) = number(settings, "min.insync.replicas") else { return };
    let short = in_sync.filter(|count| *count < least).count();
    if short > 0 {
        findings.fault(format!(
            "topic {name} has fewer replicas in sync than min.insync.replicas={least}: \
             nothing can be acknowledged on {short} partition(s) now"
        ));
    }
}

fn look_at_size(name: &str, body_bytes_max: usize, settings: &HashMap<String, String>, findings: &mut Findings) {
    let needed = 4 * body_bytes_max + MESSAGE_OVERHEAD_BYTES;
    match number(settings, "max.message.bytes") {
        Some(largest) if largest < needed => findings.fault(format!(
            "topic {name} takes messages of {largest} bytes, but a callback of http.body_bytes_max can make {needed}"
        )),
        Some(largest) => findings.good(format!("topic {name} takes messages of {largest} bytes")),
        None => findings.warning(format!("topic {name} does not say its max.message.bytes")),
    }
}

fn number(settings: &HashMap<String, String>, name: &str) -> Option<usize> {
    settings.get(name)?.parse().ok()
}

fn settings_of(client: &AdminClient<DefaultClientContext>, topic: &str) -> Result<HashMap<String, String>, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(DEADLINE));
    let resource = ResourceSpecifier::Topic(topic);
    let answers =
        runtime.block_on(client.describe_configs([&resource], &options)).map_err(|error| error.to_string())?;
    let resource = answers.into_iter().next().ok_or("no answer")?.map_err(|code| code.to_string())?;
    if resource.entries.is_empty() {
        // The client library gives no error of a single topic.
        return Err("our login needs DescribeConfigs on it".to_owned());
    }
    let entries = resource.entries.into_iter();
    Ok(entries.filter_map(|entry| entry.value.map(|value| (entry.name, value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_with_too_few_replicas_in_sync_is_a_fault() {
        let settings = |least: &str| HashMap::from([("min.insync.replicas".to_owned(), least.to_owned())]);
        for (in_sync, settings, faulty) in [
            ([3, 3, 3], settings("2"), None),
            ([2, 2, 3], settings("2"), None),
            ([1, 2, 0], settings("2"), Some("on 2 partition(s) now")),
            ([1, 1, 0], settings("1"), Some("on 1 partition(s) now")),
            ([0, 0, 0], HashMap::new(), None),
        ] {
            let mut findings = Findings::default();
            look_at_replicas_in_sync("t", in_sync.into_iter(), &settings, &mut findings);
            let said = format!("{findings:?}");
            assert_eq!(said.contains("Fault"), faulty.is_some(), "{said}");
            assert!(said.contains(faulty.unwrap_or_default()), "{said}");
        }
    }
}
