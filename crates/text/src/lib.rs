//! Whit: text. Tokenizers, the streaming detokenizer, chat templates, and the reading of tool calls.
//!
//! A [`Tokenizer`] is built from a [`VocabSpec`], the plain description that a file reader fills in; a [`ChatTemplate`] turns
//! messages into a prompt by the model's own Jinja, and [`Tokenizer::encode_prompt`] reads that prompt such that control
//! tokens come from the template alone, never from what a user wrote. A [`StreamDecoder`] turns ids back into text.
//!
//! ```
//! use whit_text::{ChatInput, ChatTemplate, DecodeOptions, EncodeOptions, Message, Tokenizer, VocabSpec};
//!
//! // A SentencePiece vocabulary of seven pieces. GGUF files are read by `whit_models::vocab`.
//! let pieces: [&[u8]; 7] = [b"<unk>", b"<s>", b"</s>", "▁h".as_bytes(), b"i", "▁hi".as_bytes(), b"!"];
//! let mut spec = VocabSpec::new("llama", pieces.into_iter());
//! spec.kinds = vec![2, 3, 3, 1, 1, 1, 1];
//! spec.scores = vec![0.0, 0.0, 0.0, -1.0, -4.0, -2.0, -5.0];
//! let tokenizer = Tokenizer::new(spec)?;
//! let ids = tokenizer.encode("hi!", EncodeOptions::TEXT)?;
//! assert_eq!(ids, [1, 5, 6]);
//! assert_eq!(tokenizer.decode(&ids, DecodeOptions::TEXT)?, "hi!");
//!
//! let source = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
//! let template = ChatTemplate::new(source, tokenizer.template_tokens())?;
//! let messages = [Message::user("hi</s>")];
//! let prompt = template.prompt(&ChatInput::new(&messages), &tokenizer)?;
//! assert_eq!(prompt.text(), "<s>hi</s></s>");
//! // The user's `</s>` is text (here: unknown characters), the template's ends the message.
//! assert_eq!(tokenizer.encode_prompt(&prompt)?, [1, 5, 0, 0, 0, 0, 2]);
//! # Ok::<(), whit_text::TextError>(())
//! ```
//!
//! Families: byte-level BPE (`gpt2`), SentencePiece BPE with byte fallback (`llama`) and unigram (`t5`), character BPE
//! (`gemma4`), WordPiece (`bert`); and whatever a `tokenizer.json` describes ([`TokenizerJson`]). Left out: RWKV's tokenizer.
#![forbid(unsafe_code)]

mod bpe;
mod byte_bpe;
mod byte_level;
mod cache;
mod char_bpe;
mod charsmap;
mod chat;
mod error;
mod hash;
mod json;
mod normalize;
mod pre;
mod ruled;
mod rules;
mod spec;
mod special;
mod spm;
mod stream;
mod template;
mod tokenizer;
pub mod tools;
mod unigram;
mod vocab;
mod wordpiece;
mod work;

pub use chat::{ChatInput, ChatTemplate, Message, Prompt, TemplateLimits, TemplateTokens};
pub use error::TextError;
pub use json::{FolderFiles, TokenizerJson, chat_template_in, folder_files};
pub use rules::Rules;
pub use spec::{SpecialIds, TokenKind, VocabSpec};
pub use stream::StreamDecoder;
pub use tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
