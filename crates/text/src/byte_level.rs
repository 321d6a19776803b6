//! GPT-2's spelling of bytes as printable characters.
//!
//! Byte-level BPE vocabularies write each byte of a token as one character: printable Latin-1 bytes as themselves, the 68
//! others as U+0100, U+0101, .. in order (so that a space is `Ġ`). From `bytes_to_unicode` in OpenAI's GPT-2 encoder.

use std::sync::LazyLock;

/// Whether the byte is written as the character of the same number.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The character for each byte.
pub(crate) static CHAR_OF_BYTE: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut shifted = 0u32;
    let mut byte = 0usize;
    while byte < 256 {
        table[byte] = if is_plain(byte as u8) {
            byte as u8 as char
        } else {
            shifted += 1;
            match char::from_u32(0xff + shifted) {
                Some(c) => c,
                None => '\0',
            }
        };
        byte += 1;
    }
    table
};

/// The byte for each character below U+0144; `None` where no byte is written so.
static BYTE_OF_CHAR: LazyLock<[Option<u8>; 0x144]> = LazyLock::new(|| {
    let mut table = [None; 0x144];
    for byte in 0..=255u8 {
        table[CHAR_OF_BYTE[byte as usize] as usize] = Some(byte);
    }
    table
});

/// Appends the bytes that `text` spells. A text with any other character stands for itself, as Hugging Face's decoder has it.
pub(crate) fn decode_into(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if let Ok(text) = std::str::from_utf8(text) {
        let all = text.chars().all(|c| match BYTE_OF_CHAR.get(c as usize).copied().flatten() {
            Some(byte) => {
                out.push(byte);
                true
            }
            None => false,
        });
        if all {
            return;
        }
        out.truncate(start);
    }
    out.extend_from_slice(text);
}

/// Appends the spelling of `bytes`.
pub(crate) fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    let mut buffer = [0u8; 4];
    for &byte in bytes {
        out.extend_from_slice(CHAR_OF_BYTE[byte as usize].encode_utf8(&mut buffer).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_bytes_as_gpt2_does() {
        // From the published vocab.json of GPT-2: "Ġ" is a space, "Ċ" a newline, "Ń" byte 0xAD, "ÿ" itself.
        for (byte, c) in
            [(b' ', 'Ġ'), (b'\n', 'Ċ'), (b'\t', 'ĉ'), (0xad, 'Ń'), (0xff, 'ÿ'), (b'a', 'a'), (0, 'Ā')]
        {
            assert_eq!(CHAR_OF_BYTE[byte as usize], c);
        }
        let all: Vec<u8> = (0..=255).collect();
        let (mut spelled, mut back) = (Vec::new(), Vec::new());
        encode_into(&all, &mut spelled);
        decode_into(&spelled, &mut back);
        assert_eq!(back, all);
    }

    #[test]
    fn foreign_characters_stand_for_themselves() {
        let mut out = Vec::new();
        decode_into("Ġ日".as_bytes(), &mut out);
        assert_eq!(out, "Ġ日".as_bytes());
    }
}
