//! A fake cluster and the producers in front of it.
//!
//! What it relies on, and the real client is set up to give: what a producer persists of a partition is a prefix of
//! what it was given between two moments at which nothing of that partition was unreported. A refusal by the broker
//! is fatal to the producer (`enable.gapless.guarantee`); a local failure takes everything queued for the partition,
//! and of each lane that it struck also what is handed over before the ladder has heard of it. What a producer had in flight when it was purged may
//! land at any later time, or never.

use std::collections::VecDeque;

use recording_bridge::delivery::ladder::{Attempt, Failure, Generation, Outcome, Purpose, SendRefusal};

use super::dice::Dice;

pub(crate) const PARTITIONS: usize = 2;
pub(crate) const LANES: usize = 4;
const IN_FLIGHT_MAX: usize = 5;
const QUEUE_MAX: usize = 10;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Life {
    Ready,
    Fatal,
    Purged,
}

#[derive(Clone, Copy)]
pub(crate) struct Queued {
    pub(crate) attempt: Attempt,
    pub(crate) message: usize,
    lane: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Report {
    pub(crate) attempt: Attempt,
    pub(crate) outcome: Outcome,
    lane: usize,
    /// The message was persisted: if this report never counts, one duplicate is explained.
    persisted: bool,
}

pub(crate) struct Producer {
    pub(crate) process: usize,
    pub(crate) generation: Generation,
    pub(crate) purpose: Purpose,
    pub(crate) life: Life,
    /// The fatal error that the ladder has not heard of.
    pub(crate) fatal_untold: bool,
    queues: [VecDeque<Queued>; PARTITIONS],
    pub(crate) reports: [VecDeque<Report>; PARTITIONS],
    /// A local failure of which the ladder has not heard: what is handed over meanwhile fails, too.
    failing: [bool; LANES],
    /// Every message that it took.
    pub(crate) given: Vec<Queued>,
    /// Attempts without a report.
    pub(crate) owed: Vec<Attempt>,
}

/// One message as the log sees it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Record {
    pub(crate) poisoned: bool,
    pub(crate) first_copy: Option<usize>,
}

pub(crate) struct Kafka {
    pub(crate) producers: Vec<Producer>,
    pub(crate) records: Vec<Record>,
    pub(crate) down: bool,
    pub(crate) partition_down: [bool; PARTITIONS],
    pub(crate) topic_refuses: bool,
    /// It did so at some time.
    pub(crate) topic_refused: bool,
    pub(crate) reports_lost_percent: usize,
    offset: usize,
    pub(crate) duplicates: usize,
    pub(crate) duplicates_explained: usize,
}

impl Kafka {
    pub(crate) fn new() -> Self {
        Self {
            producers: Vec::new(),
            records: Vec::new(),
            down: false,
            partition_down: [false; PARTITIONS],
            topic_refuses: false,
            topic_refused: false,
            reports_lost_percent: 0,
            offset: 0,
            duplicates: 0,
            duplicates_explained: 0,
        }
    }

    pub(crate) fn create(&mut self, process: usize, generation: Generation, purpose: Purpose) {
        self.producers.push(Producer {
            process,
            generation,
            purpose,
            life: Life::Ready,
            fatal_untold: false,
            queues: Default::default(),
            reports: Default::default(),
            failing: [false; LANES],
            given: Vec::new(),
            owed: Vec::new(),
        });
    }

    pub(crate) fn find(&mut self, process: usize, generation: Generation) -> Option<&mut Producer> {
        self.producers.iter_mut().find(|producer| producer.process == process && producer.generation == generation)
    }

    pub(crate) fn send(
        &mut self,
        process: usize,
        attempt: Attempt,
        message: usize,
        lane: usize,
    ) -> Result<(), SendRefusal> {
        let partition = lane % PARTITIONS;
        let producer = self.find(process, attempt.generation).expect("messages are handed to producers that exist");
        assert!(producer.life != Life::Purged, "a message was handed to a purged producer");
        if producer.life == Life::Fatal {
            return Err(SendRefusal::Fatal);
        }
        if producer.queues.iter().map(VecDeque::len).sum::<usize>() >= QUEUE_MAX {
            return Err(SendRefusal::QueueFull);
        }
        let newer = producer.given.last().is_none_or(|last| last.attempt.sequence < attempt.sequence);
        match producer.purpose {
            Purpose::Direct => assert!(newer, "a message was sent directly behind a newer one"),
            Purpose::Drain => {}
            Purpose::Trial => assert!(producer.owed.is_empty(), "a suspect was not alone"),
        }
        producer.given.push(Queued { attempt, message, lane });
        producer.owed.push(attempt);
        if producer.failing[lane] {
            let outcome = Outcome::Failed(Failure::Transient);
            producer.reports[partition].push_back(Report { attempt, outcome, lane, persisted: false });
        } else {
            producer.queues[partition].push_back(Queued { attempt, message, lane });
        }
        Ok(())
    }

