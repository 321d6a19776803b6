//! Reading what the user types: editing and history by rustyline, texts of several lines between `"""`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use anyhow::Result;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Behavior, CompletionType, Config};
use whit_hub::Store;

use super::complete::Completions;

const HISTORY_LINES: usize = 1000;
/// Bytes of a text that is worth keeping: no pasted books.
const HISTORY_TEXT: usize = 64 << 10;
const FENCE: &str = "\"\"\"";

/// What the user did.
pub(super) enum Line {
    /// Typed a text.
    Text(String),
    /// Pressed Ctrl-C.
    Dropped,
    /// Pressed Ctrl-D.
    End,
}

pub(super) struct Editor {
    editor: rustyline::Editor<Completions, DefaultHistory>,
    /// Where lines are kept; `None` where nothing can be kept.
    history: Option<PathBuf>,
    /// Whether they are to be.
    remembers: bool,
}

impl Editor {
    /// An editor whose history lies in the store's folder.
    pub(super) fn new(store: &Store, user_home: Option<PathBuf>) -> Result<Editor> {
        let home = store.home();
        // What is typed must not end up in a file to which answers go.
        let behavior = if io::stdout().is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
        let config = Config::builder()
            .max_history_size(HISTORY_LINES)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .behavior(behavior)
            .build();
        let mut editor = rustyline::Editor::with_config(config)?;
        editor.set_helper(Some(Completions::new(store.clone(), user_home)));
        let path = home.join("history");
        let history = match std::fs::create_dir_all(home) {
            Ok(()) => Some(path),
            Err(error) => {
                tracing::warn!(home = %home.display(), %error, "the history of chats is not kept");
                None
            }
        };
        if let Some(path) = &history {
            match editor.load_history(path) {
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the history of chats cannot be read")
                }
                Ok(()) => {}
            }
        }
        Ok(Editor { editor, history, remembers: true })
    }

    /// The next text, of several lines if it begins with `"""`.
    pub(super) fn read(&mut self) -> Result<Line> {
        let mut text = Text::default();
        loop {
            let prompt = if text.is_open() { "... " } else { ">>> " };
            match self.editor.readline(prompt) {
                Ok(line) => {
                    if let Some(whole) = text.push(&line) {
                        self.remember(&whole);
                        return Ok(Line::Text(whole));
                    }
                }
                Err(ReadlineError::Interrupted) => return Ok(Line::Dropped),
                Err(ReadlineError::Eof) => return Ok(Line::End),
                // The window changed its size.
                Err(ReadlineError::Signal(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether what is typed is remembered for later chats.
    pub(super) fn set_remembers(&mut self, remembers: bool) {
        self.remembers = remembers;
    }

    fn remember(&mut self, text: &str) {
        if !self.remembers || text.len() > HISTORY_TEXT {
            return;
        }
        let added = self.editor.add_history_entry(text);
        if let (Ok(true), Some(path)) = (&added, &self.history)
            && let Err(error) = self.editor.append_history(path)
        {
            tracing::warn!(path = %path.display(), %error, "the history of chats is not kept");
            self.history = None;
        }
    }
}

/// Collects lines until a text is whole.
#[derive(Default)]
struct Text(Option<String>);

impl Text {
    fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a line; gives the text if it is whole now.
    fn push(&mut self, line: &str) -> Option<String> {
        let Some(text) = &mut self.0 else {
            let (before, after) = match line.trim_start().strip_prefix(FENCE) {
                Some(rest) => (String::new(), rest),
                // A command may end with the beginning of a text.
                None if line.trim_start().starts_with("/set") && line.matches(FENCE).count() == 1 => {
                    let (before, after) = line.split_once(FENCE)?;
                    (before.to_owned(), after)
                }
                None => return Some(line.to_owned()),
            };
            if let Some(inner) = after.trim_end().strip_suffix(FENCE) {
                return Some(before + inner);
            }
            self.0 = Some(before + after);
            return None;
        };
        let (last, ends) = match line.trim_end().strip_suffix(FENCE) {
            Some(last) => (last, true),
            None => (line, false),
        };
        let is_fence_alone = ends && last.is_empty();
        if !text.is_empty() && !is_fence_alone {
            text.push('\n');
        }
        text.push_str(last);
        if ends { self.0.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_make_texts() {
        let check = |lines: &[&str], expected: &[&str]| {
            let mut text = Text::default();
            let got: Vec<String> = lines.iter().filter_map(|line| text.push(line)).collect();
            assert_eq!(got, expected, "{lines:?}");
        };
        check(&["a", "b"], &["a", "b"]);
        check(&["\"\"\"a", "", "b\"\"\"", "c"], &["a\n\nb", "c"]);
        check(&["\"\"\"", "a", "b", "\"\"\""], &["a\nb"]);
        check(&["\"\"\"a\"\"\""], &["a"]);
        check(&["say \"\"\" twice"], &["say \"\"\" twice"]);
        check(&["/set system \"\"\"a", "b\"\"\""], &["/set system a\nb"]);
    }
}
