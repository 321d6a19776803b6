//! From what a client sent to the tokens that the model reads, and what to leave out when they are too many.

use serde_json::{Map, Value};
use whit_engine::{EncodeOptions, Message, Model, Prompt};
use whit_text::{ChatInput, ChatTemplate};

use crate::config::OverflowPolicy;
use crate::error::ApiError;

/// Room that is left for an answer when old messages are dropped and the request does not say how much it wants.
const ANSWER_TOKENS: usize = 256;

/// Tokens at the end of a prompt among which a thought may begin.
const END: usize = 16;

/// What the model shall go on from.
pub(crate) enum Input {
    /// Text, as it is.
    Text(String),
    /// A prompt that spells its control tokens out.
    Raw(String),
    /// Token ids, as they are.
    Tokens(Vec<u32>),
    /// A conversation, through the model's template.
    Chat(Chat),
    /// What stands between two texts, for models that were taught to fill in.
    Infill(Gap),
}

/// A gap in a text, and what stands around it.
#[derive(Default)]
pub(crate) struct Gap {
    pub(crate) prefix: String,
    pub(crate) suffix: String,
    /// Names and texts of other files, to go by.
    pub(crate) files: Vec<(String, String)>,
}

/// A conversation and how to render it.
#[derive(Default)]
pub(crate) struct Chat {
    pub(crate) messages: Vec<Message>,
    /// Tool definitions as OpenAI writes them.
    pub(crate) tools: Vec<Value>,
    /// More variables for the template, e.g. `enable_thinking`.
    pub(crate) variables: Map<String, Value>,
    /// In place of the model's own template (Jinja).
    pub(crate) template: Option<String>,
    /// Tokens of an earlier conversation that this one goes on from.
    pub(crate) before: Vec<u32>,
}

/// What did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) messages: usize,
    pub(crate) tokens: usize,
}

impl Dropped {
    pub(crate) fn is_any(self) -> bool {
        self != Dropped::default()
    }

    /// As every API says it.
    pub(crate) fn json(self) -> Value {
        serde_json::json!({"messages": self.messages, "tokens": self.tokens})
    }
}

/// A prompt that fits, unless it may be shifted.
pub(crate) struct Prepared {
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the system message.
    pub(crate) n_keep: Option<usize>,
    pub(crate) dropped: Dropped,
}

/// Makes the prompt. `max_tokens`: the answer's, for which room is left when messages are dropped.
pub(crate) fn prepare(
    model: &Model,
    input: Input,
    n_ctx: usize,
    overflow: OverflowPolicy,
    max_tokens: Option<usize>,
) -> Result<Prepared, ApiError> {
    let room = n_ctx - max_tokens.unwrap_or(ANSWER_TOKENS).min(n_ctx / 4);
    match input {
        Input::Chat(chat) => prepare_chat(model, chat, n_ctx, room, overflow),
        Input::Text(text) => fit(model, model.prepare(&Prompt::Text(text))?.tokens, n_ctx, room, overflow),
        Input::Raw(text) => fit(model, raw(model, &text)?, n_ctx, room, overflow),
        Input::Tokens(tokens) => fit(model, tokens, n_ctx, room, overflow),
        Input::Infill(gap) => fit(model, infill(model, &gap)?, n_ctx, room, overflow),
    }
}

/// How many tokens an input comes to, as it is.
pub(crate) fn count(model: &Model, input: Input) -> Result<usize, ApiError> {
    // A context without an end: nothing is dropped.
    Ok(prepare(model, input, usize::MAX, OverflowPolicy::Shift, Some(0))?.tokens.len())
}

