//! Events for whoever follows the status page (server-sent events, as the HTML standard defines them).
//!
//! The body is made when the connection can take more of it, out of what the journal holds then. So nothing is gathered
//! for a reader who is slow: what has left the journal by the time that he reads is not shown to him. Callbacks wake
//! nobody; the journal is looked at a few times a second while somebody follows.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::status::View;

/// How often the journal is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Every so many looks, everything else is shown as well.
const LOOKS_PER_PRESENT: u32 = 4;
/// Looks until the answer ends; browsers then ask again. Sooner than the listener would end the connection.
const LOOKS_MAX: u32 = 1200;
/// Milliseconds after which a browser asks again.
const RETRY_MILLISECONDS: u32 = 1000;

/// The body of the answer.
pub(super) struct Events {
    feed: Feed,
    looks: Interval,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    _seat: OwnedSemaphorePermit,
}

impl Events {
    /// What happens from now on, and what was missed since the event with the id `last`.
    pub(super) fn new(view: Arc<View>, last: &str, seat: OwnedSemaphorePermit, stop: CancellationToken) -> Self {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { feed: Feed::new(view, last), looks, stop: Box::pin(stop.cancelled_owned()), _seat: seat }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if self.stop.as_mut().poll(context).is_ready() || self.feed.looked >= LOOKS_MAX {
                return Poll::Ready(None);
            }
            match self.looks.poll_tick(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => {
                    let text = self.feed.look();
                    if !text.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))));
                    }
                }
            }
        }
    }
}

/// What one reader has seen.
struct Feed {
    view: Arc<View>,
    /// The number of the newest callback that he was shown.
    seen: u64,
    looked: u32,
}

impl Feed {
    fn new(view: Arc<View>, last: &str) -> Self {
        let begun = view.parts.journal.begun().microseconds().to_string();
        // Numbers of another journal, that of the process before, mean nothing here.
        let seen = last.split_once('-').filter(|(of, _)| *of == begun).and_then(|(_, number)| number.parse().ok());
        Self { view, seen: seen.unwrap_or(0), looked: 0 }
    }

    /// What is new, as the text of events; nothing if nothing is.
    fn look(&mut self) -> String {
        let journal = &self.view.parts.journal;
        let extract = journal.since(self.seen);
        let mut text = String::new();
        if self.looked == 0 {
            text = format!("retry: {RETRY_MILLISECONDS}\n\n");
        }
        if self.looked.is_multiple_of(LOOKS_PER_PRESENT) {
            let present = journal.present(&self.view.present());
            text.extend(["event: present\ndata: ", &present, "\n\n"]);
        }
        if extract.newest != self.seen || self.looked == 0 {
            self.seen = extract.newest;
            let id = format!("id: {}-{}\n", journal.begun().microseconds(), self.seen);
            text.extend([&id, "event: callbacks\ndata: ", &journal.callbacks(&extract), "\n\n"]);
        }
        self.looked += 1;
        text
    }
}
