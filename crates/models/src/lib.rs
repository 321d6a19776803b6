//! Whit: models.
#![forbid(unsafe_code)]
