//! How far our clock is ahead of the sender's, as far as signatures tell.
//!
//! A signature says by the sender's clock when it was made. What lies between that and our time of receipt is the way
//! here, a retry's delay, and the difference of the clocks; the shortest such time of the last while is the estimate. It
//! is held against the monotonic clock, which never steps: if ours is set wrong, the estimate follows at once.
//!
//! It errs to one side only. Who has no key can replay old signatures, and these look older, so that they never lower it;
//! nor do retries, if the sender leaves `t` as it was. Both can raise it while nothing fresh comes. That is why the
//! period is longer than the sender goes on trying: the first attempt is then remembered as long as its retries come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::event::Timestamp;

/// Signatures count for one to two of these. The sender's last retry comes 16 minutes after its first attempt.
const PERIOD: Duration = Duration::from_secs(20 * 60);
/// From here on our clock is called ahead. With the default grace the sender's last retries are refused from here on, and
/// a first retry, a minute after a first attempt, is just within.
const AHEAD_SECONDS: f64 = 60.0;
/// From here on it is called behind. The sender lets signatures expire up to 3 s later than it says, and nothing
/// arrives before it was sent.
const BEHIND_SECONDS: f64 = 5.0;
/// How often a clock that stays wrong is told of.
const REMINDER: Duration = Duration::from_secs(60 * 60);

/// Bits of a slot that hold milliseconds: enough for ten digits of seconds. The rest, 20 bits, numbers periods for 39
/// years.
const MILLISECOND_BITS: u32 = 44;
const MILLISECONDS_MAX: u64 = (1 << MILLISECOND_BITS) - 1;

/// The estimate. It may be shared between threads; to take a signature into account costs an atomic load, rarely more.
#[derive(Debug)]
pub struct ClockOffset {
    started: Instant,
    /// One for the periods with an even number, one for the others. Each holds the number plus 1, and the latest time of
    /// signing, in milliseconds that the sender's clock is ahead of the time since `started`.
    slots: [AtomicU64; 2],
}

impl ClockOffset {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(started: Instant) -> Self {
        Self { started, slots: [AtomicU64::new(0), AtomicU64::new(0)] }
    }

    /// Takes an authentic signature into account, made in the sender's second `signed_at` and received at `now`.
    pub fn signed(&self, signed_at: i64, now: Instant) {
        let (number, since) = self.place(now);
        let ahead = u64::try_from(signed_at).unwrap_or(0).saturating_mul(1000).saturating_sub(since);
        let seen = ((number + 1) << MILLISECOND_BITS) | ahead.min(MILLISECONDS_MAX);
        // A later period outweighs an earlier one, and within a period the later signature does.
        let slot = self.slot(number);
        if slot.load(Ordering::Relaxed) < seen {
            slot.fetch_max(seen, Ordering::Relaxed);
        }
    }

    /// Seconds that our clock, which says `wall` at `now`, is ahead of the sender's; negative if it is behind. Nothing
    /// if no signature was seen of late.
    #[must_use]
    pub fn estimate(&self, wall: Timestamp, now: Instant) -> Option<f64> {
        let (number, since) = self.place(now);
        let seen_in = |number: u64| {
            let seen = self.slot(number).load(Ordering::Relaxed);
            (seen >> MILLISECOND_BITS == number + 1).then_some(seen & MILLISECONDS_MAX)
        };
        let ahead = number.checked_sub(1).and_then(seen_in).max(seen_in(number))?;
        let milliseconds = wall.microseconds() / 1000 - whole(since) - whole(ahead);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 milliseconds")]
        Some(milliseconds as f64 / 1000.0)
    }

    /// The number of the present period, and the milliseconds since the beginning.
    fn place(&self, now: Instant) -> (u64, u64) {
        let since = now.saturating_duration_since(self.started);
        (since.as_secs() / PERIOD.as_secs(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        let [even, odd] = &self.slots;
        if number.is_multiple_of(2) { even } else { odd }
    }
}

fn whole(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX / 4)
}

/// What an estimate comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Both clocks say the same, as far as can be told.
    Agrees,
    /// Ours is ahead, or nothing but late retries came.
    Ahead,
    /// Ours is behind.
    Behind,
}

impl Standing {
    /// Judges an estimate.
    #[must_use]
    pub fn of(offset_seconds: f64) -> Self {
        if offset_seconds > AHEAD_SECONDS {
            Self::Ahead
        } else if offset_seconds < -BEHIND_SECONDS {
            Self::Behind
        } else {
            Self::Agrees
        }
    }
}

/// Decides when to speak of the clock: at every change, and from time to time while it is wrong.
#[derive(Debug, Default)]
pub struct Reminder {
    told: Option<(Standing, Instant)>,
}

