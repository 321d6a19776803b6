//! Whit: shrink. Models from one form into another.
//!
//! Today: conversion of a Hugging Face model folder to a GGUF file ([`to_gguf`]) and back ([`to_folder`]). Both go through the
//! weights as a stream and hold no more than one tensor; what they write appears under its name when it is whole.
#![forbid(unsafe_code)]

mod convert;
mod error;

pub use convert::{Converted, Format, Progress, to_folder, to_gguf};
pub use error::ShrinkError;
