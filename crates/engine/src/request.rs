//! What a caller asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use whit_sample::{Grammar, SamplerConfig};
use whit_text::Message;

use crate::Speculation;

/// Names a request among those of its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// What the model shall go on from.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Text to be continued, as it is. Control tokens spelled out in it are plain text.
    Text(String),
    /// A conversation, put into the form that the model was taught (its chat template).
    Chat(Vec<Message>),
    /// Token ids, as they are.
    Tokens(Vec<u32>),
}

/// What to do when a sequence outgrows the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// A prompt that does not fit is an error; an answer ends with
    /// [`FinishReason::ContextFull`](crate::FinishReason::ContextFull).
    #[default]
    Error,
    /// Keep the first [`Request::n_keep`] tokens, drop the older half of the rest, and read what remains anew, so that
    /// the result is exactly that of a shorter prompt.
    Shift,
}

/// A request for text.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to go on from.
    pub prompt: Prompt,
    /// More variables for the chat template, such as `enable_thinking`, where `prompt` is a conversation.
    pub variables: Map<String, Value>,
    /// How to choose tokens.
    pub sampling: SamplerConfig,
    /// Most tokens to generate. `None`: until the model ends or the context is full. 0: the prompt is read, and that is all.
    pub max_tokens: Option<usize>,
    /// Tokens of context for this request. More than the engine's [longest](crate::Engine::longest_ctx) count as that.
    /// `None`: the engine's [usual](crate::Engine::n_ctx).
    pub ctx: Option<usize>,
    /// Texts at which to stop; they are not part of the answer.
    pub stop: Vec<String>,
    /// What the answer must look like. It ends, by [`FinishReason::Eos`](crate::FinishReason::Eos), when the grammar allows
    /// nothing more; one that [`max_tokens`](Self::max_tokens) or a stop text cuts off is incomplete.
    pub grammar: Option<Grammar>,
    /// What to do when the context is full.
    pub overflow: Overflow,
    /// Tokens at the beginning that [`Overflow::Shift`] keeps, at most half the context. `None`: the system message of a
    /// conversation, or else the token that begins a text, if there is one.
    pub n_keep: Option<usize>,
    /// Tell the log-probability of each token of the prompt, and this many of the likeliest in its place
    /// ([`Event::Prompt`](crate::Event::Prompt)). The prompt is then read whole, without what is cached of it, and must fit
    /// into the context whatever `overflow` says.
    pub prompt_logprobs: Option<usize>,
    /// Go on past the tokens with which the model ends its answer: for measuring.
    pub ignore_eos: bool,
    /// How tokens are drafted. `None`: as [the engine is set](crate::EngineOptions::speculation).
    pub speculation: Option<Speculation>,
    /// Ends the request from elsewhere.
    pub cancel: Option<CancelToken>,
}

impl Request {
    /// A request with default settings: sampling as in [`SamplerConfig::default`], no limit, overflow is an error.
    pub fn new(prompt: Prompt) -> Request {
        Request {
            prompt,
            variables: Map::new(),
            sampling: SamplerConfig::default(),
            max_tokens: None,
            ctx: None,
            stop: Vec::new(),
            grammar: None,
            overflow: Overflow::default(),
            n_keep: None,
            prompt_logprobs: None,
            ignore_eos: false,
            speculation: None,
            cancel: None,
        }
    }
}

/// A request for the vector of a text: its hidden states, pooled as the model file says (the last one, where it says
/// nothing) and brought to length 1. The text is read whole, without what is cached of its beginning.
#[derive(Clone, Debug)]
pub struct EmbedRequest {
    /// What to read. A text gets the tokens that open and close it, as the model wants them.
    pub input: Prompt,
    /// A second text, for models that [score pairs](crate::ModelInfo::ranks), and only for them: how well it answers the
    /// first. What comes instead of a vector is that score alone, as a logit. Token ids stand behind those of `input` as they
    /// are.
    pub document: Option<Prompt>,
    /// Tokens of context for this request. More than the engine's count as the engine's. `None`: the engine's.
    pub ctx: Option<usize>,
    /// Leave out the end of what does not fit into the context, rather than refuse it.
    pub truncate: bool,
    /// Ends the request from elsewhere.
    pub cancel: Option<CancelToken>,
}

impl EmbedRequest {
    /// A request with default settings: what does not fit is refused.
    pub fn new(input: Prompt) -> EmbedRequest {
        EmbedRequest { input, document: None, ctx: None, truncate: false, cancel: None }
    }
}

/// A flag that ends a request, at the next step, from any thread or signal handler.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A flag not yet set.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Sets it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