    fn persist(&mut self, message: usize) {
        let record = &mut self.records[message];
        if record.first_copy.is_some() {
            self.duplicates += 1;
        } else {
            record.first_copy = Some(self.offset);
        }
        self.offset += 1;
    }

    /// One producer makes some progress on one partition. `false` if it had nothing to do.
    pub(crate) fn progress(&mut self, index: usize, partition: usize, dice: &mut Dice) -> bool {
        if self.down || self.partition_down[partition] {
            return false;
        }
        let queued = self.producers[index].queues[partition].len();
        if queued == 0 {
            return false;
        }
        let size = 1 + dice.below(queued.min(4));
        let batch: Vec<Queued> = self.producers[index].queues[partition].drain(..size).collect();
        let refused = self.topic_refuses || batch.iter().any(|queued| self.records[queued.message].poisoned);
        if refused {
            if self.producers[index].life == Life::Purged {
                self.producers[index].queues[partition].clear();
                return true;
            }
            for queued in batch {
                self.tell(index, partition, queued, Outcome::Failed(Failure::Convicting), false);
            }
            self.kill(index);
            return true;
        }
        for queued in batch {
            self.persist(queued.message);
            let lost = dice.percent(self.reports_lost_percent);
            if self.producers[index].life != Life::Purged && lost {
                self.duplicates_explained += 1;
            } else {
                self.tell(index, partition, queued, Outcome::Delivered, true);
            }
        }
        true
    }

    fn tell(&mut self, index: usize, partition: usize, queued: Queued, outcome: Outcome, persisted: bool) {
        self.producers[index].reports[partition].push_back(Report {
            attempt: queued.attempt,
            outcome,
            lane: queued.lane,
            persisted,
        });
    }

    /// A fatal error: everything queued comes back, in flight or not.
    pub(crate) fn kill(&mut self, index: usize) {
        let producer = &mut self.producers[index];
        if producer.life != Life::Ready {
            return;
        }
        producer.life = Life::Fatal;
        producer.fatal_untold = true;
        self.fail_queues(index, 0);
    }

    /// A local failure of everything queued for a partition; the first `persisted` of it had arrived all the same.
    pub(crate) fn fail(&mut self, index: usize, partition: usize, failure: Failure, persisted: usize) {
        if self.producers[index].life != Life::Ready {
            return;
        }
        let queue = std::mem::take(&mut self.producers[index].queues[partition]);
        let clean = !self.topic_refuses && queue.iter().all(|queued| !self.records[queued.message].poisoned);
        for (position, queued) in queue.into_iter().enumerate() {
            let arrived = clean && position < persisted;
            if arrived {
                self.persist(queued.message);
                self.duplicates_explained += 1;
            }
            self.producers[index].failing[queued.lane] = true;
            self.tell(index, partition, queued, Outcome::Failed(failure), false);
        }
    }

    fn fail_queues(&mut self, index: usize, keep: usize) {
        for partition in 0..PARTITIONS {
            let keep = keep.min(self.producers[index].queues[partition].len());
            let rest = self.producers[index].queues[partition].split_off(keep);
            for queued in rest {
                self.tell(index, partition, queued, Outcome::Failed(Failure::Transient), false);
            }
        }
    }

    /// The shell purged it. A few messages are in flight, and land later or never.
    pub(crate) fn purge(&mut self, index: usize, dice: &mut Dice) {
        let untold = self.producers[index].reports.iter().flatten().filter(|report| report.persisted).count();
        self.duplicates_explained += untold;
        let ready = self.producers[index].life == Life::Ready;
        self.producers[index].life = Life::Purged;
        self.producers[index].fatal_untold = false;
        let keep = if ready { dice.below(IN_FLIGHT_MAX + 1) } else { 0 };
        self.fail_queues(index, keep);
        self.duplicates_explained += self.producers[index].queues.iter().map(VecDeque::len).sum::<usize>();
    }

    /// Takes the next report of a partition.
    pub(crate) fn take_report(&mut self, index: usize, partition: usize) -> Option<Report> {
        let producer = &mut self.producers[index];
        let report = producer.reports[partition].pop_front()?;
        // From the first failure that the ladder hears of, it must know better than to send the next frame.
        if report.outcome != Outcome::Delivered {
            producer.failing[report.lane] = false;
        }
        Some(report)
    }
}
