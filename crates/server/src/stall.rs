//! Clients that stall: a body of which nothing more comes, an answer of which nothing more is taken. Slowness alone is no
//! fault, as long as something moves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::error::ApiError;

/// Nothing has come for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {} s", .0.as_secs())]
struct Stalled(Duration);

/// What to tell the client of a body that could not be read to its end.
pub(crate) fn failure(error: &axum::Error) -> ApiError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Stalled>() {
            return ApiError::Timeout;
        }
        cause = error.source();
    }
    ApiError::BadRequest("the body broke off".to_owned())
}

/// Runs out while one waits, and begins anew when something has moved.
struct Timer {
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Timer {
    fn new(limit: Duration) -> Timer {
        Timer { limit, sleep: Box::pin(sleep(limit)), is_waiting: false }
    }

    /// What has been waited for is there.
    fn moved(&mut self) {
        self.is_waiting = false;
    }

    /// Ready when it has been waited for too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
        self.sleep.as_mut().poll(context)
    }
}

/// A body that fails when nothing more comes of it.
pub(crate) struct Moving {
    body: Body,
    timer: Timer,
}

impl Moving {
    /// `limit`: the longest pause.
    pub(crate) fn body(body: Body, limit: Duration) -> Body {
        Body::new(Moving { body, timer: Timer::new(limit) })
    }
}

impl HttpBody for Moving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer.moved();
            return Poll::Ready(frame);
        }
        ready!(self.timer.poll(context));
        Poll::Ready(Some(Err(axum::Error::new(Stalled(self.timer.limit)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that fails when nothing more is taken from it.
pub(crate) struct Taken<S> {
    stream: S,
    timer: Timer,
}

impl<S> Taken<S> {
    /// `limit`: the longest that bytes may wait.
    pub(crate) fn new(stream: S, limit: Duration) -> Taken<S> {
        Taken { stream, timer: Timer::new(limit) }
    }

    fn check<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.timer.moved();
            return poll;
        }
        ready!(self.timer.poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
