//! The watch of our clock against the sender's: a gauge, and a line in the log where they differ too much.

use std::sync::Arc;
use std::time::Duration;

use crate::callback::{ClockOffset, Reminder, Standing, Window};
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::metrics::Metrics;

/// How often the estimate is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// Shows what `offset` comes to, for ever.
pub(super) async fn watch(offset: Arc<ClockOffset>, window: Window, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) {
    let mut reminder = Reminder::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = clock.monotonic();
        let estimate = offset.estimate(Timestamp::from(clock.wall()), now);
        metrics.keys.clock_offset.set(estimate.unwrap_or(f64::NAN));
        // A silence changes nothing that was said.
        let Some(seconds) = estimate else { continue };
        let standing = Standing::of(seconds);
        if reminder.is_due(standing, now) {
            tell(standing, seconds, window);
        }
    }
}

fn tell(standing: Standing, offset_seconds: f64, window: Window) {
    match standing {
        Standing::Agrees => tracing::info!(offset_seconds, "our clock agrees with the sender's again"),
        Standing::Ahead => tracing::warn!(
            offset_seconds,
            refuses_late_retries_from = window.refuses_late_retries_when_ahead(),
            refuses_all_from = window.refuses_all_when_ahead(),
            "our clock is ahead of the sender's, or only late retries came of late: see that it is synchronised; from \
             these offsets on authentic callbacks are refused as expired"
        ),
        Standing::Behind => tracing::warn!(
            offset_seconds,
            refuses_all_from = -window.refuses_when_behind(),
            "our clock is behind the sender's: see that it is synchronised; from this offset on authentic callbacks are \
             refused as too_far_ahead"
        ),
    }
}
