//! One answer: asked of the engine, printed as it comes.
//!
//! Thoughts are no part of the answer. In a terminal they stand before it, dimmed; where standard output leads elsewhere
//! they go to standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use whit_engine::{
    AnswerShape, CancelToken, Done, Engine, Event, FinishReason, Model, Prompt, Request, Speculation,
    Thoughts,
};
use whit_text::tools::{AnswerPart, AnswerReader, ThinkSplitter};

use crate::interrupt::Answering;
use crate::output::Stream;
use crate::settings::{Settings, overflow};
use crate::units;

/// An answer that has been printed.
pub(crate) struct Answer {
    /// Without thoughts.
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
    let model = engine.model().clone();
    let parameters = settings.parameters()?;
    let mut request = Request { overflow: overflow(&parameters)?, ..Request::new(prompt) };
    let mut reader = AnswerReader::new(None, None);
    let mut grammar = settings.grammar.clone();
    if matches!(request.prompt, Prompt::Chat(_)) {
        let thinking = settings.thinking(&model)?;
        request.variables = thinking.variables;
        if let Some(tags) = thinking.tags {
            let begun = tags.opened_by(&end_of_prompt(&model, &request)?);
            let thoughts = Some(Thoughts { tags: tags.clone(), begun });
            grammar = AnswerShape { thoughts, calls: None, body: grammar }.grammar(model.tokenizer()?)?;
            reader = AnswerReader::new(Some(ThinkSplitter::new(tags, begun)), None);
        }
    }
    let has_grammar = grammar.is_some();
    let cancel = CancelToken::new();
    let request = Request {
        sampling: parameters.sampling,
        max_tokens: parameters.max_tokens,
        stop: parameters.stop,
        n_keep: parameters.n_keep,
        grammar,
        speculation: parameters
            .max_draft
            .map(|max_tokens| Speculation { max_tokens, ..engine.speculation() }),
        cancel: Some(cancel.clone()),
        ..request
    };
    let _answering = Answering::new(&cancel);
    let n_ctx = engine.n_ctx();
    let generation = engine.generate(request)?;
    if generation.prompt().raw && start.is_some() {
        note!("note: this model has no chat template: it continues the text");
    }
    let mut printer = Printer::new(settings);
    let mut first = None;
    let mut text = String::new();
    let mut end = None;
    for event in generation {
        // What was said so far stays a line of its own.
        let event = event.or_else(|error| {
            printer.finish().map_err(anyhow::Error::from).and(Err(anyhow::Error::from(error)))
        })?;
        match event {
            Event::Token { id, text: piece, logprob, top } => {
                if first.is_none() {
                    first = start.map(|start| start.elapsed());
                }
                if settings.logprobs.is_some() {
                    print_logprob(&model, id, logprob, &top)?;
                    continue;
                }
                printer.parts(reader.push(&piece), &mut text)?;
                if let Some(spelling) = control(&model, id) {
                    printer.parts(reader.control(&spelling), &mut text)?;
                }
            }
            Event::Shifted { n_dropped, .. } => {
                note!("note: the context of {n_ctx} tokens is full; the oldest {n_dropped} are forgotten");
            }
            Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Done(done) => end = Some(done),
        }
    }
    printer.parts(reader.finish(), &mut text)?;
    printer.finish()?;
    let Some(done) = end else { anyhow::bail!("the answer broke off without an end") };
    if done.reason == FinishReason::ContextFull {
        note!(
            "warning: the answer ends here because the context of {n_ctx} tokens is full\n\n\
             hint: use a larger context (--ctx), or let the oldest text be forgotten (--overflow shift)"
        );
    }
    if done.reason == FinishReason::Length && has_grammar {
        note!("warning: the answer is incomplete: it ends here because of --max-tokens");
    }
    if settings.verbose {
        report(&done, first);
    }
    Ok(Answer { text, reason: done.reason })
}

/// The end of a prompt as the model reads it: a template may have opened its thoughts.
fn end_of_prompt(model: &Model, request: &Request) -> Result<String> {
    /// No tag has more tokens.
    const END: usize = 16;
    let tokens = model.prepare_with(&request.prompt, &request.variables)?.tokens;
    let tokenizer = model.tokenizer()?;
    let mut bytes = Vec::new();
    for &id in &tokens[tokens.len().saturating_sub(END)..] {
        // The tokenizer's own ids.
        let _ = tokenizer.token_bytes(id, &mut bytes);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How a control token is spelled; nothing for a token that is text.
fn control(model: &Model, id: u32) -> Option<String> {
    let tokenizer = model.tokenizer().ok().filter(|tokenizer| tokenizer.is_control(id))?;
    std::str::from_utf8(tokenizer.token_text(id)?).ok().map(str::to_owned)
}

/// Where the parts of an answer go.
struct Printer {
    answer: Stream,
    /// `None`: thoughts are not shown.
    thoughts: Option<Stream>,
    /// Thoughts are being printed.
    thinking: bool,
}

impl Printer {
    fn new(settings: &Settings) -> Printer {
        let stream =
            |to_errors| if to_errors { Stream::errors(settings.wrap) } else { Stream::new(settings.wrap) };
        let thoughts = (!settings.hide_thinking).then(|| stream(!io::stdout().is_terminal()));
        Printer { answer: stream(false), thoughts, thinking: false }
    }

    fn parts(&mut self, parts: Vec<AnswerPart>, text: &mut String) -> io::Result<()> {
        for part in parts {
            match part {
                AnswerPart::Thinking(piece) => {
                    if let Some(thoughts) = &mut self.thoughts {
                        if !self.thinking {
                            thoughts.dim(true)?;
                            thoughts.write("Thinking...\n")?;
                        }
                        self.thinking = true;
                        thoughts.write(&piece)?;
                    }
                }
                part => {
                    self.end_thoughts()?;
                    let piece = part.into_text();
                    self.answer.write(&piece)?;
                    text.push_str(&piece);
                }
            }
        }
        Ok(())
    }

    fn end_thoughts(&mut self) -> io::Result<()> {
        if let Some(thoughts) = self.thoughts.as_mut().filter(|_| self.thinking) {
            thoughts.finish()?;
            thoughts.write("...done thinking.\n")?;
            thoughts.dim(false)?;
            thoughts.write("\n")?;
        }
        self.thinking = false;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(thoughts) = self.thoughts.as_mut().filter(|_| self.thinking) {
            thoughts.finish()?;
            thoughts.dim(false)?;
        }
        self.thinking = false;
        self.answer.finish()
    }
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
    let mut out = io::stdout().lock();
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
    if usage.drafted_tokens > 0 {
        let (accepted, drafted) = (usage.accepted_tokens, usage.drafted_tokens);
        let percent = 100.0 * accepted as f64 / drafted as f64;
        note!("drafts     {accepted} of {drafted} tokens accepted ({percent:.0} %)");
    }
}
