//! The threads that wait, so that the gate never does: for the disk, for brokers, for time.
//!
//! Each takes its work from a queue under the gate, does it without the gate, and comes back with an input. All end
//! with the delivery.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::gate::{Append, DrainJob, Gate, Grounds, Shared, lane};
use super::ladder::{FrameHead, Generation, Purpose, Recovered, Sequence, SpoolFault};
use super::letters::{self, Desk, Drainer};
use super::window::Stretch;
use super::{Spools, link::Link};
use crate::kafka::{ProbeError, Producer, Producers, StartError};
use crate::spool::{AppendError, BATCH_BYTES, Damaged, Drain, Frame, Monitor, Spool, Storage, Writer};

/// How often the ladder is told that time has passed. Its deadlines are as exact as this.
const TICK: Duration = Duration::from_millis(50);
/// The same while nothing waits and everything goes straight to Kafka: a deadline that begins meanwhile is longer by far.
const IDLE_TICK: Duration = Duration::from_millis(250);
/// How often readiness is decided, and how long a probe waits for a broker.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_DEADLINE: Duration = Duration::from_secs(3);
/// How often the volume of the spool is asked for its room.
const VOLUME_INTERVAL: Duration = Duration::from_secs(5);
/// Frames of one group commit: enough to make a sync cheap, few enough to keep it short.
const BATCH_FRAMES_MAX: usize = 1024;
/// The least time between the beginnings of two group commits. On a fast disk nearly every callback would get a sync of
/// its own otherwise, which costs more than all the rest of it; a callback that comes alone does not wait.
pub(super) const COMMIT_INTERVAL: Duration = Duration::from_millis(2);
/// Bytes that are read from the spool at once: enough to keep all partitions busy, few enough to be held twice.
const READ_BYTES_MAX: usize = 1 << 20;

/// What recovery found, in the ladder's words.
pub(super) fn recovered<S: Storage>(spool: &Spool<S>) -> Recovered {
    let last = spool.writer.next_sequence().saturating_sub(1);
    let watermark = spool.monitor.status().watermark;
    Recovered { watermark: Sequence(watermark), last: Sequence(last) }
}

pub(super) fn start<S: Storage>(
    shared: &Arc<Shared>,
    spools: Option<Spools<S>>,
    letter_producers: Option<Box<dyn Producers>>,
) -> Result<(), StartError> {
    spawn("delivery-ticker", shared, tick)?;
    spawn("producer-starter", shared, start_producers)?;
    spawn("producer-probe", shared, probe)?;
    spawn("kafka-credentials", shared, super::renewal::keep_fresh)?;
    if let Some(Spools { messages, dead_letters }) = spools {
        shared.metrics.spool.identify(&messages.monitor.id().to_string());
        let (writer, drain, monitor) = (messages.writer, messages.drain, messages.monitor);
        spawn("spool-volume", shared, move |shared| watch_volume(shared, &monitor))?;
        spawn("spool-appender", shared, move |shared| append(shared, writer))?;
        spawn("spool-drainer", shared, move |shared| read_and_commit(shared, drain))?;
        if let Some(desk) = shared.letters.clone() {
            let drainer = letter_producers.map(|made| Drainer::new(shared, &desk, made, dead_letters.drain));
            match drainer {
                Some(drainer) => spawn("letter-drainer", shared, move |_| letters::drain(drainer))?,
                None => desk.note_ended(),
            }
            spawn("letter-appender", shared, move |shared| letters::append(shared, &desk, dead_letters.writer))?;
        }
    }
    Ok(())
}

/// The two threads of the other events.
pub(super) fn start_passing_on<S: Storage>(
    shared: &Arc<Shared>,
    desk: &Arc<Desk>,
    producers: Box<dyn Producers>,
    (writer, drain): (Writer<S>, Drain<S>),
) -> Result<(), StartError> {
    let drainer = Drainer::new(shared, desk, producers, drain);
    spawn("other-drainer", shared, move |_| letters::drain(drainer))?;
    let desk = Arc::clone(desk);
    spawn("other-appender", shared, move |shared| letters::append(shared, &desk, writer))
}

fn spawn(name: &str, shared: &Arc<Shared>, work: impl FnOnce(&Arc<Shared>) + Send + 'static) -> Result<(), StartError> {
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared));
    thread.map(drop).map_err(|error| StartError::new(format!("the thread {name} cannot be started: {error}")))
}

