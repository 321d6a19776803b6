//! Sentences, and words in capitals, counted by rule. The harness uses NLTK, whose Punkt model for sentences is trained.

/// What stands before a full stop that ends no sentence.
const ABBREVIATIONS: [&str; 26] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "inc", "ltd", "co", "corp", "e.g", "i.e",
    "u.s", "u.k", "a.m", "p.m", "no", "gen", "gov", "sen", "rep", "ph.d",
];

/// Sentences: what ends with a full stop, a question or an exclamation mark before white space, and what is left.
pub(super) fn n_sentences(text: &str) -> usize {
    let text = text.trim();
    let mut n = 0;
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let bare = word.trim_end_matches(['"', '\'', ')', ']', '}', '”', '’', '*']);
        let ends = match bare.chars().last() {
            Some('?' | '!') => true,
            Some('.') => {
                let before = bare.trim_end_matches('.').trim_start_matches(['"', '(', '[', '“', '\'']);
                let is_initial = before.chars().count() == 1 && before.chars().all(char::is_uppercase);
                let is_ellipsis = bare.ends_with("..");
                let goes_on = words.peek().is_some_and(|next| next.starts_with(char::is_lowercase));
                !(is_initial || ABBREVIATIONS.contains(&&*before.to_lowercase()) || is_ellipsis && goes_on)
            }
            _ => false,
        };
        if ends || words.peek().is_none() {
            n += 1;
        }
    }
    n
}

/// Words all of whose letters are capitals. Words are parted as the Penn Treebank parts them: `DON'T` is two, `U.S.` one.
pub(super) fn n_capital_words(text: &str) -> usize {
    let parts = text.split(|c: char| c.is_whitespace() || "?!,;:@#$%&()[]{}<>\"“”‘`*".contains(c));
    let pieces = parts.flat_map(|part| part.split("--")).flat_map(|part| part.split("..."));
    pieces.map(n_capitals_of).sum()
}

/// The same of a word and what is contracted with it.
fn n_capitals_of(word: &str) -> usize {
    const CONTRACTED: [&str; 7] = ["N'T", "'S", "'M", "'D", "'LL", "'RE", "'VE"];
    let ending = CONTRACTED.iter().find(|ending| word.len() > ending.len() && word.ends_with(*ending));
    let (word, n) = match ending {
        Some(ending) => (&word[..word.len() - ending.len()], 1),
        None => (word, 0),
    };
    n + usize::from(is_upper(word))
}

/// Whether a text has letters in capitals, and no others.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Whether a text has small letters, and no others.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As NLTK 3.9 counts them.
    #[test]
    fn plain_cases() {
        for (text, expected) in [
            ("One. Two! Three?", 3),
            ("Dr. Smith met Mrs. Jones. They spoke.", 2),
            ("It costs 3.50 dollars. Really.", 2),
            ("no end", 1),
            ("He said \"Stop.\" Then he left.", 2),
            ("", 0),
        ] {
            assert_eq!(n_sentences(text), expected, "{text}");
        }
        for (text, expected) in
            [("I SAID stop, NOW!", 3), ("WELL-KNOWN and A.B.", 2), ("DON'T go", 2), ("Nothing here 123", 0)]
        {
            assert_eq!(n_capital_words(text), expected, "{text}");
        }
    }
}
