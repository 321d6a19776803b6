//! Text that comes from standard input or a file.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::{Result, bail};

/// All of standard input, or `None` if it is a terminal.
pub(crate) fn piped() -> Result<Option<String>> {
    piped_bytes()?.map(|bytes| text(bytes, "standard input")).transpose()
}

fn piped_bytes() -> Result<Option<Vec<u8>>> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if let Err(error) = stdin.read_to_end(&mut bytes) {
        bail!("standard input: cannot read it: {error}");
    }
    Ok(Some(bytes))
}

/// All of a file; `-` is standard input.
pub(crate) fn file(path: &Path) -> Result<String> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    text(bytes(path)?, &name)
}

/// The same, whatever they are.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        return match piped_bytes()? {
            Some(bytes) => Ok(bytes),
            None => bail!("standard input is a terminal; pipe a text into it, or name a file"),
        };
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) => bail!("{}: cannot read the file: {error}", path.display()),
    }
}

fn text(bytes: Vec<u8>, from: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{from}: byte {at} is not UTF-8; convert it, for example with `iconv -t utf-8`")
    })
}
