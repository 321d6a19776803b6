//! Whit: files.
