//! Text of a model on standard output, piece by piece.

use std::io::{self, IsTerminal as _, Write as _};

/// Writes pieces as they come, each at once.
pub(crate) struct Stream {
    out: io::Stdout,
    is_terminal: bool,
    ends_line: bool,
}

impl Stream {
    pub(crate) fn new() -> Stream {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        Stream { out, is_terminal, ends_line: true }
    }

    /// Writes a piece. A terminal gets no control characters: a model could otherwise steer it.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut out = self.out.lock();
        if self.is_terminal && text.contains(steers) {
            out.write_all(text.replace(steers, "").as_bytes())?;
        } else {
            out.write_all(text.as_bytes())?;
        }
        self.ends_line = text.ends_with('\n');
        out.flush()
    }

    /// Ends the last line, if it is open.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if !self.ends_line {
            self.ends_line = true;
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
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
