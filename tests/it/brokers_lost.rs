//! Promise: brokers that stand still, move their leaderships or lose the topic cost no event and no order.
//!
//! Each test ends with the law on what the topic holds, and with conservation.

use std::thread;
use std::time::Duration;

use crate::support::bridge::Bridge;
use crate::support::kafka::{Cluster, Topic, read_topic, three_brokers, topic_name};
use crate::support::load::{Answer, Load, Statuses};
use crate::support::spooling::{
    PARTITIONS, SPOOL, assert_all_accepted, await_direct, conclude, conclude_in_order, is_in_state, make_topic,
    published_order, sent_order,
};
use crate::support::{long, wait_for};

/// A load of so many callbacks a second, each on a connection of its own for as long as answers may take.
fn open_load(bridge: &Bridge, rate: u64, seconds: u64) -> Load {
    let mut load = bridge.load(rate * seconds, f64::from(u32::try_from(rate).unwrap()));
    load.streams = 100;
    load.connections = rate * 7;
    load
}

/// A load in which each stream waits for its answers.
fn closed_load(bridge: &Bridge, rate: u64, seconds: u64) -> Load {
    let mut load = bridge.load(rate * seconds, f64::from(u32::try_from(rate).unwrap()));
    load.streams = 40;
    load.connections = 40;
    load.closed_loop_per_stream = true;
    load
}

fn all(fault: impl Fn(usize)) {
    (1..=3).for_each(fault);
}

fn freeze_all_for(cluster: &Cluster, span: Duration) {
    all(|number| cluster.freeze(number));
    thread::sleep(span);
    all(|number| cluster.thaw(number));
}

/// How often a producer was given up.
fn rebuilds(bridge: &Bridge) -> u64 {
    bridge.metric("recording_bridge_kafka_producer_rebuilds_total", &[])
}

#[test]
fn frozen_brokers_that_come_back_to_two_producers_lose_and_invert_nothing() {
    let (rate, freezes) = if long() { (300, 6) } else { (150, 1) };
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "frozen");
    let bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    await_direct(&bridge, Duration::from_secs(30));

    // Shorter than the ack deadline: callbacks wait, and nothing else happens.
    let mut answers = thread::scope(|scope| {
        let load = scope.spawn(|| open_load(&bridge, rate, 5).run());
        thread::sleep(Duration::from_secs(1));
        freeze_all_for(&cluster, Duration::from_millis(2_500));
        load.join().unwrap()
    });
    assert_all_accepted(&answers);
    assert_eq!(rebuilds(&bridge), 0, "the producer was given up before its time\n{}", bridge.log_tail());
    assert!(is_in_state(&bridge, "direct"));

    // Longer: the old producer's requests lie in the brokers' sockets, and they carry them out when they are thawed,
    // before or after those of its successors.
    for freeze in 0..freezes {
        answers.extend(thread::scope(|scope| {
            let load = scope.spawn(|| open_load(&bridge, rate, 10).run());
            thread::sleep(Duration::from_secs(1));
            freeze_all_for(&cluster, Duration::from_secs(7 + 2 * freeze));
            load.join().unwrap()
        }));
        await_direct(&bridge, Duration::from_secs(60));
    }
    assert!(rebuilds(&bridge) >= freezes, "{}", bridge.metrics());
    assert_all_accepted(&answers);
    let slowest = answers.iter().map(|answer| answer.latency).max().unwrap();
    assert!(slowest < Duration::from_secs(6), "{slowest:?}");
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);

    let findings = conclude(&cluster, &topic, &answers);
    // What was sent directly and not acknowledged when the brokers stood still is published again from the spool:
    // that of the ack deadline, and no more.
    assert!(findings.duplicates <= usize::try_from(rate * 6 * freezes).unwrap(), "{findings}");
}

#[test]
fn streams_whose_senders_wait_for_each_answer_are_in_exactly_their_order() {
    let (rate, dead) = if long() { (400, 60) } else { (200, 5) };
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "closed-loop");
    let bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    await_direct(&bridge, Duration::from_secs(30));
    let answers = thread::scope(|scope| {
        let load = scope.spawn(|| closed_load(&bridge, rate, dead + 8).run());
        thread::sleep(Duration::from_secs(2));
        all(|number| cluster.kill(number));
        thread::sleep(Duration::from_secs(dead));
        cluster.restart_together(&[1, 2, 3]);
        load.join().unwrap()
    });
    await_direct(&bridge, Duration::from_secs(60));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);

    assert_all_accepted(&answers);
    conclude_in_order(&cluster, &topic, &answers);
}

