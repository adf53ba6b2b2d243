//! Under load for a long time, while faults drawn from a seed come and go: nothing acknowledged is lost or inverted, and
//! the process holds no more memory, threads, descriptors and disk at the end than it did before.
//!
//! An hour at 500 callbacks a second with `tests/run --long`, half a minute otherwise. `RECORDING_BRIDGE_SEED` repeats
//! the faults of an earlier run.

use std::time::Duration;
use std::{env, thread};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Resources};
use crate::support::kafka::{Cluster, Record, three_brokers};
use crate::support::law::law;
use crate::support::load::{Answer, Statuses};
use crate::support::random::Random;
use crate::support::spooling::{PARTITIONS, SPOOL, await_direct, make_topic};
use crate::support::{long, unique, wait_for};

const READ_PATIENCE: Duration = Duration::from_secs(60);

/// How long, how much, and what.
struct Plan {
    rounds: u64,
    round: Duration,
    rate: u64,
}

/// What happens in the middle of a round.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Nothing,
    OneBrokerKilled,
    AllFrozenShortly,
    AllFrozenBeyondTheDeadline,
    AllBrokersKilled,
    PartitionsMoved,
    BridgeKilled,
    BridgeStopped,
}

/// Those that leave the bridge alive come first.
const FAULTS: [Fault; 8] = [
    Fault::Nothing,
    Fault::OneBrokerKilled,
    Fault::AllFrozenShortly,
    Fault::AllFrozenBeyondTheDeadline,
    Fault::AllBrokersKilled,
    Fault::PartitionsMoved,
    Fault::BridgeKilled,
    Fault::BridgeStopped,
];
const FATAL_FAULTS: u64 = 2;

fn freeze_all(cluster: &Cluster, span: Duration) {
    (1..=3).for_each(|number| cluster.freeze(number));
    thread::sleep(span);
    (1..=3).for_each(|number| cluster.thaw(number));
}

/// Lets `fault` happen; back when it is over. Those of the bridge itself come at the end of a round.
fn happen(fault: Fault, plan: &Plan, cluster: &Cluster, topic: &str) {
    thread::sleep(plan.round / 4);
    match fault {
        Fault::Nothing | Fault::BridgeKilled | Fault::BridgeStopped => thread::sleep(plan.round / 2),
        Fault::OneBrokerKilled => {
            cluster.kill(2);
            thread::sleep(plan.round / 3);
            cluster.restart(2);
        }
        Fault::AllFrozenShortly => freeze_all(cluster, Duration::from_secs(2)),
        Fault::AllFrozenBeyondTheDeadline => freeze_all(cluster, Duration::from_secs(7)),
        Fault::AllBrokersKilled => {
            (1..=3).for_each(|number| cluster.kill(number));
            thread::sleep(plan.round / 3);
            cluster.restart_together(&[1, 2, 3]);
        }
        Fault::PartitionsMoved => cluster.move_partitions(topic, 1, Duration::ZERO),
    }
}

/// One round of load with one fault.
fn go_round(fault: Fault, plan: &Plan, cluster: &Cluster, topic: &str, bridge: &mut Bridge) -> Vec<Answer> {
    let rate = f64::from(u32::try_from(plan.rate).unwrap());
    let mut load = bridge.load(plan.rate * plan.round.as_secs(), rate);
    load.streams = 200;
    load.connections = plan.rate * 7;
    load.repeat_every = 10;
    thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        happen(fault, plan, cluster, topic);
        match fault {
            Fault::BridgeKilled => {
                bridge.kill();
                bridge.restart();
            }
            Fault::BridgeStopped => {
                assert_eq!(bridge.terminate_and_stay(), 0);
                bridge.restart();
            }
            _ => {}
        }
        load.join().unwrap()
    })
}

/// At rest, with the spool drained and every connection closed.
fn at_rest(bridge: &Bridge) {
    await_direct(bridge, Duration::from_secs(180));
    bridge.assert_conservation();
}

/// Waits until the process holds no more than it did: threads and connections take a moment to go.
fn assert_returned(bridge: &Bridge, before: Resources) -> Resources {
    wait_for(
        "resources to return to where they were",
        Duration::from_secs(60),
        || format!("before: {before:?}, now: {:?}\n{}", bridge.resources(), bridge.metrics()),
        || {
            let now = bridge.resources();
            let memory = now.resident_kib <= before.resident_kib + before.resident_kib / 4 + 16 * 1024;
            // librdkafka keeps a thread, a socket and a pipe for each broker that it has talked to, and forgets some of
            // them: one broker more or less is no leak.
            let rest = now.threads <= before.threads + 1
                && now.descriptors <= before.descriptors + 3
                && now.spool_bytes <= before.spool_bytes + (8 << 20);
            (memory && rest).then_some(now)
        },
    )
}

/// What the law needs of every record: a soak leaves millions.
fn read(cluster: &Cluster, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.brokers())
        .set("group.id", "soak")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    let mut expected = 0;
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(topic, partition, READ_PATIENCE).unwrap();
        expected += usize::try_from(high - low).unwrap();
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut records = Vec::with_capacity(expected);
    while records.len() < expected {
        let message = consumer.poll(READ_PATIENCE).expect("the topic holds more").unwrap();
        let value: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        records.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            key: Some(key),
            // Where Java would have put it is the business of other tests.
            java_partition: Some(message.partition()),
            timestamp: message.timestamp().to_millis().unwrap(),
            headers: Vec::new(),
            value: json!({"stream_id": value["stream_id"], "file_id": value["file_id"]}).to_string(),
        });
    }
    records
}

#[test]
fn under_load_and_faults_nothing_is_lost_and_nothing_is_kept() {
    let plan = if long() {
        Plan { rounds: 120, round: Duration::from_secs(30), rate: 500 }
    } else {
        Plan { rounds: 3, round: Duration::from_secs(8), rate: 100 }
    };
    let seed = env::var("RECORDING_BRIDGE_SEED").map_or_else(|_| unique(), |seed| seed.parse().unwrap());
    println!("RECORDING_BRIDGE_SEED={seed}");
    let mut random = Random::new(seed);
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "soak");
    let mut bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    await_direct(&bridge, Duration::from_secs(30));
    let mut answers = Vec::new();
    let mut before = None;
    for round in 0..plan.rounds {
        // From a third on the process must live: what it holds then is compared with what it holds at the end.
        let has_begun = round >= plan.rounds / 3;
        if has_begun && before.is_none() {
            at_rest(&bridge);
            before = Some(bridge.resources());
        }
        let choices = FAULTS.len() as u64 - if has_begun { FATAL_FAULTS } else { 0 };
        let fault = FAULTS[usize::try_from(random.below(choices)).unwrap()];
        println!("round {round}: {fault:?}, {:?}", bridge.resources());
        answers.extend(go_round(fault, &plan, &cluster, &topic, &mut bridge));
    }
    at_rest(&bridge);
    let before = before.expect("there are more than three rounds");
    println!("before: {before:?}\nafter:  {:?}", bridge.resources());
    let findings = law(&answers, &read(&cluster, &topic));
    println!("{}{findings}", Statuses(&answers));
    findings.assert_hold();
    let after = assert_returned(&bridge, before);
    println!("in the end: {after:?}");
    assert_eq!(bridge.terminate(), 0);
}
