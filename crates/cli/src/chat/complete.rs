//! What Tab completes: commands, names of parameters and models, and paths behind `@`.

use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use whit_engine::Parameters;
use whit_hub::Store;

use super::command::COMPLETIONS;

/// The most paths that are offered.
const MAX_PATHS: usize = 200;

pub(super) struct Completions {
    store: Store,
    /// What `~` means.
    home: Option<PathBuf>,
}

impl Completions {
    pub(super) fn new(store: Store, home: Option<PathBuf>) -> Completions {
        Completions { store, home }
    }

    /// Where what is completed begins, and what it may become.
    fn find(&self, line: &str) -> (usize, Vec<String>) {
        for command in ["/load ", "/save "] {
            if let Some(word) = line.strip_prefix(command) {
                // A store that cannot be read completes nothing.
                let names = self.store.list().unwrap_or_default().into_iter().map(|model| model.name);
                return (command.len(), beginning_with(word, names));
            }
        }
        const PARAMETER: &str = "/set parameter ";
        if let Some(word) = line.strip_prefix(PARAMETER) {
            let names = Parameters::NAMES.iter().map(|name| format!("{name} "));
            return (PARAMETER.len(), beginning_with(word, names));
        }
        if line.starts_with('/') {
            return (0, beginning_with(line, COMPLETIONS.iter().map(|&command| command.to_owned())));
        }
        let at = line.rfind('@').filter(|&at| line[..at].chars().next_back().is_none_or(char::is_whitespace));
        match at {
            Some(at) => self.paths(&line[at + 1..]).map_or((line.len(), Vec::new()), |paths| (at + 1, paths)),
            None => (line.len(), Vec::new()),
        }
    }

    /// Paths that begin like this, between quotes where they have blanks.
    fn paths(&self, typed: &str) -> Option<Vec<String>> {
        let quoted = typed.strip_prefix('"');
        let path = quoted.unwrap_or(typed);
        if path.contains('"') || (quoted.is_none() && path.contains(char::is_whitespace)) {
            return None;
        }
        let (folder, name) = match path.rfind(['/', std::path::MAIN_SEPARATOR]) {
            Some(at) => path.split_at(at + 1),
            None => ("", path),
        };
        let real = match (folder.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ if folder.is_empty() => PathBuf::from("."),
            _ => PathBuf::from(folder),
        };
        let entries = std::fs::read_dir(real).ok()?.flatten().filter_map(|entry| {
            let found = entry.file_name().into_string().ok()?;
            let is_hidden = found.starts_with('.') && !name.starts_with('.');
            let is_folder = std::fs::metadata(entry.path()).is_ok_and(|facts| facts.is_dir());
            let end = if is_folder { "/" } else { "" };
            (!is_hidden && found.starts_with(name)).then(|| format!("{folder}{found}{end}"))
        });
        let mut paths: Vec<String> = entries.take(MAX_PATHS).collect();
        paths.sort();
        let quote = |path: String| {
            if quoted.is_none() && !path.contains(' ') {
                return path;
            }
            // Open behind a folder: there is more to come.
            let end = if path.ends_with('/') { "" } else { "\"" };
            format!("\"{path}{end}")
        };
        Some(paths.into_iter().map(quote).collect())
    }
}

fn beginning_with(word: &str, all: impl Iterator<Item = String>) -> Vec<String> {
    all.filter(|one| one.starts_with(word)).collect()
}

impl Completer for Completions {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.find(&line[..pos]);
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Completions {
    type Hint = String;
}

impl Highlighter for Completions {}

impl Validator for Completions {}

impl Helper for Completions {}

#[cfg(test)]
mod tests {
    use whit_hub::Config;

    use super::*;

    #[test]
    fn what_is_completed() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["notes.txt", "note two.txt", ".hidden", "sub/inner.md"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, "x").expect("a file");
        }
        let store = Store::open(Config::new(folder.path().join("home")));
        let completions = Completions::new(store, Some(folder.path().to_owned()));
        for (line, start, expected) in [
            ("/cl", 0, &["/clear"][..]),
            ("/show t", 0, &["/show template"]),
            ("/set parameter top", 15, &["top_k ", "top_p "]),
            ("/load x", 6, &[]),
            ("hello /cl", 9, &[]),
            ("say me@~/n", 10, &[]),
            ("@~/n", 1, &["\"~/note two.txt\"", "~/notes.txt"]),
            ("see @~/notes", 5, &["~/notes.txt"]),
            ("@~/s", 1, &["~/sub/"]),
            ("@~/", 1, &["\"~/note two.txt\"", "~/notes.txt", "~/sub/"]),
            ("@~/sub/", 1, &["~/sub/inner.md"]),
            ("@\"~/note t", 1, &["\"~/note two.txt\""]),
            ("@~/.h", 1, &["~/.hidden"]),
            ("@~/notes.txt what", 17, &[]),
        ] {
            let expected: Vec<String> = expected.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(completions.find(line), (start, expected), "{line}");
        }
    }
}
