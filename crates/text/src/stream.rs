//! Ids to text, one at a time, never half a character.
//!
//! Tokens are bytes, characters may need several tokens: the decoder holds back the beginning of a character until the
//! rest comes. At the end of a stream an unfinished character becomes U+FFFD, as does what can be no UTF-8 at all, by the
//! same rule as `String::from_utf8_lossy`.

use crate::TextError;
use crate::tokenizer::{DecodeOptions, Tokenizer};

/// A running decoding of one sequence.
///
/// ```
/// # use whit_text::{DecodeOptions, StreamDecoder, Tokenizer, VocabSpec};
/// let tokens: [&[u8]; 2] = ["Ã".as_bytes(), "©".as_bytes()];
/// let spec = VocabSpec { pre: Some("gpt-2"), ..VocabSpec::new("gpt2", tokens.into_iter()) };
/// let tokenizer = Tokenizer::new(spec)?;
/// let mut decoder = StreamDecoder::new(DecodeOptions::CONTINUATION);
/// let mut text = String::new();
/// decoder.push(&tokenizer, 0, &mut text)?;
/// assert_eq!(text, "");
/// decoder.push(&tokenizer, 1, &mut text)?;
/// assert_eq!(text, "é");
/// # Ok::<(), whit_text::TextError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    options: DecodeOptions,
    /// The beginning of a character; at most 3 bytes between calls.
    held: Vec<u8>,
    /// Nothing was shown yet: a space in front is the tokenizer's.
    at_start: bool,
    /// The token before.
    before: Option<u32>,
}

impl StreamDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new(options: DecodeOptions) -> Self {
        Self { options, held: Vec::with_capacity(64), at_start: true, before: None }
    }

    /// Takes the next token and appends to `out` what became readable.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) -> Result<(), TextError> {
        tokenizer.check(id)?;
        let control = tokenizer.is_control(id);
        if control && self.options.skip_special {
            return Ok(());
        }
        if tokenizer.repeats(self.before.replace(id), id) {
            return Ok(());
        }
        let start = self.held.len();
        tokenizer.token_bytes(id, &mut self.held)?;
        if self.at_start && self.held.len() > start && !control {
            self.at_start = false;
            if self.options.strip_space_prefix && tokenizer.has_space_prefix() && self.held[start] == b' ' {
                self.held.remove(start);
            }
        }
        self.release(out);
        Ok(())
    }

    /// Ends the stream: what is held back becomes U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if !self.held.is_empty() {
            out.push_str(&String::from_utf8_lossy(&self.held));
            self.held.clear();
        }
        self.at_start = true;
        self.before = None;
    }

    /// Whether the beginning of a character is held back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Moves all whole characters to `out`.
    fn release(&mut self, out: &mut String) {
        let mut done = 0;
        for chunk in self.held.utf8_chunks() {
            out.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let unfinished = done + invalid.len() == self.held.len() && is_beginning(invalid);
            if unfinished {
                break;
            }
            if !invalid.is_empty() {
                out.push('\u{fffd}');
                done += invalid.len();
            }
        }
        self.held.drain(..done);
    }
}

/// Whether more bytes could make a character of these, which alone are none.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::spec::VocabSpec;
    use proptest::prelude::*;

    /// Token n is byte n; 256 is a control token.
    fn bytes() -> Tokenizer {
        let mut texts: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
        texts.push("<s>".to_owned());
        texts.push("▁a".to_owned());
        let mut spec = VocabSpec::new("llama", texts.iter().map(|t| t.as_bytes()));
        spec.kinds = [vec![6; 256], vec![3, 1]].concat();
        Tokenizer::new(spec).unwrap()
    }

    #[test]
    fn holds_back_and_flushes() {
        let tokenizer = bytes();
        for (ids, pieces, rest) in [
            (vec![0xf0u32, 0x9f, 0x98, 0x80], vec!["", "", "", "😀"], ""),
            (vec![0x61, 0xc3], vec!["a", ""], "\u{fffd}"),
            (vec![0xc3, 0x61], vec!["", "\u{fffd}a"], ""),
            (vec![0xff, 256, 0x62], vec!["\u{fffd}", "", "b"], ""),
            (vec![256, 257, 257], vec!["", "a", " a"], ""),
            (vec![257, 256, 257], vec!["a", "", " a"], ""),
        ] {
            let mut decoder = StreamDecoder::new(DecodeOptions::TEXT);
            for (&id, expected) in ids.iter().zip(pieces) {
                let mut got = String::new();
                decoder.push(&tokenizer, id, &mut got).unwrap();
                assert_eq!(got, expected, "{ids:x?}");
            }
            let mut got = String::new();
            decoder.finish(&mut got);
            assert_eq!(got, rest, "{ids:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_as_from_utf8_lossy(ids in prop::collection::vec(0u32..256, 0..60)) {
            let tokenizer = bytes();
            let mut decoder = StreamDecoder::new(DecodeOptions::CONTINUATION);
            let mut got = String::new();
            for &id in &ids {
                decoder.push(&tokenizer, id, &mut got).unwrap();
                prop_assert!(decoder.held.len() <= 3);
            }
            decoder.finish(&mut got);
            let bytes: Vec<u8> = ids.iter().map(|&id| id as u8).collect();
            prop_assert_eq!(&got, &String::from_utf8_lossy(&bytes));
            prop_assert_eq!(&got, &tokenizer.decode(&ids, DecodeOptions::CONTINUATION).unwrap());
        }
    }
}
