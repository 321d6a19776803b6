//! `whit tokenize`: a text as a model sees it.

use std::io::{self, BufWriter, Write as _};

use anyhow::Result;
use whit_engine::EncodeOptions;

use crate::failure::Usage;
use crate::{Global, input, models};

/// Turn text into tokens
///
/// Reads the text from standard input, byte for byte, if none is given. Needs only the vocabulary of the file, so it
/// also works for models that cannot be run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    #[arg(long, short)]
    model: String,

    /// The text; several words are joined
    text: Vec<String>,

    /// Print ids alone, one on each line
    #[arg(long)]
    ids: bool,

    /// Add no tokens that open or close a text
    #[arg(long)]
    no_special: bool,

    /// Read control tokens that are spelled out, such as <|im_end|>, as what they are
    #[arg(long)]
    parse_special: bool,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let text = match arguments.text.as_slice() {
        [] => input::piped()?
            .ok_or_else(|| Usage("no text; give one as an argument or on standard input".to_owned()))?,
        words => words.join(" "),
    };
    let gguf = whit_models::open(models::path(global, &arguments.model)?)?;
    let tokenizer = whit_models::vocab::tokenizer(&gguf)?;
    let options =
        EncodeOptions { add_special: !arguments.no_special, parse_special: arguments.parse_special };
    let ids = tokenizer.encode(&text, options)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut piece = Vec::new();
    for id in ids {
        if arguments.ids {
            writeln!(out, "{id}")?;
            continue;
        }
        piece.clear();
        tokenizer.token_bytes(id, &mut piece)?;
        match std::str::from_utf8(&piece) {
            Ok(text) => writeln!(out, "{id}\t{text:?}")?,
            Err(_) => writeln!(out, "{id}\t\"{}\"", piece.escape_ascii())?,
        }
    }
    Ok(out.flush()?)
}
