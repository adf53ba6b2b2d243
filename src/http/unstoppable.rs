//! Work that goes on when whoever waits for it is gone.
//!
//! It runs in the task of the one who waits: a task of its own would have to be made for every callback, and be scheduled
//! twice. If that one goes first, what is left of the work becomes a tracked task. It is tracked either way, and a panic
//! in it ends the work and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// The work has panicked.
#[derive(Debug)]
pub(super) struct Panicked;

/// See the module.
pub(super) struct Unstoppable<F: Future<Output: Send> + Send + 'static> {
    /// `None` once it has ended.
    work: Option<Pin<Box<TrackedFuture<F>>>>,
}

impl<F: Future<Output: Send> + Send + 'static> Unstoppable<F> {
    /// `work`, which counts as a task of `tracker` as long as it lasts.
    pub(super) fn new(work: F, tracker: &TaskTracker) -> Self {
        Self { work: Some(Box::pin(tracker.track_future(work))) }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Unstoppable<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        // After a panic the work is dropped, and never polled again.
        let polled = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => Ok(outcome),
            Err(_) => Err(Panicked),
        };
        self.work = None;
        Poll::Ready(polled)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Unstoppable<F> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and nothing can go on.
        if let Some((work, runtime)) = self.work.take().zip(Handle::try_current().ok()) {
            // It counts already.
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn on_a_runtime(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
    }

    #[test]
    fn it_goes_on_when_nobody_waits_any_more_even_if_nobody_ever_did() {
        for was_waited_for in [true, false] {
            on_a_runtime(async {
                let tracker = TaskTracker::new();
                let (go_on, told) = oneshot::channel::<()>();
                let (say, said) = oneshot::channel();
                let work = async move {
                    told.await.unwrap();
                    say.send("done").unwrap();
                };
                let mut waiting = Box::pin(Unstoppable::new(work, &tracker));
                let mut context = Context::from_waker(std::task::Waker::noop());
                if was_waited_for {
                    assert!(waiting.as_mut().poll(&mut context).is_pending());
                }
                drop(waiting);
                assert_eq!(tracker.len(), 1, "it is still tracked");
                go_on.send(()).unwrap();
                assert_eq!(said.await, Ok("done"));
                tracker.close();
                tracker.wait().await;
            });
        }
    }

    #[test]
    fn whoever_waits_gets_what_comes_of_it_or_learns_of_a_panic() {
        on_a_runtime(async {
            let tracker = TaskTracker::new();
            assert_eq!(Unstoppable::new(async { 7 }, &tracker).await.unwrap(), 7);
            let mut waiting = Unstoppable::new(async { panic!("planned") }, &tracker);
            let ended: Result<(), Panicked> = (&mut waiting).await;
            assert!(ended.is_err() && tracker.is_empty());
        });
    }
}
