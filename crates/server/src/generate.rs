//! From a job to a stream of events: what every API shares.
//!
//! A job names a model; the manager lends it; the prompt is made and checked on a blocking thread, where the service also
//! takes it in, so that whatever is wrong with a request is an error before its answer begins. Events then come through
//! a bounded channel that the service never waits for: a reader that falls too far behind is cut off. Dropping the stream
//! cancels the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use whit_engine::{
    AnswerShape, Calls, CancelToken, Event, FinishReason, Item, Model, Overflow, Prompt, Request,
    SamplerConfig, Speculation, Thoughts,
};
use whit_sample::Grammar;
use whit_text::tools::ThinkTags;

use crate::config::{KeepAlive, OverflowPolicy};
use crate::error::ApiError;
use crate::library;
use crate::manager::Lease;
use crate::observe::Facts;
use crate::prompt::{self, Dropped, Input};
use crate::state::{AppState, Stopping};

/// Events that a reader may be behind.
const BACKLOG: usize = 4096;
/// An answer that is shifted on and on ends after this many contexts, as with Ollama.
const ENDLESS: usize = 10;

/// What an API turns its request into.
pub(crate) struct Job {
    /// As the client names it.
    pub(crate) model: String,
    pub(crate) input: Input,
    pub(crate) sampling: SamplerConfig,
    pub(crate) stop: Vec<String>,
    /// `None`: until the model ends, or the context is full.
    pub(crate) max_tokens: Option<usize>,
    /// `None`: as the server is set.
    pub(crate) overflow: Option<OverflowPolicy>,
    /// Tokens at the beginning that [`OverflowPolicy::Shift`] keeps. `None`: the system message.
    pub(crate) n_keep: Option<usize>,
    /// `None`: as the server is set.
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) ignore_eos: bool,
    /// Tell the log-probability of each token of the prompt, and this many of the likeliest in its place.
    pub(crate) prompt_logprobs: Option<usize>,
    /// What the answer must be, where it is no call.
    pub(crate) grammar: Option<Grammar>,
    /// The tags around thoughts, which may come before it.
    pub(crate) thoughts: Option<ThinkTags>,
    /// The tools that the model may or must call.
    pub(crate) calls: Option<Calls>,
    /// Tokens of context, of which no more count than the model's pool holds. `None`: as the server is set.
    pub(crate) n_ctx: Option<usize>,
    /// Most tokens drafted for one step. `None`: as the server is set.
    pub(crate) max_draft: Option<usize>,
}

/// How many of the likeliest tokens stay, as requests say it: 0 and less is all of them.
pub(crate) fn top_k(asked: i64) -> u32 {
    u32::try_from(asked.max(0)).unwrap_or(u32::MAX)
}

impl Job {
    /// A job with default settings.
    pub(crate) fn new(model: impl Into<String>, input: Input) -> Job {
        Job {
            model: model.into(),
            input,
            sampling: SamplerConfig::default(),
            stop: Vec::new(),
            max_tokens: None,
            overflow: None,
            n_keep: None,
            keep_alive: None,
            ignore_eos: false,
            prompt_logprobs: None,
            grammar: None,
            thoughts: None,
            calls: None,
            n_ctx: None,
            max_draft: None,
        }
    }
}

/// The events of a job. The last one is [`Event::Done`] or an error; dropping it before cancels.
pub(crate) struct Stream {
    events: mpsc::Receiver<Item>,
    stopping: watch::Receiver<Stopping>,
    cancel: CancelOnDrop,
    state: AppState,
    lease: Lease,
    began: Instant,
    /// What the log will say of the request.
    facts: Arc<Facts>,
    /// Whether the first token is still to come.
    fresh: bool,
    ended: bool,
    /// The prompt as the model reads it.
    pub(crate) prompt: Vec<u32>,
    /// What was left out of the prompt, or dropped since.
    pub(crate) dropped: Dropped,
    /// How long it took until the model was there.
    pub(crate) load: Duration,
}