/// Closes a producer on a thread of its own, since that may take as long as a dead name server likes. How many there
/// can be is bounded by the backoff between rebuilds.
pub(super) fn reap(producer: Arc<dyn Producer>) {
    let reaper = thread::Builder::new().name("producer-reaper".to_owned()).spawn(move || producer.close());
    if let Err(error) = reaper {
        tracing::error!(%error, "no thread to close the old producer on");
    }
}

/// Waits until `work` finds something under the gate; `None` when the delivery has ended.
fn next<T>(shared: &Shared, bell: &Condvar, mut work: impl FnMut(&mut Gate) -> Option<T>) -> Option<T> {
    let mut gate = shared.gate();
    loop {
        if let Some(found) = work(&mut gate) {
            return Some(found);
        }
        if gate.is_finished {
            return None;
        }
        gate = bell.wait(gate).unwrap_or_else(PoisonError::into_inner);
    }
}

fn tick(shared: &Arc<Shared>) {
    loop {
        let pause = if shared.gate().is_at_rest() { IDLE_TICK } else { TICK };
        if !sleep(shared, pause) {
            return;
        }
        shared.tick();
    }
}

/// Sleeps for `interval`; `false` when the delivery has ended.
fn sleep(shared: &Shared, interval: Duration) -> bool {
    let gate: MutexGuard<'_, Gate> = shared.gate();
    let waited = shared.finished.wait_timeout_while(gate, interval, |gate| !gate.is_finished);
    let (gate, _) = waited.unwrap_or_else(PoisonError::into_inner);
    !gate.is_finished
}

fn start_producers(shared: &Arc<Shared>) {
    while let Some((generation, purpose)) = next(shared, &shared.starter, |gate| gate.starts.pop_front()) {
        start_producer(shared, generation, purpose);
    }
}

/// Makes the producers that are asked for by now.
pub(super) fn start_waiting_producers(shared: &Arc<Shared>) {
    loop {
        let Some((generation, purpose)) = shared.gate().starts.pop_front() else { return };
        start_producer(shared, generation, purpose);
    }
}

fn start_producer(shared: &Arc<Shared>, generation: Generation, purpose: Purpose) {
    match shared.producers.start(generation.0, super::link::purpose(purpose), Link::to(shared)) {
        Ok(producer) => shared.producer_started(generation, producer),
        Err(error) => {
            tracing::error!(%error, "no producer can be made; trying again");
            shared.input(Grounds::None, |ladder, now, commands| {
                ladder.producer_failed(generation, now, commands);
            });
        }
    }
}

/// Group commit: whatever is queued becomes one write and one sync, and wakes all who wait.
fn append<S: Storage>(shared: &Arc<Shared>, mut writer: Writer<S>) {
    while let Some(batch) = next(shared, &shared.appender, next_batch) {
        let started = shared.now();
        if batch.is_empty() {
            let result = writer.probe().map_err(|error| fault(shared, &error));
            shared.input(Grounds::None, |ladder, now, commands| ladder.spool_probed(result, now, commands));
        } else {
            append_batch(shared, &mut writer, &batch);
        }
        thread::sleep(COMMIT_INTERVAL.saturating_sub(shared.now().saturating_sub(started)));
    }
}

/// What is to be appended next; no frames mean that the spool is to be probed.
fn next_batch(gate: &mut Gate) -> Option<Vec<Frame>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(Append::Frame(_, _, message)) = gate.appends.front() {
        bytes += message.size_bytes();
        if !batch.is_empty() && (batch.len() >= BATCH_FRAMES_MAX || bytes > BATCH_BYTES) {
            break;
        }
        if let Some(Append::Frame(sequence, accepted_at, message)) = gate.appends.pop_front() {
            batch.push(Frame { sequence, accepted_at, message: message.as_ref().clone() });
        }
    }
    let probe = batch.is_empty() && gate.appends.pop_front().is_some();
    (probe || !batch.is_empty()).then_some(batch)
}

fn append_batch<S: Storage>(shared: &Shared, writer: &mut Writer<S>, batch: &[Frame]) {
    let last = Sequence(batch.last().map_or(0, |frame| frame.sequence));
    let started = shared.now();
    match writer.append_batch(batch) {
        Ok(appended) => {
            let taken = shared.now().saturating_sub(started);
            shared.metrics.spool.append_duration.observe(taken.as_secs_f64());
            #[expect(clippy::cast_precision_loss, reason = "a batch has at most some thousand frames")]
            shared.metrics.spool.batch_frames.observe(batch.len() as f64);
            let grounds = Grounds::Appended(appended);
            shared.input(grounds, |ladder, now, commands| ladder.appended(last, now, commands));
        }
        Err(error) => {
            tracing::error!(%error, frames = batch.len(), "the spool did not take a batch");
            let fault = fault(shared, &error);
            shared.input(Grounds::None, |ladder, now, commands| ladder.append_failed(last, fault, now, commands));
        }
    }
}