impl Reminder {
    /// Whether `standing` is to be told of now. A bridge that begins is taken to agree.
    pub fn is_due(&mut self, standing: Standing, now: Instant) -> bool {
        let due = match self.told {
            None => standing != Standing::Agrees,
            Some((told, _)) if told != standing => true,
            Some((_, at)) => standing != Standing::Agrees && now.saturating_duration_since(at) >= REMINDER,
        };
        if due {
            self.told = Some((standing, now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_700_000_000;

    fn begin() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        Instant::now()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Our clock `after` so many seconds, which is right but for `wrong` seconds.
    fn wall(after: u64, wrong: i64) -> Timestamp {
        Timestamp::from_seconds((START + after).checked_add_signed(wrong).unwrap(), 0).unwrap()
    }

    fn second(after: u64) -> i64 {
        i64::try_from(START + after).unwrap()
    }

    #[test]
    fn nothing_is_estimated_before_a_signature_and_long_after_the_last_one() {
        let begun = begin();
        let offset = ClockOffset::new(begun);
        assert_eq!(offset.estimate(wall(0, 0), begun), None);
        offset.signed(second(100), begun + at(100));
        for (after, known) in [(100, true), (1199, true), (2399, true), (2400, false), (4800, false), (100_000, false)]
        {
            assert_eq!(offset.estimate(wall(after, 0), begun + at(after)).is_some(), known, "{after}");
        }
    }

    #[test]
    fn a_clock_that_steps_is_seen_without_another_callback() {
        let begun = begin();
        let offset = ClockOffset::new(begun);
        offset.signed(second(10), begun + at(11));
        assert_eq!(offset.estimate(wall(12, 0), begun + at(12)), Some(1.0));
        assert_eq!(offset.estimate(wall(12, 3600), begun + at(12)), Some(3601.0));
        assert_eq!(offset.estimate(wall(12, -3600), begun + at(12)), Some(-3599.0));
    }

    #[test]
    fn retries_of_a_callback_do_not_look_like_a_wrong_clock_while_its_first_attempt_was_seen() {
        for first in [0, 600, 1199, 1200, 1201] {
            let begun = begin();
            let offset = ClockOffset::new(begun);
            for retry in 0..=12 {
                let now = first + retry * 80;
                // The sender leaves `t` as it was.
                offset.signed(second(first), begun + at(now));
                assert_eq!(offset.estimate(wall(now, 0), begun + at(now)), Some(0.0), "retry {retry} of {first}");
            }
        }
    }

    #[test]
    fn bounds_leave_room_for_what_honest_callbacks_show() {
        for (offset, standing) in [
            (0.0, Standing::Agrees),
            (60.0, Standing::Agrees),
            (60.1, Standing::Ahead),
            // The sender's signatures live up to 3 s longer than it says.
            (-4.0, Standing::Agrees),
            (-5.1, Standing::Behind),
        ] {
            assert_eq!(Standing::of(offset), standing, "{offset}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_of_when_it_begins_and_ends_and_hourly() {
        let (begun, mut reminder) = (begin(), Reminder::default());
        let mut told = |standing, after| reminder.is_due(standing, begun + at(after));
        assert!(!told(Standing::Agrees, 0));
        assert!(told(Standing::Ahead, 10));
        assert!(!told(Standing::Ahead, 3609));
        assert!(told(Standing::Ahead, 3610));
        assert!(!told(Standing::Ahead, 3620));
        assert!(told(Standing::Behind, 3630));
        assert!(told(Standing::Agrees, 3640));
        assert!(!told(Standing::Agrees, 10_000));
    }

    proptest! {
        /// Seconds to the next callback, its age on arrival, how wrong our clock is.
        #[test]
        fn the_estimate_is_the_least_age_of_the_last_periods(
            callbacks in prop::collection::vec((0_u64..900, 0_u64..5000), 1..60),
            wrong in -5000_i64..5000,
        ) {
            let begun = begin();
            let offset = ClockOffset::new(begun);
            let (mut now, mut seen) = (0, Vec::new());
            for (wait, age) in callbacks {
                now += wait;
                seen.push((now / PERIOD.as_secs(), age));
                offset.signed(second(now) - i64::try_from(age).unwrap(), begun + at(now));
                let counts = |period: u64| period + 1 >= now / PERIOD.as_secs();
                let least = seen.iter().filter(|(period, _)| counts(*period)).map(|(_, age)| *age).min().unwrap();
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let expected = (i64::try_from(least).unwrap() + wrong) as f64;
                prop_assert_eq!(offset.estimate(wall(now, wrong), begun + at(now)), Some(expected));
            }
        }

        /// Whoever has no key can only send again what was signed before.
        #[test]
        fn no_replay_lowers_an_estimate(ages in prop::collection::vec(0_i64..2_000_000_000, 0..50), fresh in 0_i64..60) {
            let begun = begin();
            let offset = ClockOffset::new(begun);
            offset.signed(second(0) - fresh, begun);
            for age in ages {
                offset.signed(second(0) - fresh - age, begun);
            }
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let expected = fresh as f64;
            prop_assert_eq!(offset.estimate(wall(0, 0), begun), Some(expected));
        }
    }
}
