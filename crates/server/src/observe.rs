//! What is written down of a request: its id, what was asked, how it was answered, how long it took, and by which model
//! with how many tokens. Never what a prompt says, unless the server was told to.
//!
//! The line comes when the answer has ended, for a stream with its last byte, or when its reader has gone.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::openai::new_id;
use crate::state::AppState;

/// The name of a request: taken over where a proxy gave one, in every answer, and in every line about it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// As Anthropic's clients look for it.
const ANTHROPIC_ID: HeaderName = HeaderName::from_static("request-id");
/// A name from outside may have this many characters.
const MAX_ID: usize = 64;

tokio::task_local! {
    static CURRENT: Arc<Facts>;
}

/// What is learnt of a request on its way.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) id: String,
    model: OnceLock<String>,
    tokens_in: AtomicUsize,
    tokens_out: AtomicUsize,
}

impl Facts {
    /// Of the request that this task handles; of nobody's in a task of its own.
    pub(crate) fn current() -> Arc<Facts> {
        CURRENT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Which model answers, and the tokens of the prompt that it reads.
    pub(crate) fn asks(&self, model: &str, tokens_in: usize) {
        self.model.get_or_init(|| model.to_owned());
        self.tokens_in.fetch_add(tokens_in, Ordering::Relaxed);
    }

    /// One token more was generated.
    pub(crate) fn token(&self) {
        self.tokens_out.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a request, and sees to its line in the log.
pub(crate) async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_plain(id));
    let id = given.map_or_else(|| new_id("req_"), str::to_owned);
    let facts = Arc::new(Facts { id, ..Facts::default() });
    let mut response = CURRENT.scope(Arc::clone(&facts), next.run(request)).await;
    let status = response.status().as_u16();
    state.metrics.request(&route, status);
    if let Ok(id) = HeaderValue::from_str(&facts.id) {
        if route.starts_with("/v1/messages") {
            response.headers_mut().insert(ANTHROPIC_ID, id.clone());
        }
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let line = Line { facts, method, route, status, began, is_whole: false };
    response.map(|body| Body::new(Observed { body, line }))
}

fn is_plain(id: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(plain)
}

/// The line of a request, written when it is dropped.
struct Line {
    facts: Arc<Facts>,
    method: Method,
    route: String,
    status: u16,
    began: Instant,
    /// Whether the answer was read to its end.
    is_whole: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        let model = self.facts.model.get();
        let tokens = |count: &AtomicUsize| model.map(|_| count.load(Ordering::Relaxed));
        tracing::info!(
            id = self.facts.id,
            method = self.method.as_str(),
            route = self.route,
            status = self.status,
            ms = self.began.elapsed().as_millis() as u64,
            model = model.map(String::as_str),
            tokens_in = tokens(&self.facts.tokens_in),
            tokens_out = tokens(&self.facts.tokens_out),
            whole = self.is_whole,
            "request"
        );
    }
}

/// The body of an answer. What makes it goes before its line is written.
struct Observed {
    body: Body,
    line: Line,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.line.is_whole = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_outside_are_plain() {
        for (id, expected) in [
            ("req_1", true),
            ("0b5e-4a.Z", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("é", false),
            (&*"x".repeat(64), true),
            (&*"x".repeat(65), false),
        ] {
            assert_eq!(is_plain(id), expected, "{id}");
        }
    }
}
