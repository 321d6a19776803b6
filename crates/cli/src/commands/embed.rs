//! `whit embed`: texts to vectors.

use std::io::{self, BufRead as _, BufWriter, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use serde_json::json;
use whit_engine::{EmbedRequest, Engine, Model, Prompt};

use crate::arguments::EngineArguments;
use crate::failure::Usage;
use crate::{Global, models};

/// Texts that are read before the first of them is embedded: enough to fill a step.
const AHEAD: usize = 256;

/// Turn texts into vectors of length 1
///
/// Each argument is a text; without any, each line of standard input is one. Prints one JSON object for each text, on a
/// line of its own, in their order.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a model, or pip:PACKAGE
    #[arg(long, short)]
    model: String,

    /// The texts
    text: Vec<String>,

    /// Tokens of context [default: what the model was trained for, at most 4096 where it also generates]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,

    /// Leave out the end of texts that are longer than the context, rather than refuse them
    #[arg(long)]
    truncate: bool,

    /// Leave the texts out of the output
    #[arg(long)]
    no_text: bool,

    #[command(flatten)]
    engine: EngineArguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let stdin = io::stdin();
    if arguments.text.is_empty() && stdin.is_terminal() {
        return Err(Usage("no text; give some as arguments or on standard input".to_owned()).into());
    }
    let model = Model::open(models::path(global, &arguments.model)?)?;
    let mut engine = Engine::new(model, &arguments.engine.options(arguments.ctx)?)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if !arguments.text.is_empty() {
        embed(&mut engine, arguments, &arguments.text, &mut out)?;
        return Ok(out.flush()?);
    }
    let mut lines = stdin.lock().lines();
    loop {
        let texts = lines.by_ref().take(AHEAD).collect::<Result<Vec<String>, _>>();
        let texts = texts.context("standard input: cannot read it as lines of UTF-8")?;
        if texts.is_empty() {
            return Ok(());
        }
        embed(&mut engine, arguments, &texts, &mut out)?;
        out.flush()?;
    }
}

fn embed(
    engine: &mut Engine,
    arguments: &Arguments,
    texts: &[String],
    out: &mut dyn io::Write,
) -> Result<()> {
    let request = |text: &String| EmbedRequest {
        truncate: arguments.truncate,
        ..EmbedRequest::new(Prompt::Text(text.clone()))
    };
    for (text, embedded) in texts.iter().zip(engine.embed(texts.iter().map(request))?) {
        let mut line = json!({"tokens": embedded.usage.prompt_tokens, "embedding": embedded.vector});
        if !arguments.no_text {
            line["text"] = text.as_str().into();
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}
