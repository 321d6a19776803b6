//! Server-sent events: a task writes, the body of the response carries.
//!
//! When the client goes, the task is dropped where it waits, and what it was generating with it.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc;

/// Events that may wait for the connection.
const BACKLOG: usize = 64;

/// Where events are written to.
#[derive(Clone)]
pub(crate) struct Sender(mpsc::Sender<Bytes>);

impl Sender {
    /// An event of data alone.
    pub(crate) async fn data(&self, value: &Value) {
        self.write(format!("data: {value}\n\n")).await;
    }

    /// An event with a name.
    pub(crate) async fn event(&self, name: &str, value: &Value) {
        self.write(format!("event: {name}\ndata: {value}\n\n")).await;
    }

    /// The end, as OpenAI says it.
    pub(crate) async fn done(&self) {
        self.write("data: [DONE]\n\n".to_owned()).await;
    }

    async fn write(&self, text: String) {
        // When nobody reads, the task ends on its own.
        let _ = self.0.send(text.into()).await;
    }
}

/// A response that carries what `work` writes.
pub(crate) fn respond<F>(work: impl FnOnce(Sender) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel::<Bytes>(BACKLOG);
    let work = work(Sender(sender.clone()));
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            () = sender.closed() => {}
        }
    });
    let events =
        stream::poll_fn(move |context| receiver.poll_recv(context).map(|item| item.map(Ok::<_, Infallible>)));
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