/// Makes sure of what the model needs, and begins to generate.
pub(crate) async fn start(state: &AppState, job: Job) -> Result<Stream, ApiError> {
    let began = Instant::now();
    let entry = state.find(&job.model)?;
    let job_model = entry.name.clone();
    let lease = state.manager.lease(&entry, job.keep_alive).await?;
    let load = began.elapsed();
    let facts = Facts::current();
    let cancel = CancelOnDrop { token: CancelToken::new(), slow: Arc::default(), ended: false };
    let (sender, events) = mpsc::channel(BACKLOG);
    let overflow = job.overflow.unwrap_or(state.config.overflow);
    let (service, token, slow) = (lease.service.clone(), cancel.token.clone(), cancel.slow.clone());
    let submit = move || {
        let input = match &entry.recipe {
            Some(recipe) => library::begin(&recipe.extras, job.input),
            None => job.input,
        };
        let n_ctx = job.n_ctx.unwrap_or(service.n_ctx()).clamp(1, service.longest_ctx());
        let prepared = prompt::prepare(service.model(), input, n_ctx, overflow, job.max_tokens)?;
        let thoughts = job.thoughts.map(|tags| Thoughts {
            begun: tags.opened_by(&prompt::end(service.model(), &prepared.tokens)),
            tags,
        });
        let shape = AnswerShape { thoughts, calls: job.calls, body: job.grammar };
        let grammar = shape.grammar(service.model().tokenizer()?)?;
        let is_endless = job.max_tokens.is_none() && overflow == OverflowPolicy::Shift;
        let request = Request {
            sampling: job.sampling,
            stop: job.stop,
            max_tokens: if is_endless { Some(ENDLESS * n_ctx) } else { job.max_tokens },
            ctx: Some(n_ctx),
            grammar,
            overflow: if overflow == OverflowPolicy::Shift { Overflow::Shift } else { Overflow::Error },
            n_keep: job.n_keep.or(prepared.n_keep),
            ignore_eos: job.ignore_eos,
            prompt_logprobs: job.prompt_logprobs,
            speculation: job.max_draft.map(|max_tokens| Speculation { max_tokens, ..service.speculation() }),
            cancel: Some(token),
            ..Request::new(Prompt::Tokens(prepared.tokens.clone()))
        };
        let sink = move |item: Item| match sender.try_send(item) {
            Ok(()) => true,
            Err(error) => {
                slow.store(matches!(error, mpsc::error::TrySendError::Full(_)), Ordering::Relaxed);
                false
            }
        };
        service.submit(request, Box::new(sink))?;
        Ok::<_, ApiError>(prepared)
    };
    let prepared =
        tokio::task::spawn_blocking(submit).await.map_err(|error| ApiError::internal(&error))??;
    facts.asks(&job_model, prepared.tokens.len());
    let stream = Stream {
        events,
        stopping: state.stopping.subscribe(),
        cancel,
        state: state.clone(),
        lease,
        began,
        facts,
        fresh: true,
        ended: false,
        prompt: prepared.tokens,
        dropped: prepared.dropped,
        load,
    };
    if state.config.log_prompts {
        let prompt = stream.text_of(&stream.prompt);
        tracing::info!(id = stream.facts.id, model = job_model, prompt, "prompt");
    }
    Ok(stream)
}

impl Stream {
    /// The next event; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        if self.ended {
            return None;
        }
        let item = tokio::select! {
            biased;
            item = self.events.recv() => item,
            _ = self.stopping.wait_for(|stopping| *stopping == Stopping::Now) => {
                self.ended = true;
                return Some(Err(ApiError::ShuttingDown));
            }
        };
        let event = match item {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                self.end();
                return Some(Err(error.into()));
            }
            None => {
                self.ended = true;
                let slow = self.cancel.slow.load(Ordering::Relaxed);
                return Some(Err(if slow { ApiError::SlowReader } else { ApiError::ShuttingDown }));
            }
        };
        match &event {
            Event::Token { .. } => {
                self.facts.token();
                if std::mem::replace(&mut self.fresh, false) {
                    self.state.metrics.first_token(self.began.elapsed());
                }
            }
            Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Shifted { n_dropped, .. } => self.dropped.tokens += n_dropped,
            Event::Done(done) => {
                self.end();
                self.state.metrics.answer(&done.usage);
                if done.reason == FinishReason::Cancelled {
                    return Some(Err(ApiError::ShuttingDown));
                }
            }
        }
        Some(Ok(event))
    }

    fn end(&mut self) {
        self.ended = true;
        self.cancel.ended = true;
    }

    /// The model that answers.
    pub(crate) fn model(&self) -> &Model {
        self.lease.service.model()
    }

    /// Since the request came.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether a token is one that ends an answer.
    pub(crate) fn ends_answer(&self, id: u32) -> bool {
        self.model().tokenizer().is_ok_and(|tokenizer| tokenizer.is_end_of_generation(id))
    }

    /// How a control token is spelled; nothing for a token that is text.
    pub(crate) fn control(&self, id: u32) -> Option<&str> {
        let tokenizer = self.model().tokenizer().ok().filter(|tokenizer| tokenizer.is_control(id))?;
        std::str::from_utf8(tokenizer.token_text(id)?).ok()
    }

    /// The end of the prompt as text: whether the template has opened thoughts.
    pub(crate) fn prompt_end(&self) -> String {
        prompt::end(self.model(), &self.prompt)
    }

    fn text_of(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&id| self.token_bytes(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of a token, for log-probabilities.
    pub(crate) fn token_bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(tokenizer) = self.model().tokenizer() {
            // An id of the engine's own is in the vocabulary.
            let _ = tokenizer.token_bytes(id, &mut bytes);
        }
        bytes
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.cancel.ended {
            self.state.metrics.cancelled();
        }
    }
}

/// Cancels also a request whose handler went away while it was being taken in.
struct CancelOnDrop {
    token: CancelToken,
    /// The reader fell behind.
    slow: Arc<AtomicBool>,
    ended: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.ended {
            self.token.cancel();
        }
    }
}
