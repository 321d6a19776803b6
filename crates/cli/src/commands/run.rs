//! `whit run`: an answer to one prompt, or a chat.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;
use whit_engine::{FinishReason, Grammar, Message, Prompt};
use whit_hub::Extras;

use crate::answer::answer;
use crate::arguments::{EngineArguments, SamplingArguments, SpeculationArguments};
use crate::failure::{Interrupted, Usage};
use crate::session::Session;
use crate::settings::{Settings, Think};
use crate::{Global, chat, input, interrupt, models, units};

/// Ask a model, or chat with it
///
/// With a prompt, or with text on standard input, prints one answer. What comes on standard input stands before the
/// prompt: `whit run smollm2 "Summarize the text above." < text`. With neither, begins a chat.
///
/// Ctrl-C stops an answer. A model without a chat template continues the text instead of answering it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A name (`whit list`, `whit list --catalog`), the path of a GGUF file or a model folder, or a place such as hf:OWNER/REPO. Pulled first
    /// if it is not here
    model: String,

    /// What to ask; several words are joined
    prompt: Vec<String>,

    /// What the model is told before anything else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Most tokens of an answer [default: until the model ends it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,

    /// End the answer before this text. May be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Tokens of context: prompt and answer together [default: what the model was trained for, at most 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,

    /// When the context is full: `error` ends, `shift` forgets the older half [default: error]
    #[arg(long, value_name = "WHAT", value_parser = overflow)]
    overflow: Option<String>,

    /// Continue the prompt as it is, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,

    /// Whether a model that can think shall, or how hard: true, false, low, medium or high
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = Think::parse)]
    think: Option<Think>,

    /// Do not print thoughts. (They are dimmed in a terminal, and else go to standard error)
    #[arg(long, alias = "hidethinking")]
    hide_thinking: bool,

    /// Do not break lines between words, in a terminal
    #[arg(long, alias = "nowordwrap")]
    no_word_wrap: bool,

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

    /// A small model with the same tokens, which drafts for this one
    #[arg(long, value_name = "MODEL", help_heading = "Speculation options")]
    draft: Option<String>,

    #[command(flatten)]
    speculation: SpeculationArguments,

    #[command(flatten)]
    engine: EngineArguments,
}

fn overflow(text: &str) -> Result<String, String> {
    match text {
        "error" | "shift" => Ok(text.to_owned()),
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

    /// The settings, as far as the command line says them.
    fn settings(&self) -> Result<Settings> {
        let mut parameters = self.sampling.parameters();
        let others = [
            ("num_predict", self.max_tokens.map(Value::from)),
            ("num_ctx", self.ctx.map(Value::from)),
            ("overflow", self.overflow.clone().map(Value::from)),
            ("stop", (!self.stop.is_empty()).then(|| Value::from(self.stop.clone()))),
        ];
        parameters.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let settings = Settings {
            of_model: Extras::default(),
            given: Extras { system: self.system.clone(), parameters, ..Extras::default() },
            logit_bias: self.sampling.logit_bias.clone(),
            logprobs: self.logprobs,
            grammar: self.shape()?,
            raw: self.raw,
            verbose: self.verbose,
            think: self.think.clone().unwrap_or_default(),
            hide_thinking: self.hide_thinking,
            wrap: !self.no_word_wrap,
        };
        // What makes no sense is said before a model is fetched.
        settings.parameters()?;
        Ok(settings)
    }
}

pub(crate) fn run(arguments: &Arguments, global: &Global, start: Instant) -> Result<()> {
    let mut settings = arguments.settings()?;
    let prompt = prompt(&arguments.prompt)?;
    if prompt.is_none() && arguments.logprobs.is_some() {
        return Err(Usage("--logprobs needs a prompt; it prints JSON, which is no chat".into()).into());
    }
    let mut options = arguments.engine.options(None)?;
    options.speculation = arguments.speculation.speculation(options.speculation);
    interrupt::install();
    let found = models::find_anywhere(global, &arguments.model)?;
    options.draft = arguments.draft.as_deref().map(|draft| models::path(global, draft)).transpose()?;
    settings.of_model = found.extras();
    let n_ctx = settings.parameters()?.n_ctx;
    let (mut session, times) = Session::open(found, &arguments.model, &options, n_ctx)?;
    if settings.verbose {
        note!("{}, context of {} tokens", session.engine.backend(), session.engine.n_ctx());
        let (whole, open) = (units::time(times.whole), units::time(times.open));
        note!("load       {whole} ({open} of it for the header of the file)");
    }
    let Some(prompt) = prompt else {
        return chat::chat(session, settings, global);
    };
    let prompt = if settings.raw {
        Prompt::Text(prompt)
    } else {
        let system = settings.system().map(Message::system);
        Prompt::Chat(system.into_iter().chain(settings.beginning()).chain([Message::user(prompt)]).collect())
    };
    let answer = answer(&mut session.engine, prompt, &settings, Some(start))?;
    if answer.reason == FinishReason::Cancelled {
        return Err(Interrupted.into());
    }
    // The memory goes back to the system faster than to the allocator.
    std::mem::forget(session);
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
