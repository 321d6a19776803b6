//! Whit: text.
#![forbid(unsafe_code)]
