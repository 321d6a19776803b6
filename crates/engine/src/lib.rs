//! Whit: engine.
#![forbid(unsafe_code)]
