//! Lines of a terminal, broken between words. Text comes in pieces and is shown at once, so a word that turns out not to fit
//! is taken back and written again on the next line. What is written is for a terminal alone; the text stays as it was.

use unicode_width::UnicodeWidthChar as _;

/// Narrower terminals break lines themselves.
const NARROWEST: usize = 20;

/// Where the cursor is, and the word before it.
#[derive(Clone, Debug)]
pub(crate) struct Wrap {
    /// Columns that are filled: all but the last, where terminals differ in what comes next.
    columns: usize,
    column: usize,
    /// What follows the last blank of the line.
    word: String,
    word_width: usize,
}

impl Wrap {
    /// For a terminal of `width` columns; `None` where it is too narrow for words.
    pub(crate) fn new(width: usize) -> Option<Wrap> {
        let wrap = Wrap { columns: width.checked_sub(1)?, column: 0, word: String::new(), word_width: 0 };
        (width >= NARROWEST).then_some(wrap)
    }

    /// What to write to show the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\n' => self.next_line(&mut out),
                ' ' | '\t' => {
                    let width = if c == '\t' { 8 - self.column % 8 } else { 1 };
                    if self.column + width > self.columns {
                        self.next_line(&mut out);
                        continue;
                    }
                    self.column += width;
                    self.forget_word();
                    out.push(c);
                }
                c => self.letter(c, &mut out),
            }
        }
        out
    }

    fn letter(&mut self, c: char, out: &mut String) {
        let width = c.width().unwrap_or(0);
        if self.column + width > self.columns {
            if self.word_width == self.column {
                // A word as long as the line is broken anywhere.
                self.next_line(out);
            } else {
                if self.word_width > 0 {
                    // Back to where the word began, and clear the rest of the line.
                    out.push_str(&format!("\x1b[{}D\x1b[K", self.word_width));
                }
                out.push('\n');
                out.push_str(&self.word);
                self.column = self.word_width;
            }
        }
        out.push(c);
        self.column += width;
        if width > 1 {
            // Scripts with wide letters put no blanks between words.
            self.forget_word();
        } else {
            self.word.push(c);
            self.word_width += width;
        }
    }

    fn next_line(&mut self, out: &mut String) {
        out.push('\n');
        self.column = 0;
        self.forget_word();
    }

    fn forget_word(&mut self) {
        self.word.clear();
        self.word_width = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal of 21 columns shows.
    fn shown(pieces: &[&str]) -> Vec<String> {
        let mut wrap = Wrap::new(21).expect("wide enough");
        let written: String = pieces.iter().map(|piece| wrap.push(piece)).collect();
        let mut lines = vec![String::new()];
        let mut rest = written.as_str();
        while let Some(c) = rest.chars().next() {
            let last = lines.len() - 1;
            if let Some(escape) = rest.strip_prefix("\x1b[") {
                let end = escape.find(|c: char| c.is_alphabetic()).expect("a whole sequence");
                if escape[end..].starts_with('D') {
                    let n: usize = escape[..end].parse().expect("a number");
                    let kept = lines[last].chars().count() - n;
                    lines[last] = lines[last].chars().take(kept).collect();
                }
                rest = &escape[end + 1..];
                continue;
            }
            if c == '\n' {
                lines.push(String::new())
            } else {
                lines[last].push(c)
            }
            rest = &rest[c.len_utf8()..];
        }
        lines
    }

    #[test]
    fn lines_break_between_words() {
        for (pieces, expected) in [
            (&["short"][..], &["short"][..]),
            (&["eleven char words go here"], &["eleven char words go", "here"]),
            (&["eleven char wor", "ds go her", "e and on"], &["eleven char words go", "here and on"]),
            (&["a\n\nb"], &["a", "", "b"]),
            (&["123456789012345678901234567890"], &["12345678901234567890", "1234567890"]),
            (&["a 1234567890123456789012345"], &["a ", "12345678901234567890", "12345"]),
            // A blank that does not fit is the end of the line.
            (&["12345678901234567890 x"], &["12345678901234567890", "x"]),
            (&["ab 日本語日本語日本語"], &["ab 日本語日本語日本", "語"]),
            (
                &["e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301} twelve more"],
                &["e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301} twelve more"],
            ),
        ] {
            assert_eq!(shown(pieces), expected, "{pieces:?}");
        }
        assert!(Wrap::new(0).is_none() && Wrap::new(19).is_none());
    }
}
