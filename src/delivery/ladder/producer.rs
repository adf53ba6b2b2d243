//! One producer slot: which generation serves a purpose, and when the next one may be started.
//!
//! It promises that a generation is retired exactly once, and that starts are spaced by a growing backoff until
//! something is acknowledged. It does not know what was handed to a producer.

use super::protocol::{Cause, Command, Generation, Purpose, Time};
use super::settings::Backoff;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Absent,
    Starting(Generation),
    Ready(Generation),
    /// Dead, but its last reports may still say what it did.
    Dying(Generation, Time),
}

/// A place for one producer generation at a time.
#[derive(Debug)]
pub(super) struct Producer {
    purpose: Purpose,
    life: Life,
    /// Why the next generation will be needed.
    cause: Cause,
    not_before: Time,
    /// Generations lost since the last acknowledgement.
    losses: u32,
    /// Fatal ones among them.
    deaths: u32,
    /// Since when it owes an acknowledgement: the first hand-over after the last one.
    owing_since: Option<Time>,
    outstanding: usize,
}

impl Producer {
    pub(super) fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            life: Life::Absent,
            cause: Cause::Routine,
            not_before: Time::ZERO,
            losses: 0,
            deaths: 0,
            owing_since: None,
            outstanding: 0,
        }
    }

    /// The generation that takes messages.
    pub(super) fn ready(&self) -> Option<Generation> {
        match self.life {
            Life::Ready(generation) => Some(generation),
            Life::Absent | Life::Starting(_) | Life::Dying(..) => None,
        }
    }

    /// The generation whose reports count.
    pub(super) fn reporting(&self) -> Option<Generation> {
        match self.life {
            Life::Ready(generation) | Life::Dying(generation, _) => Some(generation),
            Life::Absent | Life::Starting(_) => None,
        }
    }

    /// Messages handed over and not reported.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Fatal ends in a row without an acknowledgement between.
    pub(super) fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Starts a generation if there is none and the backoff has passed.
    pub(super) fn want(&mut self, now: Time, generations: &mut u64, commands: &mut Vec<Command>) {
        if self.life == Life::Absent && now >= self.not_before {
            *generations += 1;
            let generation = Generation(*generations);
            self.life = Life::Starting(generation);
            commands.push(Command::StartProducer(generation, self.purpose, self.cause));
            self.cause = Cause::Routine;
        }
    }

    /// The shell created `generation`. `false` if it belongs to another slot, or is not wanted any more.
    pub(super) fn created(&mut self, generation: Generation) -> bool {
        let mine = self.life == Life::Starting(generation);
        if mine {
            self.life = Life::Ready(generation);
        }
        mine
    }

    /// The shell could not create `generation`.
    pub(super) fn not_created(&mut self, generation: Generation, now: Time, backoff: Backoff) {
        if self.life == Life::Starting(generation) {
            self.life = Life::Absent;
            self.cause = Cause::NotCreated;
            self.delay(now, backoff);
        }
    }

    /// A message was handed over.
    pub(super) fn handed(&mut self, now: Time) {
        self.outstanding += 1;
        self.owing_since.get_or_insert(now);
    }

    /// A message was reported as failed, or was not taken after all.
    pub(super) fn failed(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// A message was acknowledged.
    pub(super) fn acknowledged(&mut self, now: Time) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.owing_since = (self.outstanding > 0).then_some(now);
        self.losses = 0;
        self.deaths = 0;
    }

    /// A fatal error: no more sends, but reports count until `finished_dying`.
    pub(super) fn die(&mut self, now: Time) {
        if let Life::Ready(generation) = self.life {
            self.life = Life::Dying(generation, now);
            self.deaths = self.deaths.saturating_add(1);
        }
    }

    /// Whether a dead producer has told everything, or has had `grace` to do so.
    pub(super) fn finished_dying(&self, now: Time, grace: Time) -> bool {
        matches!(self.life, Life::Dying(_, since) if self.outstanding == 0 || now >= since + grace)
    }

    /// Whether it has owed an acknowledgement for `patience`. Failed reports are no acknowledgement: a client that
    /// fails everything at once is as wedged as a silent one.
    pub(super) fn overdue(&self, now: Time, patience: Time) -> bool {
        self.ready().is_some() && self.owing_since.is_some_and(|since| now >= since + patience)
    }

    /// Gives up the present generation for `cause`; the next one waits for the backoff.
    pub(super) fn lose(&mut self, cause: Cause, now: Time, backoff: Backoff, commands: &mut Vec<Command>) {
        self.retire(commands);
        self.cause = cause;
        self.delay(now, backoff);
    }

    /// What kept it from working may be mended: the next generation comes soon.
    pub(super) fn hope(&mut self) {
        self.losses = 0;
        self.not_before = Time::ZERO;
    }

    /// Gives up the present generation in the course of things.
    pub(super) fn retire(&mut self, commands: &mut Vec<Command>) {
        commands.extend(self.detach().map(Command::RetireProducer));
    }

    /// Takes the generation out of the slot without retiring it.
    pub(super) fn detach(&mut self) -> Option<Generation> {
        let life = std::mem::replace(&mut self.life, Life::Absent);
        self.owing_since = None;
        self.outstanding = 0;
        match life {
            Life::Absent => None,
            Life::Starting(generation) | Life::Ready(generation) | Life::Dying(generation, _) => Some(generation),
        }
    }

    /// Why the next generation is started, and that it must wait.
    pub(super) fn postpone(&mut self, cause: Cause, now: Time, backoff: Backoff) {
        self.cause = cause;
        self.delay(now, backoff);
    }

    fn delay(&mut self, now: Time, backoff: Backoff) {
        self.not_before = now + backoff.after(self.losses);
        self.losses = self.losses.saturating_add(1);
    }
}
