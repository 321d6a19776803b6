//! Text that comes from standard input or a file.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::{Result, bail};

/// All of standard input, or `None` if it is a terminal.
pub(crate) fn piped() -> Result<Option<String>> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if let Err(error) = stdin.read_to_end(&mut bytes) {
        bail!("standard input: cannot read it: {error}");
    }
    text(bytes, "standard input").map(Some)
}

/// All of a file; `-` is standard input.
pub(crate) fn file(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        return match piped()? {
            Some(text) => Ok(text),
            None => bail!("standard input is a terminal; pipe a text into it, or name a file"),
        };
    }
    match std::fs::read(path) {
        Ok(bytes) => text(bytes, &path.display().to_string()),
        Err(error) => bail!("{}: cannot read the file: {error}", path.display()),
    }
}

fn text(bytes: Vec<u8>, from: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{from}: byte {at} is not UTF-8; convert it, for example with `iconv -t utf-8`")
    })
}
