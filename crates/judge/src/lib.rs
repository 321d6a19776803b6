//! Whit: judge.
#![forbid(unsafe_code)]
