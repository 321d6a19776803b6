//! The program `whit`.
#![forbid(unsafe_code)]
fn main() {}