/// The end of a prompt as text, control tokens spelled out.
pub(crate) fn end(model: &Model, tokens: &[u32]) -> String {
    let Ok(tokenizer) = model.tokenizer() else { return String::new() };
    let mut bytes = Vec::new();
    for &id in &tokens[tokens.len().saturating_sub(END)..] {
        // Ids of a prompt that was made here are in the vocabulary; those of a client are checked later.
        let _ = tokenizer.token_bytes(id, &mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Leaves out the oldest tokens of a text but the one that begins it.
fn fit(
    model: &Model,
    mut tokens: Vec<u32>,
    n_ctx: usize,
    room: usize,
    overflow: OverflowPolicy,
) -> Result<Prepared, ApiError> {
    let mut dropped = Dropped::default();
    if tokens.len() > n_ctx {
        match overflow {
            OverflowPolicy::Error => return Err(ApiError::ContextLength { n_tokens: tokens.len(), n_ctx }),
            OverflowPolicy::Shift => {}
            OverflowPolicy::DropOldest => {
                let bos = model.tokenizer()?.special_ids().bos;
                let n_keep = usize::from(tokens.first().copied() == bos && bos.is_some());
                dropped.tokens = tokens.len() - room.max(1);
                tokens.drain(n_keep..n_keep + dropped.tokens);
            }
        }
    }
    Ok(Prepared { tokens, n_keep: None, dropped })
}

fn prepare_chat(
    model: &Model,
    mut chat: Chat,
    n_ctx: usize,
    room: usize,
    overflow: OverflowPolicy,
) -> Result<Prepared, ApiError> {
    let own = match &chat.template {
        Some(source) => Some(ChatTemplate::new(source, model.tokenizer()?.template_tokens())?),
        None => None,
    };
    let template = match &own {
        Some(template) => Some(template),
        None => model.template()?,
    };
    let render = |messages: &[Message], open: bool| -> Result<Vec<u32>, ApiError> {
        let Some(template) = template else {
            return Ok(model.prepare(&Prompt::Chat(messages.to_vec()))?.tokens);
        };
        let input = ChatInput {
            tools: &chat.tools,
            add_generation_prompt: open,
            extra: chat.variables.clone(),
            ..ChatInput::new(messages)
        };
        let tokenizer = model.tokenizer()?;
        Ok(tokenizer.encode_prompt(&template.prompt(&input, tokenizer)?)?)
    };
    let all = join(model, &chat.before, render(&chat.messages, true)?)?;
    let n_system = chat.messages.iter().take_while(|message| message.role == "system").count();
    if all.len() <= n_ctx || overflow == OverflowPolicy::Shift {
        // Some templates refuse a conversation that nobody has begun; then nothing is known of its beginning.
        let n_keep = (overflow == OverflowPolicy::Shift && n_system > 0 && chat.before.is_empty())
            .then(|| render(&chat.messages[..n_system], false).ok())
            .flatten()
            .map(|system| system.iter().zip(&all).take_while(|(a, b)| a == b).count())
            .filter(|&n| n > 0);
        return Ok(Prepared { tokens: all, n_keep, dropped: Dropped::default() });
    }
    if overflow == OverflowPolicy::Error {
        return Err(ApiError::ContextLength { n_tokens: all.len(), n_ctx });
    }
    // A conversation that begins in the middle begins with what the user says.
    let starts: Vec<usize> =
        (n_system + 1..chat.messages.len()).filter(|&i| chat.messages[i].role == "user").collect();
    let n_all = all.len();
    let mut shortest = None;
    let (mut low, mut high) = (0, starts.len());
    while low < high {
        let middle = (low + high) / 2;
        let kept: Vec<Message> =
            chat.messages[..n_system].iter().chain(&chat.messages[starts[middle]..]).cloned().collect();
        let tokens = render(&kept, true)?;
        if tokens.len() <= room {
            shortest = Some((starts[middle] - n_system, tokens));
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    match shortest {
        Some((messages, tokens)) => {
            let dropped = Dropped { messages, tokens: n_all - tokens.len().min(n_all) };
            chat.messages.clear();
            Ok(Prepared { tokens, n_keep: None, dropped })
        }
        None => Err(ApiError::ContextLength { n_tokens: n_all, n_ctx }),
    }
}

/// Goes on from earlier tokens: what begins a text does not come again.
fn join(model: &Model, before: &[u32], mut tokens: Vec<u32>) -> Result<Vec<u32>, ApiError> {
    if before.is_empty() {
        return Ok(tokens);
    }
    let bos = model.tokenizer()?.special_ids().bos;
    if bos.is_some() && tokens.first().copied() == bos {
        tokens.remove(0);
    }
    Ok(before.iter().copied().chain(tokens).collect())
}

/// Spellings of the tokens that open the prefix, the suffix and the gap, by family.
pub(crate) const INFILL: [[&str; 3]; 5] = [
    // Qwen2.5 Coder, CodeGemma
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // StarCoder, SantaCoder, Granite
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    // CodeLlama
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    // DeepSeek Coder
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
];

/// Spellings of the tokens that open a repository's name and a file's, where models know of them; the pattern is that of
/// the Qwen2.5-Coder report (arXiv 2409.12186).
const REPOSITORY: [&str; 3] = ["<|repo_name|>", "<repo_name>", "<reponame>"];
const FILE: [&str; 3] = ["<|file_sep|>", "<file_sep>", "<filename>"];

/// BOS where the model wants it and the text does not begin with it; no EOS, for the answer is still to come.
fn raw(model: &Model, text: &str) -> Result<Vec<u32>, ApiError> {
    let tokenizer = model.tokenizer()?;
    let mut tokens = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: true })?;
    let bos = tokenizer.special_ids().bos.filter(|_| tokenizer.adds_bos());
    if bos.is_some() && tokens.first().copied() != bos {
        tokens.splice(0..0, bos);
    }
    Ok(tokens)
}

fn infill(model: &Model, gap: &Gap) -> Result<Vec<u32>, ApiError> {
    let tokenizer = model.tokenizer()?;
    let find = |spelling: &str| tokenizer.find(spelling).filter(|&id| tokenizer.is_control(id));
    let marks = INFILL.iter().find_map(|[a, b, c]| Some([find(a)?, find(b)?, find(c)?]));
    let Some([open, hole, close]) = marks else {
        let text = "this model does not support insert: it has no tokens for filling in the middle";
        return Err(ApiError::BadRequest(text.to_owned()));
    };
    let encode = |text: &str| tokenizer.encode(text, EncodeOptions::PIECE);
    let bos = tokenizer.special_ids().bos.filter(|_| tokenizer.adds_bos());
    let mut tokens: Vec<u32> = bos.into_iter().collect();
    if !gap.files.is_empty() {
        let separator = FILE.iter().find_map(|spelling| find(spelling));
        if let Some(repository) = REPOSITORY.iter().find_map(|spelling| find(spelling)) {
            tokens.push(repository);
            tokens.extend(encode("project\n")?);
        }
        for (name, text) in &gap.files {
            tokens.extend(separator);
            tokens.extend(encode(&format!("{name}\n{text}\n"))?);
        }
        // The file with the gap has a name, too, which nobody told.
        if let Some(separator) = separator {
            tokens.push(separator);
            tokens.extend(encode("file\n")?);
        }
    }
    tokens.push(open);
    tokens.extend(encode(&gap.prefix)?);
    tokens.push(hole);
    tokens.extend(encode(&gap.suffix)?);
    tokens.push(close);
    Ok(tokens)
}
