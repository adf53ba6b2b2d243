//! Patience with a peer who does not read: a write that gets nowhere for too long ends the connection. And none with one
//! who says too much before its TLS handshake is over.
//!
//! hyper bounds how long it waits for a head, not how long it waits for room to write. A client that sends requests
//! and never takes an answer would keep its connection, its place and its buffers for as long as it likes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A stream whose writes have a deadline, which every byte that is taken sets anew.
pub(super) struct Patience<S> {
    stream: S,
    deadline: Duration,
    /// Runs while a write waits for room; there is none as long as the peer reads, which is nearly always.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes that may still be read before something has to be understood; `None` if there is no limit.
    unproven: Option<usize>,
}

impl<S: Unpin> Patience<S> {
    pub(super) fn new(stream: S, deadline: Duration) -> Self {
        Self { stream, deadline, waiting: None, unproven: None }
    }

    /// Reads about `bytes` and no more, until [`Self::listen_on`].
    pub(super) fn that_hears(self, bytes: usize) -> Self {
        Self { unproven: Some(bytes), ..self }
    }

    /// Reads whatever comes from here on.
    pub(super) fn listen_on(&mut self) {
        self.unproven = None;
    }

    /// One attempt to write; an error if it and all those before it have waited for too long.
    fn attempt<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), context) {
            self.waiting = None;
            return Poll::Ready(written);
        }
        let deadline = self.deadline;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        // Polling also asks to be woken, since a peer who never reads never will wake anybody.
        waiting.as_mut().poll(context).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unproven == Some(0) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the peer says too much")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.unproven = self.unproven.map(|left| left.saturating_sub(bytes));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.attempt(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.attempt(context, |stream, context| stream.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket has nothing to flush and does not wait when it is shut down; were it otherwise, that would be no write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
