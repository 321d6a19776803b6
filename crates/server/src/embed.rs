//! From texts to vectors: what every endpoint that embeds shares.
//!
//! The texts of a request go to the model's service as a few requests at a time, so that it always has the next ones at
//! hand and other clients still find a place in its line. Dropping the work cancels what is left of it.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use whit_engine::{CancelToken, EmbedRequest, Event, FinishReason, Item, Prompt};

use crate::config::KeepAlive;
use crate::error::ApiError;
use crate::observe::Facts;
use crate::state::{AppState, Stopping};

/// Most texts of one request, as with OpenAI.
const MAX_INPUTS: usize = 2048;
/// Requests in the service, for each that it runs at the same time.
const AHEAD: usize = 2;

/// What an API turns its request into.
pub(crate) struct Job {
    /// As the client names it.
    pub(crate) model: String,
    pub(crate) inputs: Vec<Prompt>,
    /// What the inputs are scored for, by a model that ranks: each vector is then one number, a logit.
    pub(crate) query: Option<String>,
    /// Leave out the end of a text that is longer than the context, rather than refuse it.
    pub(crate) truncate: bool,
    /// Keep this many values of each vector and bring them to length 1 again.
    pub(crate) dimensions: Option<usize>,
    /// `None`: as the server is set.
    pub(crate) keep_alive: Option<KeepAlive>,
    /// Tokens of context. `None`: the server's.
    pub(crate) n_ctx: Option<usize>,
}

impl Job {
    /// A job with default settings.
    pub(crate) fn new(model: impl Into<String>, inputs: Vec<Prompt>) -> Job {
        Job {
            model: model.into(),
            inputs,
            query: None,
            truncate: false,
            dimensions: None,
            keep_alive: None,
            n_ctx: None,
        }
    }
}

/// The vectors of a job, in the order of its texts.
pub(crate) struct Vectors {
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub(crate) n_tokens: usize,
    /// How long it took until the model was there.
    pub(crate) load: Duration,
    /// How long it all took.
    pub(crate) total: Duration,
}

/// Makes sure of the model, and embeds.
pub(crate) async fn run(state: &AppState, job: Job) -> Result<Vectors, ApiError> {
    let began = Instant::now();
    if job.inputs.len() > MAX_INPUTS {
        let text = format!("{} inputs, but one request may have at most {MAX_INPUTS}", job.inputs.len());
        return Err(ApiError::BadRequest(text));
    }
    let entry = state.library.find(&job.model)?;
    let lease = state.manager.lease(&entry, job.keep_alive).await?;
    let load = began.elapsed();
    let facts = Facts::current();
    let service = lease.service.clone();
    let width = service.model().info().n_embd;
    if let Some(n) = job.dimensions.filter(|n| !(1..=width).contains(n)) {
        let text = format!("dimensions is {n}, but the vectors of this model have {width} values");
        return Err(ApiError::BadRequest(text));
    }
    let n_inputs = job.inputs.len();
    let cancel = CancelOnDrop(CancelToken::new());
    let token = cancel.0.clone();
    let (sender, mut items) = mpsc::unbounded_channel::<(usize, Item)>();
    let n_places = AHEAD * service.max_sequences();
    let (give_place, mut places) = mpsc::channel::<()>(n_places);
    for _ in 0..n_places.min(n_inputs) {
        let _ = give_place.try_send(());
    }
    let n_ctx = job.n_ctx.map(|n| n.clamp(1, service.longest_ctx()));
    // Held to the end, so that no answer is missed between the last submission and its result.
    let answers = sender.clone();
    let mut submitting = tokio::task::spawn_blocking(move || {
        for (index, input) in job.inputs.into_iter().enumerate() {
            // Nobody gives places any more: the request is gone.
            if places.blocking_recv().is_none() {
                break;
            }
            let (input, document) = match &job.query {
                Some(query) => (Prompt::Text(query.clone()), Some(input)),
                None => (input, None),
            };
            let request = EmbedRequest {
                document,
                truncate: job.truncate,
                ctx: n_ctx,
                cancel: Some(token.clone()),
                ..EmbedRequest::new(input)
            };
            let sender = answers.clone();
            service.embed(request, Box::new(move |item| sender.send((index, item)).is_ok()))?;
        }
        Ok::<(), ApiError>(())
    });
    let mut stopping = state.stopping.subscribe();
    let mut vectors = vec![Vec::new(); n_inputs];
    let (mut n_left, mut n_tokens, mut submitted) = (n_inputs, 0, false);
    while n_left > 0 || !submitted {
        let (index, item) = tokio::select! {
            biased;
            result = &mut submitting, if !submitted => {
                result.map_err(|error| ApiError::internal(&error))??;
                submitted = true;
                continue;
            }
            item = items.recv() => item.ok_or(ApiError::ShuttingDown)?,
            _ = stopping.wait_for(|stopping| *stopping == Stopping::Now) => return Err(ApiError::ShuttingDown),
        };
        match item? {
            Event::Embedding(mut vector) => {
                if let Some(n) = job.dimensions {
                    shorten(&mut vector, n);
                }
                vectors[index] = vector;
            }
            Event::Done(done) if done.reason == FinishReason::Cancelled => {
                return Err(ApiError::ShuttingDown);
            }
            Event::Done(done) => {
                state.metrics.answer(&done.usage);
                n_tokens += done.usage.prompt_tokens;
                n_left -= 1;
                let _ = give_place.try_send(());
            }
            _ => {}
        }
    }
    drop(sender);
    facts.asks(&entry.name, n_tokens);
    Ok(Vectors { vectors, n_tokens, load, total: began.elapsed() })
}

/// Cancels what has not ended when the client goes, or when another text failed.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The first `n` values, brought to length 1.
fn shorten(vector: &mut Vec<f32>, n: usize) {
    vector.truncate(n);
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

/// How alike two vectors of length 1 are.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_vectors_have_length_one() {
        let mut vector = vec![0.6, 0.0, 0.8];
        shorten(&mut vector, 2);
        assert_eq!(vector, [1.0, 0.0]);
        let mut zeros = vec![0.0, 0.0, 1.0];
        shorten(&mut zeros, 2);
        assert_eq!(zeros, [0.0, 0.0]);
        assert!((cosine(&[0.6, 0.8], &[0.8, 0.6]) - 0.96).abs() < 1e-6);
    }
}
