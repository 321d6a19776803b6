//! Whit: hub.
#![forbid(unsafe_code)]