fn fault(shared: &Shared, error: &AppendError) -> SpoolFault {
    match error {
        AppendError::Full(_) => SpoolFault::Full,
        AppendError::Unhealthy(_) => {
            shared.doubt_spool();
            SpoolFault::Unhealthy
        }
        AppendError::Invalid(_) => SpoolFault::Unhealthy,
    }
}

fn read_and_commit<S: Storage>(shared: &Arc<Shared>, mut drain: Drain<S>) {
    while let Some(job) = next(shared, &shared.drainer, |gate| gate.drains.pop_front()) {
        match job {
            DrainJob::Commit(watermark) => {
                let committed = drain.commit(watermark);
                if let Some(fault) = &committed.fault {
                    tracing::warn!(%fault, watermark, "the watermark was not persisted; a restart may repeat events");
                }
                let success = committed.fault.is_none();
                shared.input(Grounds::None, |ladder, now, commands| ladder.committed(success, now, commands));
            }
            DrainJob::Read { after, through } => read(shared, &mut drain, after, through),
        }
    }
}

fn read<S: Storage>(shared: &Arc<Shared>, drain: &mut Drain<S>, after: u64, through: u64) {
    let read = match drain.read(after, READ_BYTES_MAX) {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "the spool cannot be read; trying again");
            shared.input(Grounds::None, |ladder, now, commands| {
                ladder.read_failed(Sequence(after), now, commands);
            });
            return;
        }
    };
    for damaged in &read.damaged {
        tracing::error!(
            file = damaged.file,
            bytes = damaged.bytes,
            after = damaged.after,
            before = damaged.before,
            "a stretch of the spool is damaged; what could be read goes on, the file is kept"
        );
    }
    let stretch = |damaged: &Damaged| Stretch { after: damaged.after, before: damaged.before };
    shared.forget(&read.damaged.iter().map(stretch).collect::<Vec<_>>());
    // What lies beyond is read again when it is asked for. Where the read was cut short, nothing is said of the rest.
    let at_end = read.at_end;
    let frames: Vec<Frame> = read.frames.into_iter().filter(|frame| frame.sequence <= through).collect();
    let through = match frames.last() {
        Some(last) if !at_end && last.sequence < through => last.sequence,
        _ => through,
    };
    let heads: Vec<FrameHead> = frames
        .iter()
        .map(|frame| FrameHead {
            sequence: Sequence(frame.sequence),
            lane: lane(frame.message.key()),
            bytes: u32::try_from(frame.message.size_bytes()).unwrap_or(u32::MAX),
        })
        .collect();
    shared.frames_read((after, through), frames, &heads);
}

/// Keeps in mind how much room the volume has. A thread of its own: a filesystem that hangs holds up nobody else.
fn watch_volume<S: Storage>(shared: &Arc<Shared>, monitor: &Monitor<S>) {
    loop {
        monitor.look_at_volume();
        if !sleep(shared, VOLUME_INTERVAL) {
            return;
        }
    }
}

/// Finds out whether Kafka could take a message now: without traffic, nothing else would tell.
fn probe(shared: &Arc<Shared>) {
    let mut was_ready = None;
    let known_or = |otherwise: &str| shared.trouble().map_or(otherwise, |known| known.sentence()).to_owned();
    loop {
        let result = match shared.to_probe() {
            None => Err(known_or("the producer is being replaced")),
            Some((_, true)) => Err(known_or("messages wait for their acknowledgement beyond the deadline")),
            Some((producer, false)) => producer.probe(PROBE_DEADLINE).map_err(|error| match error {
                ProbeError::Unreachable(_) => known_or(&error.to_string()),
                ProbeError::TopicMissing | ProbeError::Leaderless { .. } => error.to_string(),
            }),
        };
        if result.is_ok() {
            *shared.trouble() = None;
        }
        if was_ready != Some(result.is_ok()) {
            was_ready = Some(result.is_ok());
            match &result {
                Ok(()) => tracing::info!("Kafka takes events"),
                Err(reason) => tracing::warn!(reason, "Kafka does not take events"),
            }
        }
        let reachable = result.is_ok();
        *shared.probed() = Some(result);
        shared.kafka_ready.store(reachable, Ordering::Release);
        shared.input(Grounds::None, |ladder, now, commands| ladder.brokers_probed(reachable, now, commands));
        if !sleep(shared, PROBE_INTERVAL) {
            shared.kafka_ready.store(false, Ordering::Release);
            return;
        }
    }
}
