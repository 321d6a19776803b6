//! Drafts out of the text itself (prompt lookup): where its last tokens stood before, what followed them may follow again.
//! Summaries, edits of code and answers from documents repeat much of their prompt.
//!
//! The text is searched backwards each time, some microseconds for a context of thousands of tokens: no index that would
//! have to follow it. After A. Saxena, <https://github.com/apoorvumang/prompt-lookup-decoding>.

/// Fewer tokens in common mean nothing.
const LEAST_COMMON: usize = 2;
/// More need not be counted.
const MOST_COMMON: usize = 16;

/// A place where the last tokens stood before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How many of the last tokens stand there.
    pub(super) n_common: usize,
    /// The place after them.
    pub(super) next: usize,
}

/// The place with the most tokens in common, the last of several.
pub(super) fn find(tokens: &[u32]) -> Option<Found> {
    let (last, before) = tokens.split_last()?;
    let mut best: Option<Found> = None;
    let mut end = before.len();
    while let Some(at) = before[..end].iter().rposition(|token| token == last) {
        let pairs = before[..at].iter().rev().zip(before.iter().rev()).take(MOST_COMMON - 1);
        let n_common = 1 + pairs.take_while(|(a, b)| a == b).count();
        if n_common >= best.map_or(LEAST_COMMON, |best| best.n_common + 1) {
            best = Some(Found { n_common, next: at + 1 });
        }
        if n_common == MOST_COMMON {
            break;
        }
        end = at;
    }
    best
}

/// Puts the `n` tokens that follow `found` into `draft`; where the text ends, it goes on with the draft itself.
pub(super) fn follow(tokens: &[u32], found: Found, n: usize, draft: &mut Vec<u32>) {
    for at in found.next..found.next + n {
        let token = tokens.get(at).or_else(|| draft.get(at - tokens.len())).copied();
        draft.extend(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_tokens() {
        /// Place, tokens in common, the three that are drafted.
        type Expected = Option<(usize, usize, [u32; 3])>;
        let cases: &[(&[u32], Expected)] = &[
            (&[], None),
            (&[1], None),
            (&[1, 2, 3], None),
            (&[1, 9, 2, 9], None), // one token in common
            (&[1, 2, 3, 4, 5, 1, 2], Some((2, 2, [3, 4, 5]))),
            (&[1, 2, 3, 1, 2, 4, 5, 6, 1, 2], Some((5, 2, [4, 5, 6]))), // the later of two
            (&[7, 1, 2, 3, 4, 5, 0, 1, 2, 8, 7, 1, 2], Some((3, 3, [3, 4, 5]))), // more in common
            (&[5, 5, 5], Some((2, 2, [5, 5, 5]))),                      // beyond the end of the text
            (&[1, 2, 1, 2, 1], Some((3, 3, [2, 1, 2]))),
        ];
        for (text, expected) in cases {
            let got = find(text).map(|found| {
                let mut draft = Vec::new();
                follow(text, found, 3, &mut draft);
                (found.next, found.n_common, <[u32; 3]>::try_from(draft).unwrap_or_default())
            });
            assert_eq!(got, *expected, "{text:?}");
        }
    }

    #[test]
    fn long_repetitions_end_the_search() {
        let text = vec![3; 1000];
        assert_eq!(find(&text), Some(Found { n_common: MOST_COMMON, next: 999 }));
    }
}
