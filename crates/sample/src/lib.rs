//! Whit: sample.
#![forbid(unsafe_code)]
