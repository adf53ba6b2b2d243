//! The last hour, minute by minute: how many callbacks came to what, and how long they took.

use crate::event::Timestamp;
use crate::metrics::Outcome;

/// Minutes that are kept.
pub(super) const MINUTES: usize = 60;
const SECONDS_OF_MINUTE: i64 = 60;

/// Classes of durations: eight for each doubling, from 64 µs to 33 s. So a quantile is off by 6 % at most.
const CLASSES: usize = 19 << STEP_BITS;
const STEP_BITS: u32 = 3;
const LEAST_BITS: u32 = 6;
const MICROSECONDS_MAX: u64 = (1 << (LEAST_BITS + 19)) - 1;

/// The minutes, each at the place that its number gives it.
#[derive(Debug, Clone)]
pub(super) struct Hour {
    minutes: Vec<Minute>,
}

impl Default for Hour {
    fn default() -> Self {
        Self { minutes: vec![Minute::new(-1); MINUTES] }
    }
}

/// One minute.
#[derive(Debug, Clone)]
pub(super) struct Minute {
    /// Minutes since 1970.
    number: i64,
    /// Acknowledged by Kafka.
    pub(super) accepted: u32,
    /// Synced in the spool.
    pub(super) spooled: u32,
    /// Answered with a 200, and nothing was published: repeats, kinds that are not published, dead letters.
    pub(super) other: u32,
    /// Not acknowledged.
    pub(super) refused: u32,
    /// Those that were accepted or spooled, by the class of their duration.
    durations: [u32; CLASSES],
}

impl Minute {
    fn new(number: i64) -> Self {
        Self { number, accepted: 0, spooled: 0, other: 0, refused: 0, durations: [0; CLASSES] }
    }

    /// Seconds since 1970 at which it begins.
    pub(super) fn begins(&self) -> i64 {
        self.number * SECONDS_OF_MINUTE
    }

    /// Microseconds within which this many hundredths of the events were safe; nothing if there was none.
    pub(super) fn quantile(&self, hundredths: u64) -> Option<u64> {
        let total: u64 = self.durations.iter().map(|count| u64::from(*count)).sum();
        let rank = (total * hundredths).div_ceil(100).max(1);
        let mut seen = 0;
        for (class, count) in self.durations.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Some(middle(class));
            }
        }
        None
    }
}

impl Hour {
    pub(super) fn add(&mut self, at: Timestamp, outcome: Outcome, microseconds: u64) {
        let number = at.seconds() / SECONDS_OF_MINUTE;
        let place = usize::try_from(number).unwrap_or(0) % MINUTES;
        let Some(minute) = self.minutes.get_mut(place) else { return };
        if minute.number != number {
            *minute = Minute::new(number);
        }
        let count = match outcome {
            Outcome::Accepted => &mut minute.accepted,
            Outcome::Spooled => &mut minute.spooled,
            Outcome::Duplicate | Outcome::Ignored(_) | Outcome::PassedOn(_) | Outcome::DeadLettered(_) => {
                &mut minute.other
            }
            Outcome::Refused(_) | Outcome::Unresolved => &mut minute.refused,
        };
        *count = count.saturating_add(1);
        if matches!(outcome, Outcome::Accepted | Outcome::Spooled)
            && let Some(count) = minute.durations.get_mut(class(microseconds))
        {
            *count = count.saturating_add(1);
        }
    }

    /// The minutes up to the one of `now`, the oldest first; those without a callback are empty.
    pub(super) fn until(&self, now: Timestamp) -> impl Iterator<Item = Minute> {
        let last = now.seconds() / SECONDS_OF_MINUTE;
        let first = last - i64::try_from(MINUTES).unwrap_or(0) + 1;
        (first..=last).map(|number| {
            let kept = self.minutes.iter().find(|minute| minute.number == number);
            kept.cloned().unwrap_or_else(|| Minute::new(number))
        })
    }
}

fn class(microseconds: u64) -> usize {
    let bounded = microseconds.clamp(1 << LEAST_BITS, MICROSECONDS_MAX);
    let doubling = bounded.ilog2();
    let step = (bounded >> (doubling - STEP_BITS)) & ((1 << STEP_BITS) - 1);
    (((doubling - LEAST_BITS) << STEP_BITS) as usize) + usize::try_from(step).unwrap_or(0)
}

/// The middle of a class, in microseconds.
fn middle(class: usize) -> u64 {
    let doubling = u32::try_from(class >> STEP_BITS).unwrap_or(0) + LEAST_BITS;
    let step = class as u64 & ((1 << STEP_BITS) - 1);
    let width = 1 << (doubling - STEP_BITS);
    (1 << doubling) + step * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_seconds(second, 0).unwrap()
    }

    #[test]
    fn a_quantile_is_off_by_a_sixteenth_at_most() {
        for microseconds in (64..33_000_000).step_by(997) {
            let found = middle(class(microseconds));
            assert!(found.abs_diff(microseconds) * 16 <= microseconds, "{microseconds} became {found}");
        }
        assert_eq!(class(0), 0);
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn a_minute_knows_its_median_and_its_slowest() {
        let mut hour = Hour::default();
        for _ in 0..98 {
            hour.add(at(600), Outcome::Accepted, 2000);
        }
        for _ in 0..2 {
            hour.add(at(659), Outcome::Spooled, 1_000_000);
        }
        hour.add(at(659), Outcome::Refused(Refusal::Expired), 30_000_000);
        hour.add(at(659), Outcome::Duplicate, 30_000_000);
        let minute = hour.until(at(659)).last().unwrap();
        assert_eq!((minute.accepted, minute.spooled, minute.other, minute.refused), (98, 2, 1, 1));
        assert!(minute.quantile(50).is_some_and(|median| median.abs_diff(2000) <= 125), "{:?}", minute.quantile(50));
        assert!(minute.quantile(98).is_some_and(|median| median < 2200), "{:?}", minute.quantile(98));
        assert!(minute.quantile(99).is_some_and(|slowest| slowest > 900_000), "{:?}", minute.quantile(99));
        assert_eq!(Minute::new(1).quantile(50), None);
    }

    #[test]
    fn the_hour_has_sixty_minutes_and_forgets_what_is_older() {
        let mut hour = Hour::default();
        hour.add(at(0), Outcome::Accepted, 1);
        hour.add(at(59 * 60), Outcome::Accepted, 1);
        let accepted = |now| hour.until(at(now)).map(|minute| minute.accepted).collect::<Vec<_>>();
        let first_and_last = |minutes: Vec<u32>| (minutes.len(), minutes.first().copied(), minutes.last().copied());
        assert_eq!(first_and_last(accepted(59 * 60 + 59)), (60, Some(1), Some(1)));
        assert_eq!(first_and_last(accepted(60 * 60)), (60, Some(0), Some(0)));
        assert_eq!(accepted(60 * 60).iter().sum::<u32>(), 1);
        hour.add(at(60 * 60), Outcome::Accepted, 1);
        let minute = hour.until(at(60 * 60)).last().unwrap();
        assert_eq!((minute.accepted, minute.begins()), (1, 3600));
    }
}