#[test]
fn leaders_and_replicas_that_move_under_load_lose_and_invert_nothing() {
    let (rate, rounds) = if long() { (300, 20) } else { (200, 2) };
    let seconds = 8 + 4 * u64::from(rounds);
    let cluster = three_brokers();
    // Two replicas on three brokers, so that a move takes the data along: a broker that led is left with nothing.
    let topic = topic_name("moved");
    cluster.create_topic(&Topic { name: &topic, partitions: PARTITIONS, replication: 2, min_isr: 2, properties: &[] });
    let bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    await_direct(&bridge, Duration::from_secs(30));
    let answers = thread::scope(|scope| {
        let load = scope.spawn(|| closed_load(&bridge, rate, seconds).run());
        cluster.move_partitions(&topic, rounds, Duration::from_millis(500));
        // The ordinary way of an upgrade: a broker hands over what it leads, ends, and comes back.
        cluster.shut_down(2);
        cluster.restart(2);
        load.join().unwrap()
    });
    await_direct(&bridge, Duration::from_secs(60));
    bridge.assert_conservation();
    println!("{} producers were given up", rebuilds(&bridge));
    assert_eq!(bridge.terminate(), 0);

    assert_all_accepted(&answers);
    let findings = conclude_in_order(&cluster, &topic, &answers);
    // Each time that the bridge gave up waiting, at most what its senders were waiting for.
    assert!(findings.duplicates <= 40 * 4, "{findings}");
}

/// Waits until the bridge tells, in its log after `said` bytes and in its metrics, that the topic is what is wrong, and
/// keeps events in its spool.
fn await_word_of_missing_topic(bridge: &Bridge, said: usize) {
    wait_for(
        "word of the missing topic",
        Duration::from_secs(20),
        || format!("{}\n{}", bridge.metrics(), bridge.log_tail()),
        || {
            let told = bridge.log()[said..].contains("the topic does not exist");
            let spooled = bridge.metric("recording_bridge_spool_frames", &[]) > 0;
            (told && spooled && !is_in_state(bridge, "direct")).then_some(())
        },
    );
}

/// What a topic that was deleted and made again holds of streams whose senders wait for each answer: of each stream
/// an end, without a gap and in order, that begins no later than the first callback sent after the deletion.
fn assert_holds_the_end_of_every_stream(cluster: &Cluster, topic: &str, answers: &[Answer], deleted_at: Duration) {
    let mut published = published_order(&read_topic(cluster, topic));
    let mut first = 0;
    for (stream, sent) in sent_order(answers) {
        let published = published.remove(&stream).unwrap_or_default();
        assert!(sent.ends_with(&published), "{stream}: {published:?} is no end of {sent:?}");
        let missing = &sent[..sent.len() - published.len()];
        first += published.len();
        for answer in answers.iter().filter(|answer| missing.contains(&answer.file_id)) {
            assert!(answer.sent_at < deleted_at, "sent after the deletion, answered 200, and gone: {answer:?}");
        }
    }
    println!("{first} of {} callbacks are in the topic that was made again", answers.len());
}

#[test]
fn a_topic_that_is_missing_or_deleted_is_told_and_its_events_wait_in_the_spool() {
    let (rate, absent) = if long() { (300, 60) } else { (200, 2) };
    let cluster = three_brokers();
    let topic = topic_name("late-topic");
    let create = || {
        cluster.create_topic(&Topic {
            name: &topic,
            partitions: PARTITIONS,
            replication: 3,
            min_isr: 2,
            properties: &[],
        });
    };

    // Missing at the start, and made later.
    let bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    let before = closed_load(&bridge, rate, 2).run();
    assert_all_accepted(&before);
    await_word_of_missing_topic(&bridge, 0);
    create();
    await_direct(&bridge, Duration::from_secs(60));
    conclude_in_order(&cluster, &topic, &before);

    // Deleted under load, and made again. What the old topic held is gone by the operator's hand, with all that was
    // acknowledged on its account; so the law counts from the moment at which the brokers had forgotten it.
    let said = bridge.log().len();
    let (answers, deleted_at) = thread::scope(|scope| {
        let began = std::time::Instant::now();
        let load = scope.spawn(|| closed_load(&bridge, rate, absent + 11).run());
        thread::sleep(Duration::from_secs(2));
        cluster.delete_topic(&topic);
        // One broker has forgotten it; the others have a moment to hear of it.
        let deleted_at = began.elapsed() + Duration::from_secs(1);
        await_word_of_missing_topic(&bridge, said);
        thread::sleep(Duration::from_secs(absent));
        create();
        (load.join().unwrap(), deleted_at)
    });
    await_direct(&bridge, Duration::from_secs(90));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);

    println!("deleted at {deleted_at:?}\n{}", Statuses(&answers));
    assert_all_accepted(&answers);
    let slowest = answers.iter().map(|answer| answer.latency).max().unwrap();
    assert!(slowest < Duration::from_secs(7), "{slowest:?}");
    assert_holds_the_end_of_every_stream(&cluster, &topic, &answers, deleted_at);
    // An earlier callback may be there or not: for the law it is one without an answer.
    let unsure =
        |answer: &Answer| Answer { status: answer.status.filter(|_| answer.sent_at >= deleted_at), ..answer.clone() };
    let counted: Vec<Answer> = answers.iter().map(unsure).collect();
    assert!(answers.iter().any(|answer| answer.sent_at < deleted_at));
    conclude(&cluster, &topic, &counted);
}
