//! Text of a model on standard output, piece by piece.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::wrap::Wrap;

/// Writes pieces as they come, each at once.
pub(crate) struct Stream {
    out: Box<dyn Write>,
    is_terminal: bool,
    /// Where lines are broken; nowhere outside of terminals.
    wrap: Option<Wrap>,
    ends_line: bool,
}

impl Stream {
    /// To standard output. `wrap`: break lines between words, if it is a terminal.
    pub(crate) fn new(wrap: bool) -> Stream {
        Stream::to(Box::new(io::stdout()), &console::Term::stdout(), wrap)
    }

    /// The same, to standard error.
    pub(crate) fn errors(wrap: bool) -> Stream {
        Stream::to(Box::new(io::stderr()), &console::Term::stderr(), wrap)
    }

    fn to(out: Box<dyn Write>, term: &console::Term, wrap: bool) -> Stream {
        let is_terminal = term.is_term();
        let width = term.size_checked().map_or(0, |(_, columns)| usize::from(columns));
        let wrap = if wrap && is_terminal { Wrap::new(width) } else { None };
        Stream { out, is_terminal, wrap, ends_line: true }
    }

    /// Writes a piece. A terminal gets no control characters: a model could otherwise steer it.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut text = Cow::Borrowed(text);
        if self.is_terminal && text.contains(steers) {
            text = text.replace(steers, "").into();
        }
        if text.is_empty() {
            return Ok(());
        }
        if let Some(wrap) = &mut self.wrap {
            text = wrap.push(&text).into();
        }
        self.out.write_all(text.as_bytes())?;
        self.ends_line = text.ends_with('\n');
        self.out.flush()
    }

    /// Dims what follows, or ends that; in a terminal, unless NO_COLOR is set.
    pub(crate) fn dim(&mut self, on: bool) -> io::Result<()> {
        if self.is_terminal && std::env::var_os("NO_COLOR").is_none() {
            self.out.write_all(if on { b"\x1b[2m" } else { b"\x1b[0m" })?;
        }
        Ok(())
    }

    /// Ends the last line, if it is open.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.ends_line { self.out.flush() } else { self.write("\n") }
    }
}

fn steers(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// A table: columns as wide as they need, the first aligned to the left, the others as `right` says.
pub(crate) fn table(out: &mut dyn io::Write, right: &[bool], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..right.len()).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for ((cell, &width), &right) in row.iter().zip(&widths).zip(right) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if right { (pad, String::new()) } else { (String::new(), pad) };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["name", "n"], ["é", "100"], ["abcdef", ""]].map(|row| row.map(str::to_owned).to_vec());
        let mut out = Vec::new();
        table(&mut out, &[false, true], &rows).expect("writing to memory");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "name      n\né       100\nabcdef\n");
    }

    #[test]
    fn escape_sequences_steer() {
        for (c, expected) in
            [('a', false), ('\n', false), ('\t', false), ('\x1b', true), ('\r', true), ('\u{9b}', true)]
        {
            assert_eq!(steers(c), expected, "{c:?}");
        }
    }
}
