//! Files that may change while the bridge runs: one thread looks at all of them every 5 s, and at once when asked.
//!
//! Mounted secrets are replaced by moving a symbolic link, which file watchers see in many different ways; reading a
//! few small files now and then sees it in one. Nobody waits for the thread, since a mounted volume may hang. Then the
//! other files are not looked at either, until it is back.
//!
//! What a file means, and what becomes of a bad one, is left to the function that looks at it. It is called even if
//! nothing has changed, so it says nothing then.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How often files are looked at. The provider takes 5 to 10 minutes to roll out a new key.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks at some files, and takes over what has changed.
type Look = Box<dyn FnMut() + Send>;

/// Everything that is to be looked at.
#[derive(Default)]
pub(super) struct Files {
    looks: Vec<Look>,
}

impl Files {
    /// Adds files, by the function that looks at them.
    pub(super) fn add(&mut self, look: impl FnMut() + Send + 'static) {
        self.looks.push(Box::new(look));
    }

    /// Begins to look, until what is returned goes.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn keep_fresh(mut self) -> io::Result<LookAgain> {
        // One place: who asks during a look gets another one behind it, and nobody needs more.
        let (sender, requests) = sync_channel(1);
        let work = move || {
            loop {
                self.looks.iter_mut().for_each(|look| look());
                if !is_to_go_on(&requests) {
                    return;
                }
            }
        };
        thread::Builder::new().name("files".to_owned()).spawn(work)?;
        Ok(LookAgain(sender))
    }
}

/// Waits until it is time to look again; `false` if nobody can ask any more.
fn is_to_go_on(requests: &Receiver<()>) -> bool {
    !matches!(requests.recv_timeout(INTERVAL), Err(RecvTimeoutError::Disconnected))
}

/// Asks for a look at every file.
#[derive(Debug)]
pub(super) struct LookAgain(SyncSender<()>);

impl LookAgain {
    /// A look begins at once, or as soon as the present one ends.
    pub(super) fn ask(&self) {
        if self.0.try_send(()).is_err() {
            tracing::debug!("a look that has not begun is asked for already");
        }
    }
}
