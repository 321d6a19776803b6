//! Whit: text. Tokenizers, the streaming detokenizer and chat templates.
//!
//! A [`Tokenizer`] is built from a [`VocabSpec`], the plain description that a file reader fills in; a [`ChatTemplate`] turns
//! messages into a prompt by the model's own Jinja, and [`Tokenizer::encode_prompt`] reads that prompt such that control
//! tokens come from the template alone, never from what a user wrote. A [`StreamDecoder`] turns ids back into text.
//!
//! Families: byte-level BPE (`gpt2`), SentencePiece BPE with byte fallback (`llama`), character BPE (`gemma4`), WordPiece
//! (`bert`). Left out: the unigram model, RWKV's tokenizer.
#![forbid(unsafe_code)]

mod bpe;
mod byte_level;
mod cache;
mod chat;
mod error;
mod hash;
mod pre;
mod spec;
mod special;
mod spm;
mod stream;
mod tokenizer;
mod vocab;
mod wordpiece;

pub use chat::{ChatInput, ChatTemplate, Message, Prompt, TemplateLimits, TemplateTokens};
pub use error::TextError;
pub use spec::{SpecialIds, TokenKind, VocabSpec};
pub use stream::StreamDecoder;
pub use tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
