//! Files in what the user says: `@notes.txt` stands for a file's name, and its text comes behind what is said.
//!
//! Only at the beginning of a word, so that addresses of mail stay what they are. `@@` is a plain `@`. Left out: images,
//! folders, and what is not text.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The most bytes of a file: more than small models read.
const MAX_BYTES: u64 = 1 << 20;
/// What may stand behind a path without belonging to it.
const PUNCTUATION: [char; 9] = ['.', ',', ';', ':', '?', '!', ')', ']', '\''];

/// A text with its files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attached {
    /// What the model is told.
    pub(super) text: String,
    /// The files in it, as they are named, and their bytes.
    pub(super) files: Vec<(String, usize)>,
}

/// Reads the files that a text names. `home` is what `~` means.
pub(super) fn attach(text: &str, home: Option<&Path>) -> Result<Attached, String> {
    let mut out = Attached::default();
    let mut contents: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    while let Some(at) = next(rest) {
        out.text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('@') {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            out.text.push('@');
            out.text.push_str(&after[..end]);
            rest = &after[end..];
            continue;
        }
        let Some((name, len)) = path(rest, home)? else {
            out.text.push('@');
            continue;
        };
        if !contents.iter().any(|(known, _)| *known == name) {
            contents.push((name.clone(), read(&name, &resolved(&name, home))?));
        }
        out.text.push_str(&name);
        rest = &rest[len..];
    }
    out.text.push_str(rest);
    for (name, content) in contents {
        // A fence that the content does not end.
        let longest = content.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        let end = if content.ends_with('\n') || content.is_empty() { "" } else { "\n" };
        out.text.push_str(&format!("\n\n{name}:\n{fence}\n{content}{end}{fence}"));
        out.files.push((name, content.len()));
    }
    Ok(out)
}

/// Where the next `@` stands that begins a word.
fn next(text: &str) -> Option<usize> {
    let begins = |at: usize| {
        text[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '['))
    };
    text.match_indices('@').map(|(at, _)| at).find(|&at| begins(at))
}

/// The path that a text begins with, and how much of the text it is; `None` where no file is meant.
fn path(text: &str, home: Option<&Path>) -> Result<Option<(String, usize)>, String> {
    if let Some(quote @ ('"' | '\'')) = text.chars().next() {
        let Some(end) = text[1..].find(quote) else {
            return Err(format!("the quote behind `@{quote}` is never closed"));
        };
        return Ok(Some((text[1..=end].to_owned(), end + 2)));
    }
    let word = text.split(char::is_whitespace).next().unwrap_or_default();
    let mut name = word;
    loop {
        if !name.is_empty() && resolved(name, home).is_file() {
            return Ok(Some((name.to_owned(), name.len())));
        }
        match name.strip_suffix(PUNCTUATION) {
            Some(shorter) => name = shorter,
            None => break,
        }
    }
    let word = word.trim_end_matches(PUNCTUATION);
    // `@someone` is not a file; `@some.file` was meant to be one.
    if word.contains(['/', '\\', '.']) {
        return Err(format!(
            "there is no file `{word}`; a name with blanks stands between quotes, @\"a name.txt\", and @@ is a plain @"
        ));
    }
    Ok(None)
}

/// The path that a name means.
fn resolved(name: &str, home: Option<&Path>) -> PathBuf {
    match (name.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}

fn read(name: &str, path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err(format!("{name} is a folder; name a file in it"));
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("{name} cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!(
            "{name} has more than {} KiB; give the part of it that matters",
            MAX_BYTES >> 10
        ));
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| format!("{name} is not text (UTF-8); convert it, or name another"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_behind_what_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("a file");
        file("notes.txt", b"one\ntwo");
        file("a name.md", b"```\ncode\n```\n");
        file("binary.dat", b"\0\x01");
        file("latin.txt", b"\xe9");
        file("large.txt", &vec![b'x'; (MAX_BYTES + 1) as usize]);
        let home = Some(folder.path());
        for (text, expected) in [
            ("hello", Ok("hello")),
            ("me@example.com and @someone", Ok("me@example.com and @someone")),
            ("what is in @~/notes.txt?", Ok("what is in ~/notes.txt?\n\n~/notes.txt:\n```\none\ntwo\n```")),
            (
                "(@~/notes.txt) @~/notes.txt",
                Ok("(~/notes.txt) ~/notes.txt\n\n~/notes.txt:\n```\none\ntwo\n```"),
            ),
            ("@\"~/a name.md\" twice", Ok("~/a name.md twice\n\n~/a name.md:\n````\n```\ncode\n```\n````")),
            ("@@~/notes.txt", Ok("@~/notes.txt")),
            ("@", Ok("@")),
            ("see @~/none.txt, please", Err("there is no file `~/none.txt`; a name")),
            ("@\"~/none", Err("never closed")),
            ("@\"~/none\"", Err("cannot be read")),
            ("@~/binary.dat", Err("is not text")),
            ("@~/latin.txt", Err("is not text")),
            ("@~/large.txt", Err("more than 1024 KiB")),
            ("@\"~/\"", Err("is a folder")),
        ] {
            match (attach(text, home), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.text, expected, "{text}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        let files = attach("@~/notes.txt", home).map(|attached| attached.files);
        assert_eq!(files, Ok(vec![("~/notes.txt".to_owned(), 7)]));
    }
}
